// Adam (Kingma & Ba 2014, arXiv 1412.6980), with L2 regularisation as torch.optim.Adam has it.
#pragma once

#include "optim/elementwise.h"

namespace ballast {

/// m = b1 m + (1 - b1) g     v = b2 v + (1 - b2) g^2
/// d = m/(1 - b1^t) / (sqrt(v/(1 - b2^t)) + eps)
template <class T>
struct AdamDirection {
  AdamDirection(const OptimConfig& c, double lr, int64_t t) {
    const double correction1 = 1.0 - std::pow(c.betas[0], static_cast<double>(t));
    const double correction2 = 1.0 - std::pow(c.betas[1], static_cast<double>(t));
    one_minus_beta1 = static_cast<T>(1.0 - c.betas[0]);
    one_minus_beta2 = static_cast<T>(1.0 - c.betas[1]);
    step_size = static_cast<T>(lr / correction1);
    root_correction = static_cast<T>(1.0 / std::sqrt(correction2));
    eps = static_cast<T>(c.eps);
  }

  /// lr d
  T operator()(T g, T& m, T& v) const {
    m += one_minus_beta1 * (g - m);
    v += one_minus_beta2 * (g * g - v);
    return step_size * (m / (std::sqrt(v) * root_correction + eps));
  }

  T one_minus_beta1, one_minus_beta2;
  T step_size;        // lr / (1 - b1^t)
  T root_correction;  // 1 / sqrt(1 - b2^t)
  T eps;
};

/// w -= lr_t d, with g + wd w for the gradient: the decay passes through the moments, and large
/// gradients weaken it.
template <class T>
struct Adam {
  static constexpr OptimizerTraits kTraits = {
      .moments = {"m", "v"}, .decoupled_decay = false, .uses_eps = true};

  Adam(const OptimConfig& c, double lr, int64_t t)
      : direction(c, lr, t), decay(static_cast<T>(c.weight_decay)) {}

  T operator()(T g, T w, T decay_of_w, T& m, T& v) const {
    return direction(g + decay_of_w * w, m, v);
  }

  AdamDirection<T> direction;
  T decay;
};

}  // namespace ballast
