// Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2).
#pragma once

#include "optim/elementwise.h"

namespace ballast {

/// d = sign(b1 m + (1 - b1) g), 0 at 0     m = b2 m + (1 - b2) g     w -= lr_t d + s_t w
/// s_t = lr_t wd (coupled) or (lr_t / lr) wd (independent). The paper's betas are 0.9 and 0.99.
template <class T>
struct Lion {
  static constexpr OptimizerTraits kTraits = {
      .moments = {"m"}, .decoupled_decay = true, .uses_eps = false};

  Lion(const OptimConfig& c, double lr, int64_t)
      : rate(static_cast<T>(lr)),
        one_minus_beta1(static_cast<T>(1.0 - c.betas[0])),
        one_minus_beta2(static_cast<T>(1.0 - c.betas[1])),
        decay(static_cast<T>(decoupled_decay(c, lr))) {}

  T operator()(T g, T w, T decay_of_w, T& m) const {
    const T mean = m + one_minus_beta1 * (g - m);
    m += one_minus_beta2 * (g - m);
    const T sign = (mean > T{0} ? T{1} : T{0}) - (mean < T{0} ? T{1} : T{0});
    return rate * sign + decay_of_w * w;
  }

  T rate, one_minus_beta1, one_minus_beta2, decay;
};

}  // namespace ballast
