#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"
#include "tests/support/threads.h"

namespace ballast::test {

namespace {

enum class Bias { none, after_cap, before_cap };
enum class Sink { none, zero, learned };

struct Modes {
  double softcap = 0.0;
  Bias bias = Bias::none;
  int64_t window = 0;
  LocalKind local = LocalKind::window;
  Sink sink = Sink::none;
};

std::vector<Modes> all_modes() {
  struct Local {
    int64_t window;
    LocalKind kind;
  };
  std::vector<Modes> modes;
  for (const double cap : {0.0, 1.5}) {
    for (const Bias bias : {Bias::none, Bias::after_cap, Bias::before_cap}) {
      for (const Local local : {Local{0, LocalKind::window}, Local{1, LocalKind::window},
                                Local{3, LocalKind::window}, Local{4, LocalKind::chunk}}) {
        for (const Sink sink : {Sink::none, Sink::zero, Sink::learned}) {
          modes.push_back({cap, bias, local.window, local.kind, sink});
        }
      }
    }
  }
  return modes;
}

std::string name_of(const Modes& m) {
  static constexpr const char* kBias[] = {"", ", bias", ", bias before the cap"};
  static constexpr const char* kSink[] = {"", ", sink 0", ", sink"};
  return concat("cap ", m.softcap, kBias[static_cast<size_t>(m.bias)],
                m.local == LocalKind::chunk ? ", chunk " : ", window ", m.window,
                kSink[static_cast<size_t>(m.sink)]);
}

/// Declares what the modes learn: "bias" for n distances, "sink".
void declare_tables(ParameterStore& s, const Modes& m, int64_t h, int64_t n) {
  if (m.bias != Bias::none) s.add("bias", Shape{h, n}, Role::linear);
  if (m.sink == Sink::learned) s.add("sink", Shape{h}, Role::linear);
}

AttentionOptions options_of(Tape& tape, ParameterStore& s, const Modes& m, int64_t h, int64_t k,
                            int64_t hd) {
  AttentionOptions options;
  options.n_heads = h;
  options.n_kv_heads = k;
  options.head_dim = hd;
  options.scale = 0.7;
  options.softcap = m.softcap;
  if (m.bias != Bias::none) options.distance_bias = parameter(tape, s, "bias");
  options.bias_before_cap = m.bias == Bias::before_cap;
  options.window = m.window;
  options.local = m.local;
  options.has_sink = m.sink != Sink::none;
  if (m.sink == Sink::learned) options.sink = parameter(tape, s, "sink");
  return options;
}

/// An input of the same shape that no gradient reaches.
Var other_input(Tape& tape, Var x) {
  const Tensor from = tape.value(x);
  const Tensor to = tape.allocate(from.shape, from.dtype);
  for (int64_t i = 0; i < from.size(); ++i)
    to.data<double>()[i] = 0.1 * static_cast<double>(i % 17);
  return tape.constant(to);
}

/// The columns from `begin` on: the feed-forward's part of a parallel block's product.
struct Rest final : Node {
  Var x, y;
  int64_t begin = 0;

