#include "layers/projection.h"

#include <vector>

namespace ballast {

Projection::Projection(ParameterStore& store, std::span<const Part> parts, int64_t in,
                       bool has_bias)
    : store_(&store) {
  std::vector<ParameterStore::Declaration> weights, biases;
  for (const Part& part : parts) {
    weights.push_back({part.name + ".weight", Shape{part.width, in}});
    biases.push_back({part.name + ".bias", Shape{part.width}});
  }
  weight_ = store.add_joined(weights, Role::linear);
  if (has_bias) bias_ = store.add_joined(biases, Role::bias);
}

Projection Projection::branch_end(ParameterStore& store, const Part& part, int64_t in,
                                  bool has_bias) {
  Projection projection(store, {&part, 1}, in, has_bias);
  projection.weight_.parts.front()->ends_branch = true;
  return projection;
}

Var Projection::operator()(Tape& tape, Var x) const {
  return linear(tape, x, tape.parameter(*store_, weight_),
                bias_.defined() ? tape.parameter(*store_, bias_) : Var{});
}

}  // namespace ballast
