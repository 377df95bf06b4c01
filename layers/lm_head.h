// From the residual stream to logits, or straight to the loss.
#pragma once

#include <optional>

#include "layers/norm.h"

namespace ballast {

class LmHead {
 public:
  /// Declares final_norm and, unless tied, head.weight; head.bias as configured.
  LmHead(const ModelConfig& config, ParameterStore& store, Parameter& embedding_table);

  /// softcap(scale * (W x + b)).   x: (B, T, D), returns (B, T, V).
  Var logits(Tape& tape, Var x) const;
  LmLoss loss(Tape& tape, Var x, const int32_t* targets, const LossOptions& options) const;

 private:
  Var normed(Tape& tape, Var x) const;
  Var bias(Tape& tape) const;

  const ParameterStore* store_;
  std::optional<Norm> norm_;
  Parameter* weight_;
  Parameter* bias_ = nullptr;
  double scale_, softcap_;
};

}  // namespace ballast
