#include <cmath>
#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

void add_dropout_cases(GradcheckCases& cases) {
  const auto declare = [](ParameterStore& s) { s.add("x", Shape{2, 3, 5}, Role::linear); };
  cases.push_back({"dropout", declare, [](Tape& tape, ParameterStore& s) {
                     return dropout(tape, parameter(tape, s, "x"),
                                    {.rate = 0.4, .seed = 1, .step = 2, .site = 3});
                   }});
}

TEST_CASE("dropout keeps the expected share, scaled so that the mean stays",
          "[autograd][dropout]") {
  constexpr int64_t kN = 100000;
  std::vector<double> x(kN, 1.0);
  Tape tape(Dtype::f64);
  const Var y = dropout(tape, tape.constant({x.data(), Shape{1, kN / 10, 10}, Dtype::f64}),
                        {.rate = 0.25, .seed = 4});
  int64_t kept = 0;
  for (int64_t i = 0; i < kN; ++i) {
    const double v = tape.value(y).data<double>()[i];
    CHECK_FALSE((v != 0.0 && v != Approx(1.0 / 0.75)));
    kept += v != 0.0;
  }
  // Five standard deviations of a binomial count.
  CHECK(std::abs(static_cast<double>(kept) - 0.75 * kN) < 5.0 * std::sqrt(0.75 * 0.25 * kN));
}

TEST_CASE("a dropout mask depends on the row of the whole batch, not of the micro-batch",
          "[autograd][dropout]") {
  std::vector<float> x(4 * 3 * 5, 1.0F);
  Tape tape;
  const auto mask = [&](int64_t batch, int64_t first_row) {
    const Var y = dropout(tape, tape.constant({x.data(), Shape{batch, 3, 5}, Dtype::f32}),
                          {.rate = 0.5, .seed = 4, .step = 1, .site = 2, .first_row = first_row});
    const float* d = tape.value(y).data<float>();
    return std::vector<float>(d, d + batch * 15);
  };
  const auto whole = mask(4, 0);
  const auto tail = mask(2, 2);
  CHECK(std::equal(tail.begin(), tail.end(), whole.begin() + 30));
}

TEST_CASE("dropout of rate 0 is the identity and a rate of 1 is refused", "[autograd][dropout]") {
  float x[4] = {};
  Tape tape;
  const Var in = tape.constant({x, Shape{1, 1, 4}, Dtype::f32});
  CHECK(tape.value(dropout(tape, in, {.rate = 0.0})).memory == x);
  CHECK_THROWS_WITH(dropout(tape, in, {.rate = 1.0}), ContainsSubstring("expected 0 <= rate < 1"));
}

}  // namespace ballast::test
