#include "layers/init.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "core/parallel.h"
#include "core/random.h"
#include "tests/support/catch.h"

namespace ballast {

namespace {

constexpr uint64_t kSeed = 1337;

ModelConfig small_model() {
  ModelConfig c;
  c.d_model = 40;
  c.n_layers = 8;
  c.n_heads = 4;
  return c;
}

// The values of one parameter alone in its store.
std::vector<double> values_of(const ModelConfig& c, const std::string& name, Shape shape,
                              Role role = Role::linear, bool ends_branch = false,
                              uint64_t seed = kSeed) {
  ParameterStore store;
  const Parameter& p = store.add(name, shape, role, ends_branch);
  store.allocate(Dtype::f64, false);
  initialise(c, store, seed);
  return {p.value.data<double>(), p.value.data<double>() + p.value.size()};
}

struct Moments {
  double mean = 0.0, std = 0.0, kurtosis = 0.0;
};

Moments moments(const std::vector<double>& x) {
  const auto n = static_cast<double>(x.size());
  Moments m;
  double square = 0.0;
  double fourth = 0.0;
  for (const double v : x) m.mean += v / n;
  for (const double v : x) square += (v - m.mean) * (v - m.mean) / n;
  for (const double v : x) fourth += std::pow(v - m.mean, 4) / n;
  m.std = std::sqrt(square);
  m.kurtosis = fourth / (square * square);
  return m;
}

// The deviation of many values, known to 4 standard errors.
auto has_std(double std, int64_t n) {
  return Approx(std).epsilon(4.0 / std::sqrt(2.0 * static_cast<double>(n)));
}

double distribution(double z) {
  return 0.5 * std::erfc(-z / std::numbers::sqrt2);
}

}  // namespace

TEST_CASE("initial weights are normal", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.std = 0.5;
  std::vector<double> x = values_of(c, "w", {512, 384});
  const auto n = static_cast<double>(x.size());
  // All bounds are 4 standard errors of the estimate for independent normal numbers.
  const Moments m = moments(x);
  CHECK(std::abs(m.mean) < 4.0 * 0.5 / std::sqrt(n));
  CHECK(m.std == has_std(0.5, 512 * 384));
  CHECK(m.kurtosis == Approx(3.0).margin(4.0 * std::sqrt(24.0 / n)));
  for (const size_t lag : {1, 2, 3, 4, 384}) {
    double product = 0.0;
    double squares = 0.0;  // of a pair made from one radius, the squares are independent too
    for (size_t i = lag; i < x.size(); ++i) {
      product += x[i] * x[i - lag] / 0.25;
      squares += (x[i] * x[i] / 0.25 - 1.0) * (x[i - lag] * x[i - lag] / 0.25 - 1.0);
    }
    CAPTURE(lag);
    CHECK(std::abs(product) < 4.0 * std::sqrt(n));
    CHECK(std::abs(squares) < 4.0 * 2.0 * std::sqrt(n));
  }
  // Kolmogorov and Smirnov: sqrt(n) D exceeds 1.95 once in a thousand.
  std::sort(x.begin(), x.end());
  double distance = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double f = distribution(x[i] / 0.5);
    distance = std::max({distance, std::abs(f - static_cast<double>(i) / n),
                         std::abs(f - static_cast<double>(i + 1) / n)});
  }
  CHECK(std::sqrt(n) * distance < 1.95);
}

TEST_CASE("initial weights are box and muller's transform of philox's bits", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.std = 1.0;
  const std::string name = "blocks.0.attn.wq.weight";
  const std::vector<double> x = values_of(c, name, {301, 7});
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto bits = Philox::block(kSeed, hash_name(name), i / 4);
    const size_t pair = i % 4 / 2 * 2;
    const double radius = std::sqrt(-2.0 * std::log((bits[pair] + 0.5) * 0x1p-32));
    const double angle = 2.0 * std::numbers::pi * (bits[pair + 1] * 0x1p-32);
    const double exact = radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    // A large radius is known to a few units of float. A small one comes from u near 1, which a
    // float rounds by 2^-25 at most: an error of 2^-25 / radius.
    const double tolerance = radius * 0x1p-21 + 0x1p-24 / radius;
    worst = std::max(worst, std::abs(x[i] - exact) / tolerance);
  }
  CHECK(worst < 1.0);
}

