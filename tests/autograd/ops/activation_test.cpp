#include <vector>

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
  // Two readers of one value, each of columns of its own: behind an operation, since a parameter's
  // gradient is not handed out by columns.
  cases.push_back({"activation and glu of column ranges",
                   [](ParameterStore& s) {
                     s.add("x", Shape{2, 3, 14}, Role::linear);
                   },
                   [](Tape& tape, ParameterStore& s) {
                     const Var x = scaled(tape, parameter(tape, s, "x"), 1.5);
                     const Var gated = glu(tape, x, ActivationKind::silu, {.begin = 4});
                     const Var plain =
                         activation(tape, x, ActivationKind::mish, {.begin = 0, .width = 4});
                     return add(tape, to_scalar(tape, gated), to_scalar(tape, plain));
                   }});
}

TEST_CASE("a column range is what the same columns alone are", "[autograd][activation][glu]") {
  constexpr int64_t kRows = 5, kWidth = 11;
  std::vector<double> x(kRows * kWidth), alone(kRows * 4);
  RandomStream random(3, 3);
  for (double& value : x) value = random.normal();
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t c = 0; c < 4; ++c)
      alone[static_cast<size_t>(row * 4 + c)] = x[static_cast<size_t>(row * kWidth + 3 + c)];
  Tape tape(Dtype::f64);
  const Var wide = tape.constant({x.data(), Shape{kRows, kWidth}, Dtype::f64});
  const Var narrow = tape.constant({alone.data(), Shape{kRows, 4}, Dtype::f64});
  const Columns columns{.begin = 3, .width = 4};
  const auto values = [&](Var v) {
    const double* d = tape.value(v).data<double>();
    return std::vector<double>(d, d + tape.value(v).size());
  };
  CHECK(values(activation(tape, wide, ActivationKind::gelu, columns)) ==
        values(activation(tape, narrow, ActivationKind::gelu)));
  CHECK(values(glu(tape, wide, ActivationKind::silu, columns)) ==
        values(glu(tape, narrow, ActivationKind::silu)));
}

TEST_CASE("activation and glu refuse columns that leave the rows", "[autograd][activation][glu]") {
  double x[6] = {};
  Tape tape(Dtype::f64);
  const Var in = tape.constant({x, Shape{1, 6}, Dtype::f64});
  CHECK_THROWS_WITH(activation(tape, in, ActivationKind::silu, {.begin = 4, .width = 3}),
                    ContainsSubstring("[activation] columns 4 to 7 are not in x, which is (1, 6)"));
  CHECK_THROWS_WITH(glu(tape, in, ActivationKind::silu, {.begin = 7}),
                    ContainsSubstring("[glu] columns 7 to 6 are not in x"));
  CHECK_THROWS_WITH(glu(tape, in, ActivationKind::silu, {.begin = 1}),
                    ContainsSubstring("expected an even number"));
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
                    ContainsSubstring("expected an even number"));
}

}  // namespace ballast::test
