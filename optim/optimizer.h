// What every optimiser is to the training loop and to checkpoints.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/parameter.h"
#include "optim/optim_config.h"

namespace ballast {

/// What an update did to each parameter, in the order of declaration.
struct UpdateNorms {
  std::vector<double> update;  ///< ||w_after - w_before||_2, of the stored (rounded) values
  std::vector<double> weight;  ///< ||w_before||_2
  double global = 0.0;         ///< ||w_after - w_before||_2 of all parameters together
};

/// RMS(update) / RMS(weight); 0 for no update, infinite for an update of weights that were all 0.
double update_ratio(double update_norm, double weight_norm);

/// A tensor of the optimiser's state: "m.blocks.0.attn.wq.weight".
struct StateTensor {
  std::string name;
  Tensor value;
};

/// What is known of an optimiser before it exists.
struct OptimizerTraits {
  std::array<std::string_view, 2>
      moments;           ///< what is kept for each weight, as checkpoints name it
  bool decoupled_decay;  ///< optim.decay says how; else the decay is part of the gradient
  bool uses_eps;

  constexpr size_t n_moments() const { return moments[1].empty() ? 1 : 2; }
};
OptimizerTraits traits_of(OptimizerKind kind);

/// Whether weight decay reaches parameters of this role.
bool decays(const OptimConfig& config, Role role);

class Optimizer {
 public:
  Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer() = default;

  /// One update of the store's values from its gradients, each first multiplied by `grad_scale`
  /// (clipping). If `norms` is given it receives what the update did; its vectors are sized by the
  /// first call, later calls allocate nothing. The bits do not depend on the number of threads.
  virtual void step(double lr, double grad_scale = 1.0, UpdateNorms* norms = nullptr) = 0;

  /// The tensors that, with the step counter, continue a run: views, to be read or written.
  virtual std::vector<StateTensor> state() = 0;

  /// Updates made so far; bias correction depends on it.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 protected:
  int64_t steps_ = 0;
};

/// The store must be allocated with gradients and outlive the optimiser.
/// Throws std::invalid_argument as validate(config) does.
std::unique_ptr<Optimizer> make_optimizer(const OptimConfig& config, ParameterStore& store);

}  // namespace ballast
