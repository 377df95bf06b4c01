#include <algorithm>
#include <cmath>
#include <set>

#include "optim/optimizer.h"
#include "tests/optim/support.h"
#include "tests/support/catch.h"

namespace ballast {

namespace {

using test::Scalar;

}  // namespace

TEST_CASE("the first update of adamw is lr * sign(g), whatever the size of g", "[optim][adamw]") {
  OptimConfig c;
  c.weight_decay = 0.0;
  c.eps = 1e-30;
  const double g = GENERATE(1e-6, 0.5, -3.0, 1e6);
  Scalar one(c);
  one.w() = 0.25;
  // m_hat = g, v_hat = g^2: the quotient is the sign.
  CHECK(one.step(g, 0.01) == Approx(0.25 - std::copysign(0.01, g)).epsilon(1e-14));
}

TEST_CASE("adamw's first two updates agree with arithmetic by hand", "[optim][adamw]") {
  OptimConfig c;
  c.betas = {0.5, 0.75};
  c.eps = 1.0;
  c.weight_decay = 0.1;
  Scalar one(c);
  one.w() = 2.0;
  // t=1: m = 2, v = 4; m_hat = 4, v_hat = 16; d = 4/5.            w = 2 - 0.5 (0.8 + 0.2) = 1.5
  CHECK(one.step(4.0, 0.5) == Approx(1.5).epsilon(1e-15));
  // t=2, g=0: m = 1, v = 3; m_hat = 4/3, v_hat = 48/7.
  const double direction = (4.0 / 3.0) / (std::sqrt(48.0 / 7.0) + 1.0);
  CHECK(one.step(0.0, 0.5) == Approx(1.5 - 0.5 * (direction + 0.15)).epsilon(1e-15));
  CHECK(one.optimizer->steps() == 2);
}

TEST_CASE("independent decay does not shrink with the peak learning rate", "[optim][adamw]") {
  OptimConfig c;
  c.decay = DecayForm::independent;
  c.lr = 1e-3;
  c.weight_decay = 0.25;
  Scalar independent(c);
  independent.w() = 1.0;
  // lr_t = lr / 2, so s_t = 1/2; the gradient is 0.
  CHECK(independent.step(0.0, 5e-4) == Approx(1.0 - 0.5 * 0.25).epsilon(1e-15));
  c.decay = DecayForm::coupled;
  Scalar coupled(c);
  coupled.w() = 1.0;
  CHECK(coupled.step(0.0, 5e-4) == Approx(1.0 - 5e-4 * 0.25).epsilon(1e-15));
}

TEST_CASE("independent decay equals coupled decay of weight_decay / lr", "[optim][adamw]") {
  OptimConfig c;
  c.lr = 2e-3;
  c.weight_decay = 0.01;
  c.decay = DecayForm::independent;
  Scalar independent(c);
  c.decay = DecayForm::coupled;
  c.weight_decay = 0.01 / c.lr;
  Scalar coupled(c);
  independent.w() = coupled.w() = 0.7;
  for (int64_t s = 0; s < 20; ++s) {
    const double g = test::scattered(s);
    const double lr = c.lr * static_cast<double>(s + 1) / 20.0;
    const double expected = coupled.step(g, lr);
    CHECK(independent.step(g, lr) == Approx(expected).epsilon(1e-13));
  }
}

TEST_CASE("update_ratio is 0 without an update and infinite from nothing", "[optim]") {
  CHECK(update_ratio(0.5, 2.0) == 0.25);
  CHECK(update_ratio(0.0, 0.0) == 0.0);
  CHECK(std::isinf(update_ratio(0.5, 0.0)));
}

TEST_CASE("each role belongs to its group of no_decay", "[optim][adamw]") {
  struct Case {
    Role role;
    std::set<DecayGroup> groups;
  };
  const auto [role, groups] = GENERATE(values<Case>({
      {Role::linear, {}},
      {Role::head, {DecayGroup::head}},
      {Role::embedding, {DecayGroup::embedding}},
      {Role::position, {DecayGroup::embedding}},
      {Role::norm, {DecayGroup::norm}},
      {Role::offset, {DecayGroup::norm}},
      {Role::bias, {DecayGroup::bias}},
  }));
  for (const auto& row : variant_rows<DecayGroup>()) {
    CAPTURE(row.name);
    OptimConfig c;
    c.weight_decay = 0.5;
    c.no_decay = {row.kind};
    Scalar one(c, role);
    one.w() = 1.0;
    const bool exempt = groups.count(row.kind) == 1;
    CHECK(one.step(0.0, 0.1) == Approx(exempt ? 1.0 : 0.95).epsilon(1e-15));
  }
}

TEST_CASE("a gradient that grows tenfold overshoots less with a short memory", "[optim][adamw]") {
  // At a steady gradient the update is lr. After 2000 of them g rises from 1 to 10 over 20 steps.
  // The peaks were computed from the formulas by another program.
  const auto peak = [](double beta2) {
    OptimConfig c;
    c.betas = {0.9, beta2};
    c.weight_decay = 0.0;
    Scalar one(c);
    double largest = 0.0;
    for (int64_t s = 0; s < 2260; ++s) {
      const double before = one.w();
      const double rise = std::clamp(static_cast<double>(s - 1999) / 20.0, 0.0, 1.0);
      largest = std::max(largest, before - one.step(std::pow(10.0, rise), 1.0));
    }
    return largest;
  };
  CHECK(peak(0.999) == Approx(5.08838).epsilon(1e-5));
  CHECK(peak(0.95) == Approx(1.14751).epsilon(1e-5));
}

}  // namespace ballast
