// The learning rate as a pure function of the step.
#pragma once

#include <cstdint>

#include "optim/optim_config.h"

namespace ballast {

/// lr_s for step s = 0, 1, … of a run of `total_steps`.
///   s < W (warmup_steps):  lr (s + 1) / W
///   constant:  lr                       linear, wsd:  lr + (min_lr - lr) u
///   cosine:  min_lr + (lr - min_lr) (1 + cos(pi u)) / 2      inv_sqrt:  lr sqrt(max(W, 1) / (s +
///   1))
/// with u = min(1, (s - start) / decay_steps). linear, cosine: start = W and decay_steps defaults
/// to what follows the warm-up; wsd: the decay is the last decay_steps (default: 20 % of the run,
/// rounded down) and begins after the warm-up at the earliest.
double learning_rate(const OptimConfig& config, int64_t total_steps, int64_t step);

}  // namespace ballast