TEST_CASE("each scheme gives linear weights its standard deviation", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.std = 0.03;
  const int64_t out = 400;
  const int64_t in = 250;
  const auto std_of = [&](InitScheme scheme) {
    c.init.scheme = scheme;
    return moments(values_of(c, "w", {out, in})).std;
  };
  CHECK(std_of(InitScheme::normal) == has_std(0.03, out * in));
  CHECK(std_of(InitScheme::fan_in) == has_std(1.0 / std::sqrt(250.0), out * in));
  CHECK(std_of(InitScheme::xavier) == has_std(std::sqrt(2.0 / 650.0), out * in));
  CHECK(std_of(InitScheme::small) == has_std(0.1, out * in));  // sqrt(2 / (5 * 40))
}

TEST_CASE("an untied head follows the scheme, embeddings take embedding_std or std",
          "[layers][init]") {
  ModelConfig c = small_model();
  c.init.scheme = InitScheme::fan_in;
  const Shape shape{500, 400};
  const int64_t n = shape.size();
  CHECK(moments(values_of(c, "head", shape, Role::head)).std == has_std(0.05, n));
  const Role role = GENERATE(Role::embedding, Role::position);
  CHECK(moments(values_of(c, "e", shape, role)).std == has_std(0.02, n));
  c.init.embedding_std = 0.7;
  CHECK(moments(values_of(c, "e", shape, role)).std == has_std(0.7, n));
}

TEST_CASE("depth_scale divides what ends a branch by sqrt(2 n_layers)", "[layers][init]") {
  ModelConfig c = small_model();  // 8 layers: divided by 4
  const std::vector<double> whole = values_of(c, "w", {20, 30});
  const std::vector<double> scaled = values_of(c, "w", {20, 30}, Role::linear, true);
  c.init.depth_scale = false;
  const std::vector<double> unscaled = values_of(c, "w", {20, 30}, Role::linear, true);
  CHECK(unscaled == whole);
  for (size_t i = 0; i < whole.size(); ++i) CHECK(scaled[i] == Approx(whole[i] / 4).epsilon(1e-14));
}

TEST_CASE("joined matrices take the deviation of their own shape", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.scheme = InitScheme::xavier;
  ParameterStore store;
  const ParameterStore::Declaration parts[] = {{"wq", {200, 100}}, {"wk", {50, 100}}};
  const JoinedParameter joined = store.add_joined(parts, Role::linear);
  store.allocate(Dtype::f64, false);
  initialise(c, store, kSeed);
  for (const Parameter* p : joined.parts) {
    const double* x = p->value.data<double>();
    CHECK(std::vector<double>(x, x + p->value.size()) == values_of(c, p->name, p->shape));
  }
  CHECK(initial_std(c, *joined.parts[0]) == Approx(std::sqrt(2.0 / 300.0)));
  CHECK(initial_std(c, *joined.parts[1]) == Approx(std::sqrt(2.0 / 150.0)));
}

TEST_CASE("gains start at 1, offsets and biases at 0", "[layers][init]") {
  const ModelConfig c = small_model();
  CHECK(values_of(c, "n", {5}, Role::norm) == std::vector<double>(5, 1.0));
  CHECK(values_of(c, "n", {5}, Role::offset) == std::vector<double>(5, 0.0));
  CHECK(values_of(c, "b", {5}, Role::bias) == std::vector<double>(5, 0.0));
}

TEST_CASE("a std of 0 gives zeros", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.std = 0.0;
  CHECK(values_of(c, "w", {2, 3}) == std::vector<double>(6, 0.0));
}

TEST_CASE("trunc draws again what lies beyond, and nothing else", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.std = 2.0;
  const std::vector<double> free = values_of(c, "w", {300, 333});
  const double trunc = GENERATE(0.5, 2.0, 3.0);
  c.init.trunc = trunc;
  const std::vector<double> bounded = values_of(c, "w", {300, 333});
  size_t redrawn = 0;
  for (size_t i = 0; i < free.size(); ++i) {
    if (std::abs(free[i]) > 2.0 * trunc) {
      ++redrawn;
    } else if (bounded[i] != free[i]) {
      FAIL("element " << i << " lies within the bound and changed");
    }
  }
  const auto n = static_cast<double>(free.size());
  const double beyond = 2.0 * distribution(-trunc);
  CHECK(static_cast<double>(redrawn) ==
        Approx(n * beyond).margin(4.0 * std::sqrt(n * beyond * (1.0 - beyond))));
  CHECK(*std::max_element(bounded.begin(), bounded.end()) <= 2.0 * trunc);
  CHECK(*std::min_element(bounded.begin(), bounded.end()) >= -2.0 * trunc);
  // Variance of the truncated normal: 1 - 2 t phi(t) / (1 - beyond).
  const double density = std::exp(-0.5 * trunc * trunc) / std::sqrt(2.0 * std::numbers::pi);
  const double variance = 1.0 - 2.0 * trunc * density / (1.0 - beyond);
  // Its kurtosis is below a normal's, so a normal's standard error bounds its own.
  CHECK(moments(bounded).std == has_std(2.0 * std::sqrt(variance), 300 * 333));
}

