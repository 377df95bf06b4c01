#include "layers/norm.h"

namespace ballast {

Norm::Norm(const NormConfig& config, ParameterStore& store, const std::string& name, int64_t width)
    : config_(config), store_(&store) {
  if (config.kind == NormKind::none) return;
  if (config.weight) {
    weight_ =
        &store.add(name + ".weight", Shape{width}, config.unit_offset ? Role::offset : Role::norm);
  }
  if (config.bias && config.kind == NormKind::layernorm) {
    bias_ = &store.add(name + ".bias", Shape{width}, Role::bias);
  }
}

Var Norm::weight(Tape& tape) const {
  return weight_ != nullptr ? tape.parameter(*store_, *weight_) : Var{};
}

Var Norm::bias(Tape& tape) const {
  return bias_ != nullptr ? tape.parameter(*store_, *bias_) : Var{};
}

Var Norm::operator()(Tape& tape, Var x) const {
  switch (config_.kind) {
    case NormKind::layernorm:
      return layer_norm(tape, x, weight(tape), bias(tape), config_.eps, config_.unit_offset);
    case NormKind::rmsnorm:
      return rms_norm(tape, x, weight(tape), config_.eps, config_.unit_offset);
    case NormKind::none:
      return x;
    case NormKind::scalenorm:
    case NormKind::dyt:
      break;
  }
  throw InternalError("internal error: unknown norm");
}

SumAndNorm Norm::of_sum(Tape& tape, Var x, Var branch) const {
  switch (config_.kind) {
    case NormKind::layernorm:
      return add_layer_norm(tape, x, branch, weight(tape), bias(tape), config_.eps,
                            config_.unit_offset);
    case NormKind::rmsnorm:
      return add_rms_norm(tape, x, branch, weight(tape), config_.eps, config_.unit_offset);
    case NormKind::none: {
      const Var sum = add(tape, x, branch);
      return {sum, sum};
    }
    case NormKind::scalenorm:
    case NormKind::dyt:
      break;
  }
  throw InternalError("internal error: unknown norm");
}

}  // namespace ballast
