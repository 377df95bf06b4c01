#include "optim/optimizer.h"

#include <algorithm>

#include "optim/adam.h"
#include "optim/adamw.h"
#include "optim/lion.h"
#include "optim/sgd.h"

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

namespace {

// The one list of rules: fn is called with the rule of the kind.
template <class F>
auto with_rule(OptimizerKind kind, F&& fn) {
  switch (kind) {
    case OptimizerKind::adamw:
      return fn.template operator()<AdamW>();
    case OptimizerKind::adam:
      return fn.template operator()<Adam>();
    case OptimizerKind::sgd:
      return fn.template operator()<Sgd>();
    case OptimizerKind::lion:
      return fn.template operator()<Lion>();
  }
  throw InternalError("internal error: with_rule met an unknown optimiser");
}

}  // namespace

OptimizerTraits traits_of(OptimizerKind kind) {
  return with_rule(kind, []<template <class> class Rule>() { return Rule<float>::kTraits; });
}

std::unique_ptr<Optimizer> make_optimizer(const OptimConfig& config, ParameterStore& store) {
  validate(config);
  return with_rule(config.kind, [&]<template <class> class Rule>() -> std::unique_ptr<Optimizer> {
    return std::make_unique<Elementwise<Rule>>(config, store);
  });
}

}  // namespace ballast
