#include "optim/optimizer.h"

#include <algorithm>

#include "optim/adamw.h"

namespace ballast {

double update_ratio(double update_norm, double weight_norm) {
  return update_norm == 0.0 ? 0.0 : update_norm / weight_norm;
}

bool decays(const OptimConfig& config, Role role) {
  const auto exempt = [&](DecayGroup group) {
    return std::find(config.no_decay.begin(), config.no_decay.end(), group) !=
           config.no_decay.end();
  };
  switch (role) {
    case Role::linear:
      return true;
    case Role::head:
      return !exempt(DecayGroup::head);
    case Role::embedding:
    case Role::position:
      return !exempt(DecayGroup::embedding);
    case Role::norm:
    case Role::offset:
      return !exempt(DecayGroup::norm);
    case Role::bias:
      return !exempt(DecayGroup::bias);
  }
  throw InternalError("internal error: decays met an unknown role");
}

std::unique_ptr<Optimizer> make_optimizer(const OptimConfig& config, ParameterStore& store) {
  validate(config);
  switch (config.kind) {
    case OptimizerKind::adamw:
      return std::make_unique<AdamW>(config, store);
  }
  throw InternalError("internal error: make_optimizer met an unknown kind");
}

}  // namespace ballast
