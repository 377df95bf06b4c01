// Normalisation of the residual stream: one class, one case a kind.
#pragma once

#include <string>

#include "autograd/ops.h"
#include "core/parameter.h"
#include "layers/model_config.h"

namespace ballast {

class Norm {
 public:
  /// Declares `name`.{weight,bias,alpha} as kind and configuration ask for. width: C.
  Norm(const NormConfig& config, ParameterStore& store, const std::string& name, int64_t width);

  /// x: (..., C), returns (..., C). Kind none returns x itself.
  Var operator()(Tape& tape, Var x) const;

  /// The residual sum x + branch and its norm, in one pass over memory.
  SumAndNorm of_sum(Tape& tape, Var x, Var branch) const;

 private:
  Var on_tape(Tape& tape, Parameter* p) const;

  NormConfig config_;
  const ParameterStore* store_;
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;
  Parameter* alpha_ = nullptr;
};

}  // namespace ballast
