#include "optim/schedule.h"

#include <cmath>

#include "tests/support/catch.h"

namespace ballast {

namespace {

OptimConfig with(ScheduleKind kind, int64_t warmup, double min_lr = 0.1) {
  OptimConfig c;
  c.lr = 1.0;
  c.schedule = {kind, warmup, min_lr, std::nullopt};
  return c;
}

// Equal but for the rounding of a few operations.
auto near(double x) {
  return Approx(x).epsilon(1e-14).margin(1e-15);
}

}  // namespace

TEST_CASE("every schedule warms up in a straight line that reaches lr", "[optim][schedule]") {
  const auto kind = GENERATE(ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine,
                             ScheduleKind::wsd, ScheduleKind::inv_sqrt);
  const OptimConfig c = with(kind, 10);
  CHECK(learning_rate(c, 100, 0) == near(0.1));
  CHECK(learning_rate(c, 100, 4) == near(0.5));
  CHECK(learning_rate(c, 100, 9) == near(1.0));
}

TEST_CASE("every schedule begins at lr without a warm-up", "[optim][schedule]") {
  const auto kind = GENERATE(ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine,
                             ScheduleKind::wsd, ScheduleKind::inv_sqrt);
  CHECK(learning_rate(with(kind, 0), 100, 0) == near(1.0));
}

TEST_CASE("a run shorter than its warm-up never reaches lr", "[optim][schedule]") {
  const auto kind = GENERATE(ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::wsd);
  CHECK(learning_rate(with(kind, 100), 50, 49) == near(0.5));
  CHECK(learning_rate(with(kind, 50), 50, 49) == near(1.0));
}

TEST_CASE("constant stays", "[optim][schedule]") {
  CHECK(learning_rate(with(ScheduleKind::constant, 10), 100, 10) == 1.0);
  CHECK(learning_rate(with(ScheduleKind::constant, 10), 100, 99) == 1.0);
}

TEST_CASE("linear falls to min_lr at the end of the run", "[optim][schedule]") {
  OptimConfig c = with(ScheduleKind::linear, 20);
  CHECK(learning_rate(c, 100, 20) == near(1.0));
  CHECK(learning_rate(c, 100, 60) == near(0.55));
  CHECK(learning_rate(c, 100, 99) == near(0.1 + 0.9 / 80.0));
  c.schedule.decay_steps = 40;
  CHECK(learning_rate(c, 100, 40) == near(0.55));
  CHECK(learning_rate(c, 100, 60) == near(0.1));
  CHECK(learning_rate(c, 100, 99) == near(0.1));
}

TEST_CASE("cosine falls to min_lr in half a wave", "[optim][schedule]") {
  OptimConfig c = with(ScheduleKind::cosine, 20);
  CHECK(learning_rate(c, 100, 20) == near(1.0));
  CHECK(learning_rate(c, 100, 40) == near(0.55 + 0.45 * std::sqrt(0.5)));
  CHECK(learning_rate(c, 100, 60) == near(0.55));
  CHECK(learning_rate(c, 100, 99) == near(0.55 - 0.45 * std::cos(std::acos(-1.0) / 80.0)));
  c.schedule.decay_steps = 40;
  CHECK(learning_rate(c, 100, 40) == near(0.55));
  CHECK(learning_rate(c, 100, 60) == near(0.1));
  CHECK(learning_rate(c, 100, 99) == near(0.1));
}

TEST_CASE("wsd stays until its last steps and then falls in a straight line", "[optim][schedule]") {
  OptimConfig c = with(ScheduleKind::wsd, 10);
  CHECK(learning_rate(c, 100, 10) == 1.0);
  CHECK(learning_rate(c, 100, 79) == 1.0);
  CHECK(learning_rate(c, 100, 80) == 1.0);
  CHECK(learning_rate(c, 100, 81) == near(1.0 - 0.9 / 20.0));
  CHECK(learning_rate(c, 100, 90) == near(0.55));
  CHECK(learning_rate(c, 100, 99) == near(0.1 + 0.9 / 20.0));
  c.schedule.decay_steps = 50;
  CHECK(learning_rate(c, 100, 50) == 1.0);
  CHECK(learning_rate(c, 100, 75) == near(0.55));
}

TEST_CASE("wsd whose decay would begin in the warm-up begins after it", "[optim][schedule]") {
  OptimConfig c = with(ScheduleKind::wsd, 60);
  c.schedule.decay_steps = 80;
  CHECK(learning_rate(c, 100, 59) == near(1.0));
  CHECK(learning_rate(c, 100, 60) == near(1.0));
  CHECK(learning_rate(c, 100, 80) == near(1.0 - 0.9 * 20.0 / 80.0));
  // Too short for a last fifth: one step of decay is none.
  CHECK(learning_rate(with(ScheduleKind::wsd, 0), 4, 3) == 1.0);
}

TEST_CASE("inv_sqrt falls as the root of the step from the end of the warm-up",
          "[optim][schedule]") {
  const OptimConfig c = with(ScheduleKind::inv_sqrt, 16);
  CHECK(learning_rate(c, 100, 15) == near(1.0));
  CHECK(learning_rate(c, 100, 16) == near(std::sqrt(16.0 / 17.0)));
  CHECK(learning_rate(c, 100, 63) == near(0.5));
  const OptimConfig without = with(ScheduleKind::inv_sqrt, 0);
  CHECK(learning_rate(without, 100, 3) == near(0.5));
  CHECK(learning_rate(without, 100, 99) == near(0.1));
}

}  // namespace ballast
