// The description of the optimiser: plain structs for the `optim:` section of a run configuration.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/variant_table.h"

namespace ballast {

enum class OptimizerKind { adamw, adam, sgd, lion };
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

/// Throws std::invalid_argument "optim.key = …; expected …" for values no update can be made with.
void validate(const OptimConfig& config);

template <>
std::span<const VariantRow<OptimizerKind>> variant_rows<OptimizerKind>();
template <>
std::span<const VariantRow<DecayForm>> variant_rows<DecayForm>();
template <>
std::span<const VariantRow<DecayGroup>> variant_rows<DecayGroup>();
template <>
std::span<const VariantRow<ClipKind>> variant_rows<ClipKind>();
template <>
std::span<const VariantRow<ScheduleKind>> variant_rows<ScheduleKind>();

template <>
std::span<const std::string_view> planned_variants<ClipKind>();

}  // namespace ballast
