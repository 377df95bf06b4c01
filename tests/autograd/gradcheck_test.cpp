#include "autograd/gradcheck.h"

#include <set>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"
#include "tests/support/threads.h"

namespace ballast::test {

namespace {

void check_gradients(void (*add_cases)(GradcheckCases&)) {
  const WithThreads one(1);  // thousands of tiny calls
  GradcheckCases cases;
  add_cases(cases);
  for (const GradcheckCase& c : cases) {
    const GradcheckReport report = run(c);
    INFO(c.name << ": error " << report.error << " in " << report.tensor << "[" << report.entry
                << "], analytic " << report.analytic << ", numeric " << report.numeric
                << ", redrawn " << report.n_redrawn << " of " << report.n_checked);
    CHECK(report.error <= 1e-7);
    CHECK(report.passed);
  }
}

}  // namespace

// One test case for each group: ctest runs them beside each other.
static_assert(kGradcheckGroups.size() == 12, "a new group needs a test case here");

TEST_CASE("the backward of linear agrees with central differences in float64",
          "[autograd][gradcheck][linear]") {
  check_gradients(add_linear_cases);
}

TEST_CASE("the backward of add agrees with central differences in float64",
          "[autograd][gradcheck][residual]") {
  check_gradients(add_residual_cases);
}

TEST_CASE("the backward of embedding agrees with central differences in float64",
          "[autograd][gradcheck][embedding]") {
  check_gradients(add_embedding_cases);
}

TEST_CASE("the backward of the norms agrees with central differences in float64",
          "[autograd][gradcheck][norm]") {
  check_gradients(add_norm_cases);
}

TEST_CASE("the backward of activation and glu agrees with central differences in float64",
          "[autograd][gradcheck][activation]") {
  check_gradients(add_activation_cases);
}

TEST_CASE("the backward of rope agrees with central differences in float64",
          "[autograd][gradcheck][rope]") {
  check_gradients(add_rope_cases);
}

TEST_CASE("the backward of causal_attention agrees with central differences in float64",
          "[autograd][gradcheck][attention]") {
  check_gradients(add_attention_cases);
}

TEST_CASE("the backward of dropout agrees with central differences in float64",
          "[autograd][gradcheck][dropout]") {
  check_gradients(add_dropout_cases);
}

TEST_CASE("the backward of lm_head_loss agrees with central differences in float64",
          "[autograd][gradcheck][loss]") {
  check_gradients(add_loss_cases);
}

TEST_CASE(
    "the backward of scaled, softcap and scale_queries agrees with central differences in float64",
    "[autograd][gradcheck][scaling]") {
  check_gradients(add_scaling_cases);
}

TEST_CASE("the backward of qk_norm agrees with central differences in float64",
          "[autograd][gradcheck][qk_norm]") {
  check_gradients(add_qk_norm_cases);
}

TEST_CASE("the backward of t5_bias agrees with central differences in float64",
          "[autograd][gradcheck][t5_bias]") {
  check_gradients(add_t5_bias_cases);
}

TEST_CASE("every operation has a gradient check", "[autograd][gradcheck]") {
  std::set<std::string> checked;
  for (const GradcheckCase& c : all_gradcheck_cases()) {
    ParameterStore store;
    c.declare(store);
    store.allocate(Dtype::f64);
    fill_normal(store, 11);
    Tape tape(Dtype::f64);
    to_scalar(tape, c.output(tape, store));
    tape.for_each_node([&](const char*, const char* op) { checked.insert(op); });
  }
  for (const std::string_view op : kOpNames) {
    INFO(op);
    CHECK(checked.count(std::string(op)) == 1);
  }
  CHECK(checked.size() == kOpNames.size());
}

namespace {

// y = x^2 with a backward that is wrong by a factor, to see that the check can fail.
struct Square final : Node {
  Var x, y;
  double factor = 2.0;

  const char* name() const override { return "square"; }
  void forward(Tape& tape) override {
    for (int64_t i = 0; i < tape.value(x).size(); ++i) {
      const double v = tape.value(x).data<double>()[i];
      tape.value(y).data<double>()[i] = v * v;
    }
  }
  void backward(Tape& tape) override {
    const GradRef dx = tape.grad(x);
    for (int64_t i = 0; i < dx.tensor.size(); ++i) {
      const double g =
          factor * tape.value(x).data<double>()[i] * tape.output_grad(y).data<double>()[i];
      dx.data<double>()[i] = dx.accumulate ? dx.data<double>()[i] + g : g;
    }
  }
};

GradcheckReport check_square(double factor) {
  return run({"square",
              [](ParameterStore& s) {
                s.add("x", Shape{3, 5}, Role::linear);
              },
              [factor](Tape& tape, ParameterStore& s) {
                auto& node = tape.make<Square>();
                node.x = parameter(tape, s, "x");
                node.factor = factor;
                node.y = tape.output(node, Shape{3, 5}, {node.x});
                tape.run(node);
                return node.y;
              }});
}

}  // namespace

TEST_CASE("gradcheck accepts a right backward and rejects one that is wrong in the sixth digit",
          "[autograd][gradcheck]") {
  CHECK(check_square(2.0).passed);
  CHECK_FALSE(check_square(2.000002).passed);
  CHECK(check_square(2.000002).error == Approx(1e-6).epsilon(0.05));
}

TEST_CASE("gradcheck counts entries at a kink and fails when there are many",
          "[autograd][gradcheck]") {
  ParameterStore store;
  Parameter& x = store.add("x", Shape{40}, Role::linear);
  store.allocate(Dtype::f64);
  for (int64_t i = 0; i < 40; ++i)
    x.value.data<double>()[i] = i < 4 ? 3e-6 : 1.0 + static_cast<double>(i);
  const auto relu = [&](Tape& tape) {
    return to_scalar(tape, activation(tape, tape.parameter(store, x), ActivationKind::relu));
  };
  const GradcheckReport report = gradcheck(store, relu);
  CHECK(report.n_redrawn == 4);
  CHECK(report.error <= 1e-7);
  CHECK_FALSE(report.passed);
}

TEST_CASE("gradcheck never passes a gradient that is not a number", "[autograd][gradcheck]") {
  CHECK_FALSE(check_square(std::numeric_limits<double>::quiet_NaN()).passed);
}

TEST_CASE("gradcheck refuses a float32 store", "[autograd][gradcheck]") {
  ParameterStore store;
  store.add("x", Shape{1}, Role::linear);
  store.allocate(Dtype::f32);
  CHECK_THROWS_WITH(gradcheck(store, [](Tape&) { return Var{}; }),
                    ContainsSubstring("expected f64"));
}

}  // namespace ballast::test
