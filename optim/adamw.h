// AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101).
#pragma once

#include "optim/adam.h"

namespace ballast {

/// d as Adam has it, of the gradient alone     w -= lr_t d + s_t w
/// s_t = lr_t wd (coupled) or (lr_t / lr) wd (independent).
template <class T>
struct AdamW {
  static constexpr OptimizerTraits kTraits = {
      .moments = {"m", "v"}, .decoupled_decay = true, .uses_eps = true};

  AdamW(const OptimConfig& c, double lr, int64_t t)
      : direction(c, lr, t), decay(static_cast<T>(decoupled_decay(c, lr))) {}

  T operator()(T g, T w, T decay_of_w, T& m, T& v) const {
    return direction(g, m, v) + decay_of_w * w;
  }

  AdamDirection<T> direction;
  T decay;
};

}  // namespace ballast
