#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"
#include "tests/support/reference.h"

namespace ballast::test {

namespace {

// Four query heads and two key-value heads of three channels, five columns behind them.
constexpr int64_t kH = 4, kK = 2, kD = 3, kW = (kH + 2 * kK) * kD + 5;

struct Variant {
  std::string name;
  QkNormOptions options;
  bool has_gain = false;
  bool has_shift = false;

  int64_t size(int64_t heads) const { return options.full || options.separate ? heads * kD : kD; }
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  const QkNormOptions sizes{.n_heads = kH, .n_kv_heads = kK, .head_dim = kD, .eps = 1e-5};
  for (const bool v : {false, true}) {
    for (const bool is_centred : {false, true}) {
      for (const char* gains : {"per_head", "separate", "full"}) {
        QkNormOptions o = sizes;
        o.is_centred = is_centred;
        o.v = v;
        o.separate = std::string(gains) == "separate";
        o.full = std::string(gains) == "full";
        const std::string name =
            concat(is_centred ? "layernorm " : "rmsnorm ", gains, v ? " v" : "");
        all.push_back({name + " without gain", o});
        all.push_back({name, o, true, is_centred});
        o.unit_offset = true;
        all.push_back({name + " unit_offset", o, true, false});
      }
    }
  }
  return all;
}

void declare(ParameterStore& s, const Variant& variant, const Shape& shape) {
  s.add("x", shape, Role::linear);
  for (const char* name : {"q", "k", "v"}) {
    if (name[0] == 'v' && !variant.options.v) continue;
    const int64_t n = variant.size(name[0] == 'q' ? kH : kK);
    if (variant.has_gain) s.add(concat(name, ".weight"), Shape{n}, Role::norm);
    if (variant.has_shift) s.add(concat(name, ".bias"), Shape{n}, Role::bias);
  }
}

Var record(Tape& tape, ParameterStore& s, const Variant& variant, Var x) {
  const auto of = [&](const std::string& name) {
    Parameter* p = s.find(name);
    return p != nullptr ? tape.parameter(s, *p) : Var{};
  };
  return qk_norm(tape, x, {of("q.weight"), of("q.bias")}, {of("k.weight"), of("k.bias")},
                 {of("v.weight"), of("v.bias")}, variant.options);
}

// The same from the reference's norms, one projection after the other.
reference::Values expected(ParameterStore& s, const Variant& variant) {
  const auto values = [&](const std::string& name) {
    Parameter* p = s.find(name);
    reference::Values result;
    for (int64_t i = 0; p != nullptr && i < p->value.size(); ++i) {
      dispatch(s.dtype(),
               [&]<class T>() { result.push_back(static_cast<double>(p->value.data<T>()[i])); });
    }
    return result;
  };
  const QkNormOptions& o = variant.options;
  reference::Values y = values("x");
  const auto normalise = [&](const std::string& name, int64_t begin, int64_t heads) {
    y = reference::head_norm(y, kW, begin, o.full ? 1 : heads, o.full ? heads * kD : kD,
                             o.is_centred, values(name + ".weight"), values(name + ".bias"), o.eps,
                             o.unit_offset);
  };
  normalise("q", 0, kH);
  normalise("k", kH * kD, kK);
  if (o.v) normalise("v", (kH + kK) * kD, kK);
  return y;
}

}  // namespace

void add_qk_norm_cases(GradcheckCases& cases) {
  for (const Variant& variant : variants()) {
    cases.push_back({"qk_norm " + variant.name,
                     [=](ParameterStore& s) {
                       declare(s, variant, Shape{2, 3, kW});
                     },
                     [=](Tape& tape, ParameterStore& s) {
                       // In the memory of a value that nobody else reads.
                       const Var x =
                           activation(tape, parameter(tape, s, "x"), ActivationKind::identity);
                       return record(tape, s, variant, x);
                     }});
  }
  const Variant variant = variants()[1];
  cases.push_back({"qk_norm of a value that another operation reads, and of many rows",
                   [=](ParameterStore& s) {
                     declare(s, variant, Shape{1, 70, kW});
                   },
                   [=](Tape& tape, ParameterStore& s) {
                     const Var x = parameter(tape, s, "x");
                     return add(tape, x, record(tape, s, variant, x));
                   }});
}

TEST_CASE("qk_norm matches plain maths in double and in float, recorded or not",
          "[autograd][qk_norm]") {
  for (const Variant& variant : variants()) {
    for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
      for (const bool recording : {true, false}) {
        ParameterStore store;
        declare(store, variant, Shape{2, 3, kW});
        store.allocate(dtype);
        fill_normal(store, 5);
        Tape tape(dtype);
        tape.set_recording(recording);
        const Var x = activation(tape, parameter(tape, store, "x"), ActivationKind::identity);
        const Tensor y = tape.value(record(tape, store, variant, x));
        const reference::Values want = expected(store, variant);
        double worst = 0.0;
        for (int64_t i = 0; i < y.size(); ++i) {
          const double value =
              dispatch(dtype, [&]<class T>() { return static_cast<double>(y.data<T>()[i]); });
          worst = std::max(worst, std::abs(value - want[static_cast<size_t>(i)]) /
                                      std::max(1.0, std::abs(want[static_cast<size_t>(i)])));
        }
        INFO(variant.name << " as " << name_of(dtype) << ", recording " << recording);
        // Sums of up to 12 terms and a handful of operations, on values up to about 4.
        CHECK(worst <= 24.0 * (dtype == Dtype::f64 ? 0x1p-53 : 0x1p-24) * 4.0);
      }
    }
  }
}