TEST_CASE("numbers drawn again are normal within the bound too", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.std = 1.0;
  const std::vector<double> free = values_of(c, "w", {400, 500});
  c.init.trunc = 1.0;
  const std::vector<double> bounded = values_of(c, "w", {400, 500});
  std::vector<double> redrawn;
  for (size_t i = 0; i < free.size(); ++i) {
    if (std::abs(free[i]) > 1.0) redrawn.push_back(bounded[i]);
  }
  std::sort(redrawn.begin(), redrawn.end());
  const auto n = static_cast<double>(redrawn.size());
  REQUIRE(n > 60000);
  double distance = 0.0;
  for (size_t i = 0; i < redrawn.size(); ++i) {
    const double f =
        (distribution(redrawn[i]) - distribution(-1.0)) / (1.0 - 2.0 * distribution(-1.0));
    distance = std::max({distance, std::abs(f - static_cast<double>(i) / n),
                         std::abs(f - static_cast<double>(i + 1) / n)});
  }
  CHECK(std::sqrt(n) * distance < 1.95);
}

TEST_CASE("a tensor's values depend on seed, name and shape alone", "[layers][init]") {
  const ModelConfig c = small_model();
  const std::vector<double> alone = values_of(c, "b", {33, 9});
  ParameterStore store;
  store.add("a", {7, 5}, Role::linear);
  const Parameter& among = store.add("b", {33, 9}, Role::linear);
  store.add("c", {64, 64}, Role::embedding);
  store.allocate(Dtype::f64, false);
  initialise(c, store, kSeed);
  const double* x = among.value.data<double>();
  CHECK(std::vector<double>(x, x + among.value.size()) == alone);
  CHECK(values_of(c, "c", {33, 9}) != alone);
  CHECK(values_of(c, "b", {33, 9}, Role::linear, false, kSeed + 1) != alone);
}

TEST_CASE("initial values have the same bits for every number of threads", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.trunc = GENERATE(std::optional<double>(), std::optional<double>(1.5));
  const int before = n_threads();
  set_n_threads(1);
  const std::vector<double> one = values_of(c, "w", {257, 129});
  for (const int threads : {2, 3, 4}) {
    set_n_threads(threads);
    CHECK(values_of(c, "w", {257, 129}) == one);
  }
  set_n_threads(before);
}

TEST_CASE("initial values in float are those in double, rounded", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.scheme = InitScheme::fan_in;
  c.init.trunc = 2.5;
  const std::vector<double> expected = values_of(c, "w", {65, 37});
  ParameterStore store;
  const Parameter& p = store.add("w", {65, 37}, Role::linear);
  store.allocate(Dtype::f32, false);
  initialise(c, store, kSeed);
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(p.value.data<float>()[i] == static_cast<float>(expected[i]));
  }
}

TEST_CASE("a bound that would be drawn for without end is refused", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.trunc = GENERATE(0.0, -1.0, 0.01, std::nan(""));
  CHECK_THROWS_WITH(validate(c), ContainsSubstring("model.init.trunc = "));
  CHECK_THROWS_WITH(values_of(c, "w", {2, 2}), ContainsSubstring("[initialise] trunc = "));
}

TEST_CASE("negative standard deviations are refused", "[layers][init]") {
  ModelConfig c = small_model();
  c.init.std = -0.1;
  CHECK_THROWS_WITH(validate(c), ContainsSubstring("model.init.std = -0.1"));
  c.init.std = 0.02;
  c.init.embedding_std = -1.0;
  CHECK_THROWS_WITH(validate(c), ContainsSubstring("model.init.embedding_std = -1"));
}

}  // namespace ballast
