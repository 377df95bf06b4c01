#include "layers/projection.h"

#include <vector>

namespace ballast {

Projection::Projection(ParameterStore& store, std::span<const Part> parts, int64_t in)
    : store_(&store) {
  std::vector<ParameterStore::Declaration> weights, biases;
  int64_t width = 0;
  int64_t bias_end = 0;
  for (const Part& part : parts) {
    weights.push_back({part.name + ".weight", Shape{part.width, in}});
    if (part.has_bias) {
      if (biases.empty()) bias_columns_.begin = bias_end = width;
      check_internal(bias_end == width, "parts with a bias are not neighbours");
      biases.push_back({part.name + ".bias", Shape{part.width}});
      bias_end += part.width;
      bias_columns_.width += part.width;
    }
    width += part.width;
  }
  weight_ = store.add_joined(weights, Role::linear);
  if (!biases.empty()) bias_ = store.add_joined(biases, Role::bias);
}

Projection Projection::branch_end(ParameterStore& store, const Part& part, int64_t in) {
  Projection projection(store, {&part, 1}, in);
  projection.weight_.parts.front()->ends_branch = true;
  return projection;
}

Var Projection::operator()(Tape& tape, Var x) const {
  return linear(tape, x, tape.parameter(*store_, weight_),
                bias_.defined() ? tape.parameter(*store_, bias_) : Var{}, bias_columns_);
}

}  // namespace ballast
