#include <cmath>
#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"
#include "tests/support/reference.h"

namespace ballast::test {

namespace {

constexpr double kFactors[] = {9.0, 1.0, 1.5, 0.5, 2.0, 3.0};

// x itself, or a value that an operation made, whose memory may be taken over.
Var input(Tape& tape, ParameterStore& s, bool is_in_place) {
  const Var x = parameter(tape, s, "x");
  return is_in_place ? activation(tape, x, ActivationKind::identity) : x;
}

}  // namespace

void add_scaling_cases(GradcheckCases& cases) {
  for (const bool in_place : {false, true}) {
    const std::string where = in_place ? " in place" : "";
    for (const bool has_weight : {false, true}) {
      cases.push_back({concat("scaled", where, has_weight ? " weight" : ""),
                       [=](ParameterStore& s) {
                         s.add("x", Shape{2, 70, 3}, Role::linear);
                         if (has_weight) s.add("weight", Shape{3}, Role::norm);
                       },
                       [=](Tape& tape, ParameterStore& s) {
                         return scaled(tape, input(tape, s, in_place), 0.3,
                                       has_weight ? parameter(tape, s, "weight") : Var{});
                       }});
    }
    cases.push_back({"scale_queries" + where,
                     [](ParameterStore& s) {
                       s.add("x", Shape{2, 4, 7}, Role::linear);
                     },
                     [=](Tape& tape, ParameterStore& s) {
                       return scale_queries(tape, input(tape, s, in_place), kFactors, 3, 2);
                     }});
    for (const double cap : {0.0, 1.5}) {
      cases.push_back({concat("softcap ", cap, where),
                       [](ParameterStore& s) {
                         s.add("x", Shape{2, 4, 7}, Role::linear);
                       },
                       [=](Tape& tape, ParameterStore& s) {
                         return softcap(tape, input(tape, s, in_place), cap, 0.7);
                       }});
    }
  }
}

TEST_CASE("scaled multiplies by its factor and by a gain for each channel", "[autograd][scaled]") {
  double x[] = {1.0, 2.0, 3.0, 4.0};
  double w[] = {10.0, 100.0};
  Tape tape(Dtype::f64);
  const Var in = tape.constant({x, Shape{2, 2}, Dtype::f64});
  const double* y = tape.value(scaled(tape, in, 0.5)).data<double>();
  CHECK(std::vector<double>(y, y + 4) == std::vector<double>{0.5, 1.0, 1.5, 2.0});
  y = tape.value(scaled(tape, in, 0.5, tape.constant({w, Shape{2}, Dtype::f64}))).data<double>();
  CHECK(std::vector<double>(y, y + 4) == std::vector<double>{5.0, 100.0, 15.0, 200.0});
  CHECK(x[0] == 1.0);
  CHECK_THROWS_WITH(scaled(tape, in, 1.0, tape.constant({x, Shape{4}, Dtype::f64})),
                    ContainsSubstring("[scaled] weight has 4 elements but x has last dimension 2"));
}

TEST_CASE("softcap matches plain maths, is bounded by cap and is odd", "[autograd][softcap]") {
  std::vector<double> x;
  for (double v = -400.0; v <= 400.0; v += 0.37) x.push_back(v);
  const auto n = static_cast<int64_t>(x.size());
  const std::vector<float> x32(x.begin(), x.end());
  const reference::Values exact32(x32.begin(), x32.end());
  Tape tape(Dtype::f64), tape32;
  const Var y = softcap(tape, tape.constant({x.data(), Shape{1, n}, Dtype::f64}), 30.0, 0.5);
  const Var y32 =
      softcap(tape32, tape32.constant({const_cast<float*>(x32.data()), Shape{1, n}, Dtype::f32}),
              30.0, 0.5);
  const reference::Values expected = reference::softcap(x, 30.0, 0.5);
  const reference::Values expected32 = reference::softcap(exact32, 30.0, 0.5);
  double worst = 0.0, worst32 = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(tape.value(y).data<double>()[i] - expected[i]));
    worst32 = std::max(
        worst32, std::abs(static_cast<double>(tape32.value(y32).data<float>()[i]) - expected32[i]));
  }
  CHECK(worst <= 30.0 * 4e-16);
  CHECK(worst32 <= 30.0 * 4.0 * 0x1p-24);  // tanh is right to 2 ulp, its argument rounded twice
  CHECK_THROWS_WITH(softcap(tape, y, -1.0), ContainsSubstring("[softcap] cap is -1"));
}

TEST_CASE("scale_queries multiplies its columns by the factor of their position",
          "[autograd][scale_queries]") {
  std::vector<float> x(2 * 3 * 4, 1.0F);
  Tape tape;
  const Var in = tape.constant({x.data(), Shape{2, 3, 4}, Dtype::f32});
  const Var y = scale_queries(tape, in, kFactors, 2, 1);
  for (int64_t i = 0; i < 24; ++i) {
    const double factor = i % 4 < 2 ? kFactors[1 + i / 4 % 3] : 1.0;
    CHECK(static_cast<double>(tape.value(y).data<float>()[i]) == factor);
  }
  CHECK_THROWS_WITH(scale_queries(tape, in, kFactors, 5, 0),
                    ContainsSubstring("[scale_queries] 5 columns do not fit into (2, 3, 4)"));
  CHECK_THROWS_WITH(
      scale_queries(tape, in, kFactors, 2, 4),
      ContainsSubstring("[scale_queries] 7 positions are needed but there are factors of 6"));
}

}  // namespace ballast::test
