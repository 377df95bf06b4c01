#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/activations.h"
#include "tests/support/catch.h"

namespace ballast::test {

void add_activation_cases(GradcheckCases& cases) {
  for (const ActivationKind kind : kAllActivations) {
    const auto declare = [](ParameterStore& s) { s.add("x", Shape{2, 3, 14}, Role::linear); };
    cases.push_back({concat("activation ", static_cast<int>(kind)), declare,
                     [=](Tape& tape, ParameterStore& s) {
                       return activation(tape, parameter(tape, s, "x"), kind);
                     }});
    cases.push_back(
        {concat("glu ", static_cast<int>(kind)), declare,
         [=](Tape& tape, ParameterStore& s) { return glu(tape, parameter(tape, s, "x"), kind); }});
  }
}

TEST_CASE("glu multiplies the activated first half by the second", "[autograd][glu]") {
  double x[] = {2.0, -1.0, 3.0, 5.0};
  Tape tape(Dtype::f64);
  const Var y = glu(tape, tape.constant({x, Shape{1, 4}, Dtype::f64}), ActivationKind::relu);
  CHECK(tape.value(y).data<double>()[0] == 6.0);
  CHECK(tape.value(y).data<double>()[1] == 0.0);
}

TEST_CASE("glu refuses an odd width", "[autograd][glu]") {
  double x[3] = {};
  Tape tape(Dtype::f64);
  CHECK_THROWS_WITH(glu(tape, tape.constant({x, Shape{1, 3}, Dtype::f64}), ActivationKind::silu),
                    ContainsSubstring("expected an even last dimension"));
}

}  // namespace ballast::test
