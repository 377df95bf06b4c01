#include "layers/mlp.h"

namespace ballast {

std::vector<Projection::Part> mlp_inputs(const ModelConfig& c, const std::string& name) {
  std::vector<Projection::Part> parts;
  if (c.ffn.gated) parts.push_back({name + ".w_gate", c.d_ff(), c.bias.ffn});
  parts.push_back({name + ".w_up", c.d_ff(), c.bias.ffn});
  return parts;
}

Mlp::Mlp(const ModelConfig& c, ParameterStore& store, const std::string& name)
    : activation_(c.ffn.activation),
      gated_(c.ffn.gated),
      out_(Projection::branch_end(store, {name + ".w_down", c.d_model, c.bias.ffn}, c.d_ff())) {}

Var Mlp::operator()(Tape& tape, Var hidden, Columns columns) const {
  return out_(tape, gated_ ? glu(tape, hidden, activation_, columns)
                           : activation(tape, hidden, activation_, columns));
}

}  // namespace ballast
