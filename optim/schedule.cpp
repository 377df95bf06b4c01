#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ballast {

namespace {

// Share of the decay that is done at `step`.
double progress(int64_t step, int64_t start, int64_t decay_steps) {
  const auto length = static_cast<double>(std::max<int64_t>(decay_steps, 1));
  return std::clamp(static_cast<double>(step - start) / length, 0.0, 1.0);
}

}  // namespace

double learning_rate(const OptimConfig& config, int64_t total_steps, int64_t step) {
  const ScheduleConfig& schedule = config.schedule;
  const double lr = config.lr;
  const double min_lr = schedule.min_lr;
  const int64_t warmup = schedule.warmup_steps;
  if (step < warmup) return lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const int64_t decay_steps = schedule.decay_steps.value_or(total_steps - warmup);
  switch (schedule.kind) {
    case ScheduleKind::constant:
      return lr;
    case ScheduleKind::linear:
      return std::lerp(lr, min_lr, progress(step, warmup, decay_steps));
    case ScheduleKind::cosine: {
      const double u = progress(step, warmup, decay_steps);
      return min_lr + (lr - min_lr) * 0.5 * (1.0 + std::cos(std::numbers::pi * u));
    }
    case ScheduleKind::wsd: {
      const int64_t length = schedule.decay_steps.value_or(total_steps / 5);
      const int64_t start = std::max(warmup, total_steps - length);
      return std::lerp(lr, min_lr, progress(step, start, length));
    }
    case ScheduleKind::inv_sqrt:
      return lr * std::sqrt(static_cast<double>(std::max<int64_t>(warmup, 1)) /
                            static_cast<double>(step + 1));
  }
  throw InternalError("internal error: learning_rate met an unknown schedule");
}

}  // namespace ballast
