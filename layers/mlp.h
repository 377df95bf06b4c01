// The feed-forward branch: plain down(act(up(x))) or gated down(act(gate(x)) * up(x)).
#pragma once

#include <string>

#include "layers/model_config.h"
#include "layers/projection.h"

namespace ballast {

class Mlp {
 public:
  /// Declares `name`.{w_gate (gated), w_up, w_down}.
  Mlp(const ModelConfig& config, ParameterStore& store, const std::string& name);

  /// x: (..., D), returns (..., D).
  Var operator()(Tape& tape, Var x) const;

 private:
  ActivationKind activation_;
  bool gated_;
  Projection in_, out_;
};

}  // namespace ballast
