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

Var Norm::operator()(Tape& tape, Var x) const {
  const Var weight = weight_ != nullptr ? tape.parameter(*store_, *weight_) : Var{};
  const Var bias = bias_ != nullptr ? tape.parameter(*store_, *bias_) : Var{};
  switch (config_.kind) {
    case NormKind::layernorm:
      return layer_norm(tape, x, weight, bias, config_.eps, config_.unit_offset);
    case NormKind::rmsnorm:
      return rms_norm(tape, x, weight, config_.eps, config_.unit_offset);
    case NormKind::none:
      return x;
  }
  throw InternalError("internal error: unknown norm");
}

}  // namespace ballast
