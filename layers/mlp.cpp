#include "layers/mlp.h"

#include <vector>

namespace ballast {

namespace {

std::vector<Projection::Part> in_parts(const ModelConfig& c, const std::string& name) {
  std::vector<Projection::Part> parts;
  if (c.ffn.gated) parts.push_back({name + ".w_gate", c.d_ff()});
  parts.push_back({name + ".w_up", c.d_ff()});
  return parts;
}

}  // namespace

Mlp::Mlp(const ModelConfig& c, ParameterStore& store, const std::string& name)
    : activation_(c.ffn.activation),
      gated_(c.ffn.gated),
      in_(store, in_parts(c, name), c.d_model, c.bias.ffn),
      out_(Projection::branch_end(store, {name + ".w_down", c.d_model}, c.d_ff(), c.bias.ffn)) {}

Var Mlp::operator()(Tape& tape, Var x) const {
  const Var hidden = in_(tape, x);
  return out_(tape,
              gated_ ? glu(tape, hidden, activation_) : activation(tape, hidden, activation_));
}

}  // namespace ballast