  const char* name() const override { return "rest"; }
  void forward(Tape& tape) override {
    const Tensor from = tape.value(x), to = tape.value(y);
    for (int64_t i = 0; i < to.size(); ++i) {
      to.data<double>()[i] = from.data<double>()[place(i, to.shape.back(), from.shape.back())];
    }
  }
  void backward(Tape& tape) override {
    const Tensor dy = tape.output_grad(y);
    const GradRef dx = tape.grad_columns(x, dy.shape.back());
    for (int64_t i = 0; i < dy.size(); ++i) {
      dx.data<double>()[place(i, dy.shape.back(), dx.tensor.shape.back())] = dy.data<double>()[i];
    }
  }
  int64_t place(int64_t i, int64_t width, int64_t stride) const {
    return i / width * stride + begin + i % width;
  }
};

Var rest(Tape& tape, Var x, int64_t begin) {
  auto& node = tape.make<Rest>();
  node.x = x;
  node.begin = begin;
  const Shape& in = tape.value(x).shape;
  node.y = tape.output(node, Shape{in[0], in[1], in[2] - begin}, {x});
  tape.run(node);
  return node.y;
}

}  // namespace

void add_attention_cases(GradcheckCases& cases) {
  struct Heads {
    int64_t h, k, hd, t;
  };
  for (const Heads z : {Heads{2, 2, 4, 5}, Heads{4, 2, 3, 7}, Heads{3, 1, 5, 6}, Heads{1, 1, 2, 1},
                        Heads{2, 1, 3, 70}}) {
    for (const double rate : {0.0, 0.3}) {
      cases.push_back({concat("causal_attention ", z.h, "/", z.k, " heads of ", z.hd, ", T ", z.t,
                              ", dropout ", rate),
                       [=](ParameterStore& s) {
                         s.add("qkv", Shape{2, z.t, (z.h + 2 * z.k) * z.hd}, Role::linear);
                       },
                       [=](Tape& tape, ParameterStore& s) {
                         AttentionOptions options;
                         options.n_heads = z.h;
                         options.n_kv_heads = z.k;
                         options.head_dim = z.hd;
                         options.scale = 0.7;
                         options.dropout = {.rate = rate, .seed = 5, .step = 3, .site = 9};
                         return causal_attention(tape, parameter(tape, s, "qkv"), options);
                       }});
    }
  }
  for (const Modes& m : all_modes()) {
    cases.push_back({concat("causal_attention, ", name_of(m)),
                     [=](ParameterStore& s) {
                       s.add("qkv", Shape{2, 7, 8 * 2}, Role::linear);
                       declare_tables(s, m, 4, 7);
                     },
                     [=](Tape& tape, ParameterStore& s) {
                       return causal_attention(tape, parameter(tape, s, "qkv"),
                                               options_of(tape, s, m, 4, 2, 2));
                     }});
  }
  for (const double rate : {0.0, 0.3}) {
    for (const int64_t layers : {1, 2}) {
      const Modes m{1.5, Bias::before_cap, 70, LocalKind::window, Sink::learned};
      cases.push_back({concat("causal_attention over tiles, ", name_of(m), ", dropout ", rate, ", ",
                              layers, " layers"),
                       [=](ParameterStore& s) {
                         s.add("qkv", Shape{1, 150, 3 * 2}, Role::linear);
                         declare_tables(s, m, 1, 80);
                       },
                       [=](Tape& tape, ParameterStore& s) {
                         AttentionOptions options = options_of(tape, s, m, 1, 1, 2);
                         options.dropout = {.rate = rate, .seed = 5, .step = 3, .site = 9};
                         const Var qkv = parameter(tape, s, "qkv");
                         const Var y = causal_attention(tape, qkv, options);
                         // A second layer that shares the bias and the sink, but not its input.
                         return layers == 1
                                    ? y
                                    : add(tape, y,
                                          causal_attention(tape, other_input(tape, qkv), options));
                       }});
    }
  }
}

TEST_CASE("causal_attention never looks ahead and starts with the first value",
          "[autograd][attention]") {
  ParameterStore store;
  Parameter& qkv = store.add("qkv", Shape{1, 3, 6}, Role::linear);
  store.allocate(Dtype::f64);
  fill_normal(store, 2);
  AttentionOptions options;
  options.n_heads = options.n_kv_heads = 1;
  options.head_dim = 2;
  const auto run_once = [&] {
    Tape tape(Dtype::f64);
    const Var y = causal_attention(tape, tape.parameter(store, qkv), options);
    const double* d = tape.value(y).data<double>();
    return std::vector<double>(d, d + 6);
  };
  const auto before = run_once();
  double* x = qkv.value.data<double>();
  CHECK(before[0] == Approx(x[4]));
  CHECK(before[1] == Approx(x[5]));
  for (int i = 12; i < 18; ++i) x[i] += 10.0;
  const auto after = run_once();
  for (size_t i = 0; i < 4; ++i) CHECK(before[i] == after[i]);
  CHECK(before[4] != after[4]);
}

TEST_CASE("causal_attention names heads that do not fit", "[autograd][attention]") {
  double x[12] = {};
  Tape tape(Dtype::f64);
  const Var qkv = tape.constant({x, Shape{1, 2, 6}, Dtype::f64});
  AttentionOptions options;
  options.n_heads = 3;
  options.n_kv_heads = 2;
  options.head_dim = 1;
  CHECK_THROWS_WITH(causal_attention(tape, qkv, options),
                    ContainsSubstring("2 key-value heads do not divide 3 heads"));
  options.n_kv_heads = 3;
  CHECK_THROWS_WITH(causal_attention(tape, qkv, options), ContainsSubstring("need 9"));
}

TEST_CASE("causal_attention names tables that do not fit", "[autograd][attention]") {
  double x[12] = {};
  Tape tape(Dtype::f64);
  const Var qkv = tape.constant({x, Shape{1, 2, 6}, Dtype::f64});
  AttentionOptions options;
  options.n_heads = options.n_kv_heads = 2;
  options.head_dim = 1;
  SECTION("a bias of other heads") {
    options.distance_bias = tape.constant({x, Shape{3, 2}, Dtype::f64});
    CHECK_THROWS_WITH(causal_attention(tape, qkv, options),
                      "[causal_attention] distance_bias is (3, 2); expected (2, distances)");
  }
  SECTION("a bias that ends too early") {
    options.distance_bias = tape.constant({x, Shape{2, 1}, Dtype::f64});
    CHECK_THROWS_WITH(causal_attention(tape, qkv, options),
                      ContainsSubstring("a bias of 1 distances for 2"));
    options.window = 1;
    CHECK_NOTHROW(causal_attention(tape, qkv, options));
  }
  SECTION("a sink of other heads") {
    options.has_sink = true;
    options.sink = tape.constant({x, Shape{3}, Dtype::f64});
    CHECK_THROWS_WITH(causal_attention(tape, qkv, options), ContainsSubstring("sink is (3"));
  }
  SECTION("a sink that nobody asked for") {
    options.sink = tape.constant({x, Shape{2}, Dtype::f64});
    CHECK_THROWS_WITH(causal_attention(tape, qkv, options), ContainsSubstring("has_sink is false"));
  }
}

TEST_CASE("causal_attention reads the first columns of wider rows and writes their gradients only",
          "[autograd][attention]") {
  constexpr int64_t kUsed = 8, kWidth = 13;
  const Modes m{1.5, Bias::after_cap, 3, LocalKind::window, Sink::learned};
  ParameterStore store;
  store.add("a", Shape{2, 5, kWidth}, Role::linear);
  declare_tables(store, m, 2, 5);
  store.allocate(Dtype::f64);
  fill_normal(store, 3);
  const auto with_rest = [&](Tape& tape) {
    const Var wide = activation(tape, parameter(tape, store, "a"), ActivationKind::silu);
    const Var attended = causal_attention(tape, wide, options_of(tape, store, m, 2, 1, 2));
    return add(tape, to_scalar(tape, attended), to_scalar(tape, rest(tape, wide, kUsed)));
  };
  const WithThreads one(1);
  const GradcheckReport report = gradcheck(store, with_rest);
  INFO(report.tensor << "[" << report.entry << "] " << report.analytic << " " << report.numeric);
  CHECK(report.passed);

  // The same numbers in rows of just those columns.
  Tape tape(Dtype::f64);
  const Var wide = parameter(tape, store, "a");
  const AttentionOptions options = options_of(tape, store, m, 2, 1, 2);
  std::vector<double> narrow;
  for (int64_t i = 0; i < 10 * kWidth; ++i) {
    if (i % kWidth < kUsed) narrow.push_back(tape.value(wide).data<double>()[i]);
  }
  const Var qkv = tape.constant({narrow.data(), Shape{2, 5, kUsed}, Dtype::f64});
  const Tensor got = tape.value(causal_attention(tape, wide, options));
  const Tensor want = tape.value(causal_attention(tape, qkv, options));
  for (int64_t i = 0; i < want.size(); ++i) CHECK(got.data<double>()[i] == want.data<double>()[i]);
}

TEST_CASE("a bias and a sink get their gradients where nothing else needs one",
          "[autograd][attention]") {
  const Modes m{0.0, Bias::after_cap, 0, LocalKind::window, Sink::learned};
  ParameterStore store;
  declare_tables(store, m, 2, 5);
  store.allocate(Dtype::f64);
  fill_normal(store, 4);
  std::vector<double> x(5 * 12);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
  const GradcheckReport report = gradcheck(store, [&](Tape& tape) {
    const Var qkv = tape.constant({x.data(), Shape{1, 5, 12}, Dtype::f64});
    return to_scalar(tape, causal_attention(tape, qkv, options_of(tape, store, m, 2, 2, 2)));
  });
  CHECK(report.passed);
}

namespace {

struct CachedRun {
  double error =
      0.0;  ///< largest difference from the whole sequence at once, over its largest value
  int64_t length = 0;
};

/// One sequence in pieces over a cache of `capacity` rows.
template <class T>
CachedRun run_cached(const Modes& m, const std::vector<int64_t>& pieces, int64_t capacity) {
  constexpr int64_t H = 4, K = 2, hd = 6, W = (H + 2 * K) * hd + 5;
  constexpr Dtype dtype = sizeof(T) == 4 ? Dtype::f32 : Dtype::f64;
  const WithThreads one(1);  // hundreds of tiny calls
  int64_t n = 0;
  for (const int64_t piece : pieces) n += piece;
  ParameterStore store;
  store.add("x", Shape{1, n, W}, Role::linear);
  declare_tables(store, m, H, n);
  store.allocate(dtype);
  fill_normal(store, 6);
  T* x = store.find("x")->value.data<T>();
  Tape tape(dtype);
  tape.set_recording(false);
  const Tensor whole = tape.value(
      causal_attention(tape, parameter(tape, store, "x"), options_of(tape, store, m, H, K, hd)));
  double size = 0.0;
  for (int64_t i = 0; i < whole.size(); ++i) {
    size = std::max(size, std::fabs(static_cast<double>(whole.data<T>()[i])));
  }

  std::vector<T> keys(static_cast<size_t>(capacity * K * hd), std::numeric_limits<T>::quiet_NaN());
  std::vector<T> values = keys;
  const Shape shape{capacity, K * hd};
  KvCache cache{{keys.data(), shape, dtype}, {values.data(), shape, dtype}, 0};
  CachedRun result;
  int64_t t = 0;
  for (const int64_t piece : pieces) {
    AttentionOptions options = options_of(tape, store, m, H, K, hd);
    options.cache = &cache;
    const Var rows = tape.constant({x + t * W, Shape{1, piece, W}, dtype});
    const Tensor part = tape.value(causal_attention(tape, rows, options));
    for (int64_t i = 0; i < part.size(); ++i) {
      const double error = std::fabs(static_cast<double>(part.data<T>()[i]) -
                                     static_cast<double>(whole.data<T>()[t * H * hd + i])) /
                           size;
      result.error = error <= result.error ? result.error : error;  // a NaN stays
    }
    t += piece;
  }
  result.length = cache.length;
  return result;
}

std::vector<int64_t> pieces_of(int64_t prompt, int64_t others, int64_t size) {
  std::vector<int64_t> pieces{prompt};
  for (int64_t t = 0; t < others; t += size) pieces.push_back(std::min(size, others - t));
  return pieces;
}

}  // namespace

TEMPLATE_TEST_CASE("causal_attention over a ring equals that over the whole sequence",
                   "[autograd][attention]", float, double) {
  const int64_t window = GENERATE(1, 5, 64, 100);
  const LocalKind local = GENERATE(LocalKind::window, LocalKind::chunk);
  const int64_t room = GENERATE(0, 3);
  const int64_t prompt = GENERATE(1, 4, 70, 230);
  const int64_t step = GENERATE(1, 3, 90);
  CAPTURE(window, static_cast<int>(local), room, prompt, step);
  // Sums of at most 320 terms near 1, twice: 2 * 320 roundings of 2^-24 would be 4e-5, and they do
  // not all point the same way.
  const double allowed = sizeof(TestType) == 4 ? 1e-5 : 1e-13;
  for (const Modes& m : {Modes{0.0, Bias::none, window, local, Sink::none},
                         Modes{1.5, Bias::before_cap, window, local, Sink::learned},
                         Modes{1.5, Bias::after_cap, window, local, Sink::zero}}) {
    const CachedRun r = run_cached<TestType>(m, pieces_of(prompt, 90, step), window + room);
    INFO(name_of(m));
    CHECK(r.error <= allowed);
    CHECK(r.length == prompt + 90);
  }
}

TEMPLATE_TEST_CASE("causal_attention over a cache of all positions equals that over the sequence",
                   "[autograd][attention]", float, double) {
  const int64_t prompt = GENERATE(1, 70);
  const int64_t step = GENERATE(1, 7, 90);
  CAPTURE(prompt, step);
  for (const Modes& m : all_modes()) {
    const CachedRun r = run_cached<TestType>(m, pieces_of(prompt, 90, step), prompt + 90);
    INFO(name_of(m));
    CHECK(r.error <= (sizeof(TestType) == 4 ? 1e-5 : 1e-13));
    CHECK(r.length == prompt + 90);
  }
}

TEST_CASE("causal_attention refuses a cache that cannot hold what is seen",
          "[autograd][attention]") {
  const Modes full;
  CHECK_NOTHROW(run_cached<float>(full, {3, 1}, 4));
  CHECK_THROWS_WITH(run_cached<float>(full, {3, 1}, 3),
                    ContainsSubstring("4 positions do not fit into a cache of 3"));
  Modes local;
  local.window = 5;
  CHECK_NOTHROW(run_cached<float>(local, {4}, 4));
  CHECK_THROWS_WITH(run_cached<float>(local, {4, 1}, 4),
                    ContainsSubstring("a cache of 4, which is shorter than the window"));
}

}  // namespace ballast::test