TEST_CASE("qk_norm gives float gradients within rounding of double's", "[autograd][qk_norm]") {
  for (const Variant& variant : variants()) {
    std::vector<std::vector<double>> gradients;
    for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
      ParameterStore store;
      declare(store, variant, Shape{1, 70, kW});
      store.allocate(dtype);
      fill_normal(store, 5);
      for (Parameter& p : store.parameters()) {  // the same values in both types
        if (dtype == Dtype::f32) continue;
        for (int64_t i = 0; i < p.value.size(); ++i) {
          double& value = p.value.data<double>()[i];
          value = static_cast<double>(static_cast<float>(value));
        }
      }
      store.begin_gradients();
      Tape tape(dtype);
      const Var x = activation(tape, parameter(tape, store, "x"), ActivationKind::identity);
      tape.backward(to_scalar(tape, record(tape, store, variant, x)));
      store.finish_gradients();
      auto& all = gradients.emplace_back();
      for (const Parameter& p : store.parameters()) {
        dispatch(dtype, [&]<class T>() {
          for (int64_t i = 0; i < p.grad.size(); ++i)
            all.push_back(static_cast<double>(p.grad.data<T>()[i]));
        });
      }
    }
    double worst = 0.0, size = 0.0;
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      worst = std::max(worst, std::abs(gradients[0][i] - gradients[1][i]));
      size = std::max(size, std::abs(gradients[0][i]));
    }
    INFO(variant.name);
    // A shared gain's gradient is a sum over 70 rows of 4 heads, whose terms largely cancel.
    CHECK(worst <= 280.0 * 0x1p-24 * size);
  }
}

TEST_CASE("qk_norm names what does not fit", "[autograd][qk_norm]") {
  std::vector<float> x(1 * 2 * kW, 1.0F), w(kD + 1);
  Tape tape;
  const Var in = tape.constant({x.data(), Shape{1, 2, kW}, Dtype::f32});
  const Var wrong = tape.constant({w.data(), Shape{kD + 1}, Dtype::f32});
  QkNormOptions o{.n_heads = kH, .n_kv_heads = kK, .head_dim = kD, .eps = 1e-5};
  CHECK_THROWS_WITH(qk_norm(tape, in, {}, {wrong, {}}, {}, o),
                    ContainsSubstring("[qk_norm] the gain of k has 4 elements; expected 3"));
  CHECK_THROWS_WITH(qk_norm(tape, in, {{}, wrong}, {}, {}, o),
                    ContainsSubstring("[qk_norm] only LayerNorm has a shift"));
  const Var of_head = tape.constant({w.data(), Shape{kD}, Dtype::f32});
  CHECK_THROWS_WITH(qk_norm(tape, in, {}, {}, {of_head, {}}, o),
                    ContainsSubstring("[qk_norm] a gain or shift of v, which is not normalised"));
  o.is_centred = true;
  CHECK_THROWS_WITH(qk_norm(tape, in, {}, {}, {{}, of_head}, o),
                    ContainsSubstring("[qk_norm] a gain or shift of v, which is not normalised"));
  o.n_heads = 9;
  CHECK_THROWS_WITH(qk_norm(tape, in, {}, {}, {}, o),
                    ContainsSubstring("[qk_norm] 9 + 2 * 2 heads of 3 channels do not fit into"));
}

}  // namespace ballast::test
