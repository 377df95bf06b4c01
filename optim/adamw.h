// AdamW: one pass over values, gradients and both moments.
#pragma once

#include <vector>

#include "optim/chunks.h"
#include "optim/optimizer.h"

namespace ballast {

/// m = b1 m + (1 - b1) g     v = b2 v + (1 - b2) g^2     d = m/(1 - b1^t) / (sqrt(v/(1 - b2^t)) +
/// eps) coupled:      w -= lr_t (d + wd w)                  (Loshchilov & Hutter 2017, as PyTorch
/// has it) independent:  w -= lr_t/lr (lr d + wd w)            (Wortsman et al. 2023, as their code
/// has it) t = 1, 2, … counts updates; wd is 0 for parameters in `no_decay`; g is scaled before all
/// else.
class AdamW final : public Optimizer {
 public:
  AdamW(const OptimConfig& config, ParameterStore& store);

  void step(double lr, double grad_scale, UpdateNorms* norms) override;
  std::vector<StateTensor> state() override;

 private:
  template <class T>
  void step_as(double lr, double grad_scale, bool with_norms);

  OptimConfig config_;
  ParameterStore& store_;
  Chunks chunks_;
  std::vector<char> decays_;  // for each parameter
  Slab m_, v_;
  std::vector<double> update_sums_, weight_sums_;  // for each chunk
  std::vector<double> sums_;                       // for each parameter
};

}  // namespace ballast
