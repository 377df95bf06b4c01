#include "layers/norm.h"

#include <cmath>

namespace ballast {

Norm::Norm(const NormConfig& config, ParameterStore& store, const std::string& name, int64_t width)
    : config_(config), store_(&store) {
  const auto add_weight = [&](bool is_offset) {
    if (!config.weight) return;
    weight_ = &store.add(name + ".weight", Shape{width}, is_offset ? Role::offset : Role::norm);
  };
  const auto add_bias = [&] {
    if (config.bias) bias_ = &store.add(name + ".bias", Shape{width}, Role::bias);
  };
  switch (config.kind) {
    case NormKind::layernorm:
      add_weight(config.unit_offset);
      add_bias();
      break;
    case NormKind::rmsnorm:
      add_weight(config.unit_offset);
      break;
    case NormKind::scalenorm:
      weight_ = &store.add(name + ".weight", Shape{1}, Role::norm);
      weight_->initial = std::sqrt(static_cast<double>(width));
      break;
    case NormKind::dyt:
      alpha_ = &store.add(name + ".alpha", Shape{1}, Role::norm);
      alpha_->initial = 0.5;
      add_weight(false);
      add_bias();
      break;
    case NormKind::none:
      break;
  }
}

Var Norm::on_tape(Tape& tape, Parameter* p) const {
  return p != nullptr ? tape.parameter(*store_, *p) : Var{};
}

Var Norm::operator()(Tape& tape, Var x) const {
  const Var weight = on_tape(tape, weight_);
  const Var bias = on_tape(tape, bias_);
  switch (config_.kind) {
    case NormKind::layernorm:
      return layer_norm(tape, x, weight, bias, config_.eps, config_.unit_offset);
    case NormKind::rmsnorm:
      return rms_norm(tape, x, weight, config_.eps, config_.unit_offset);
    case NormKind::scalenorm:
      return scale_norm(tape, x, weight, config_.eps);
    case NormKind::dyt:
      return dyt(tape, x, on_tape(tape, alpha_), weight, bias);
    case NormKind::none:
      return x;
  }
  throw InternalError("internal error: unknown norm");
}

SumAndNorm Norm::of_sum(Tape& tape, Var x, Var branch) const {
  const Var weight = on_tape(tape, weight_);
  const Var bias = on_tape(tape, bias_);
  switch (config_.kind) {
    case NormKind::layernorm:
      return add_layer_norm(tape, x, branch, weight, bias, config_.eps, config_.unit_offset);
    case NormKind::rmsnorm:
      return add_rms_norm(tape, x, branch, weight, config_.eps, config_.unit_offset);
    case NormKind::scalenorm:
      return add_scale_norm(tape, x, branch, weight, config_.eps);
    case NormKind::dyt:
      return add_dyt(tape, x, branch, on_tape(tape, alpha_), weight, bias);
    case NormKind::none: {
      const Var sum = add(tape, x, branch);
      return {sum, sum};
    }
  }
  throw InternalError("internal error: unknown norm");
}

}  // namespace ballast
