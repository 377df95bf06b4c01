// One optimisation step: gradients of all micro-batches, norms, clipping, update.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "layers/model.h"
#include "optim/grad_norm.h"
#include "optim/optimizer.h"
#include "train/config/run_config.h"
#include "train/data/batch.h"

namespace ballast {

/// What a step measured; the loss and the gradient are those before its update.
struct StepResult {
  double loss = 0.0;  ///< ce + z_loss
  double ce = 0.0;    ///< mean cross-entropy, nats a token
  double z_loss = 0.0;
  double lse_mean = 0.0;   ///< mean logsumexp of the logits
  double max_logit = 0.0;  ///< largest logit of the batch
  double lr = 0.0;
  double grad_norm = 0.0;  ///< global, before clipping
  double clip_scale = 1.0;
};

/// What was not finite, and where; found before the update.
struct NonFinite {
  std::string signal;  ///< train/loss or optim/grad_norm
  double value = 0.0;
  std::string parameter;  ///< the first whose gradient is not finite; empty if all are
};

class TrainStep {
 public:
  /// All references must outlive this object; the store is allocated with gradients.
  TrainStep(const RunConfig& config, Model& model, ParameterStore& store, Optimizer& optimizer,
            const BatchSampler& sampler, Tape& tape);

  /// Loss and gradients of batch(step), summed over the micro-batches. Changes no weight.
  StepResult measure(int64_t step);
  /// What of the last measurement is NaN or infinite, if anything.
  std::optional<NonFinite> find_nonfinite(const StepResult& result) const;
  /// The update of the last measurement, with its learning rate and clipping.
  void update(const StepResult& result, bool with_norms);

  const GradNorm& grad_norm() const { return grad_norm_; }
  const UpdateNorms& update_norms() const { return update_norms_; }

 private:
  const RunConfig& config_;
  Model& model_;
  ParameterStore& store_;
  Optimizer& optimizer_;
  const BatchSampler& sampler_;
  Tape& tape_;
  GradNorm grad_norm_;
  UpdateNorms update_norms_;
  Batch batch_;
};

/// Names the first value of the forward pass on batch(step) that is not finite, as
/// "blocks.7.ffn:glu", by running it again under an observer; empty if all are finite.
std::string first_nonfinite_value(const RunConfig& config, Model& model, Tape& tape,
                                  const BatchSampler& sampler, int64_t step);

}  // namespace ballast
