// The float64 gradient checks of all operations. Each tests/autograd/ops/<op>_test.cpp contributes
// its cases through one function; a coverage test compares what they record with kOpNames.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "core/random.h"

namespace ballast::test {

struct GradcheckCase {
  std::string name;
  std::function<void(ParameterStore&)> declare;       ///< inputs, as parameters
  std::function<Var(Tape&, ParameterStore&)> output;  ///< the operation, of any shape
};

/// Fills every parameter with standard normals that depend on its name and the seed.
inline void fill_normal(ParameterStore& store, uint64_t seed, double scale = 1.0) {
  for (Parameter& p : store.parameters()) {
    RandomStream random(seed, hash_name(p.name));
    dispatch(store.dtype(), [&]<class T>() {
      for (int64_t i = 0; i < p.value.size(); ++i)
        p.value.data<T>()[i] = static_cast<T>(scale * random.normal());
    });
  }
}

inline Var parameter(Tape& tape, ParameterStore& store, const char* name) {
  return tape.parameter(store, *store.find(name));
}

/// Any value as a scalar: fixed random coefficients, so that no gradient vanishes by symmetry.
inline Var to_scalar(Tape& tape, Var y) {
  const int64_t n = tape.value(y).size();
  auto* coefficients = tape.allocate_array<double>(n);
  RandomStream random(7, 7);
  for (int64_t i = 0; i < n; ++i) coefficients[i] = random.normal();
  return weighted_sum(tape, y, coefficients);
}

inline GradcheckReport run(const GradcheckCase& c, const GradcheckOptions& options = {}) {
  ParameterStore store;
  c.declare(store);
  store.allocate(Dtype::f64);
  fill_normal(store, 11);
  return gradcheck(
      store,
      [&](Tape& tape) {
        const Var y = c.output(tape, store);
        return tape.value(y).shape == Shape{1} ? y : to_scalar(tape, y);
      },
      options);
}

using GradcheckCases = std::vector<GradcheckCase>;
void add_linear_cases(GradcheckCases& cases);
void add_residual_cases(GradcheckCases& cases);
void add_embedding_cases(GradcheckCases& cases);
void add_norm_cases(GradcheckCases& cases);
void add_activation_cases(GradcheckCases& cases);
void add_rope_cases(GradcheckCases& cases);
void add_attention_cases(GradcheckCases& cases);
void add_dropout_cases(GradcheckCases& cases);
void add_loss_cases(GradcheckCases& cases);
void add_scaling_cases(GradcheckCases& cases);
void add_qk_norm_cases(GradcheckCases& cases);
void add_t5_bias_cases(GradcheckCases& cases);

inline constexpr std::array kGradcheckGroups = {
    add_linear_cases,     add_residual_cases, add_embedding_cases, add_norm_cases,
    add_activation_cases, add_rope_cases,     add_attention_cases, add_dropout_cases,
    add_loss_cases,       add_scaling_cases,  add_qk_norm_cases,   add_t5_bias_cases};

inline GradcheckCases all_gradcheck_cases() {
  GradcheckCases cases;
  for (const auto add_cases : kGradcheckGroups) add_cases(cases);
  return cases;
}

}  // namespace ballast::test
