// The description of the optimiser: plain structs for the `optim:` section of a run configuration.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace ballast {

enum class OptimizerKind { adamw };
enum class DecayForm { coupled, independent };
enum class DecayGroup { norm, bias, embedding, head };
enum class ClipKind { none, global };
enum class ScheduleKind { constant, linear, cosine, wsd, inv_sqrt };

struct ClipConfig {
  ClipKind kind = ClipKind::global;
  double max_norm = 1.0;
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::cosine;
  int64_t warmup_steps = 0;
  double min_lr = 0.0;
  std::optional<int64_t> decay_steps;
};

struct OptimConfig {
  OptimizerKind kind = OptimizerKind::adamw;
  double lr = 3e-4;
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  DecayForm decay = DecayForm::coupled;
  std::vector<DecayGroup> no_decay = {DecayGroup::norm, DecayGroup::bias};
  ClipConfig clip;
  ScheduleConfig schedule;
};

}  // namespace ballast
