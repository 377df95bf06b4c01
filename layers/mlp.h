// The feed-forward branch: plain down(act(up(x))) or gated down(act(gate(x)) * up(x)).
#pragma once

#include <string>
#include <vector>

#include "layers/model_config.h"
#include "layers/projection.h"

namespace ballast {

/// w_gate (gated) and w_up, which read the branch's input.
std::vector<Projection::Part> mlp_inputs(const ModelConfig& config, const std::string& name);

class Mlp {
 public:
  /// Declares `name`.w_down. The maps of mlp_inputs() are the caller's.
  Mlp(const ModelConfig& config, ParameterStore& store, const std::string& name);

  /// hidden: (..., W) with gate and up, or up alone, in `columns`; returns (..., D).
  Var operator()(Tape& tape, Var hidden, Columns columns = {}) const;

 private:
  ActivationKind activation_;
  bool gated_;
  Projection out_;
};

}  // namespace ballast
