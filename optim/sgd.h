// Gradient descent with momentum (Polyak 1964), as torch.optim.SGD has it without dampening.
#pragma once

#include "optim/elementwise.h"

namespace ballast {

/// m = b1 m + g + wd w     w -= lr_t m
/// The momentum is a sum, not a mean: a steady gradient moves w by lr / (1 - b1) a step.
template <class T>
struct Sgd {
  static constexpr OptimizerTraits kTraits = {
      .moments = {"momentum"}, .decoupled_decay = false, .uses_eps = false};

  Sgd(const OptimConfig& c, double lr, int64_t)
      : rate(static_cast<T>(lr)),
        momentum(static_cast<T>(c.betas[0])),
        decay(static_cast<T>(c.weight_decay)) {}

  T operator()(T g, T w, T decay_of_w, T& m) const {
    m = momentum * m + (g + decay_of_w * w);
    return rate * m;
  }

  T rate, momentum, decay;
};

}  // namespace ballast
