#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

void add_residual_cases(GradcheckCases& cases) {
  const auto declare = [](ParameterStore& s) {
    s.add("x", Shape{2, 3, 4}, Role::linear);
    s.add("weight", Shape{4, 4}, Role::linear);
  };
  cases.push_back({"add of two leaves", declare, [](Tape& tape, ParameterStore& s) {
                     return add(tape, parameter(tape, s, "x"), parameter(tape, s, "x"));
                   }});
  cases.push_back(
      {"a residual step in place", declare, [](Tape& tape, ParameterStore& s) {
         const Var x = parameter(tape, s, "x");
         const Var w = parameter(tape, s, "weight");
         const Var h = add(tape, x, linear(tape, activation(tape, x, ActivationKind::silu), w));
         return add(tape, h, linear(tape, activation(tape, h, ActivationKind::gelu), w));
       }});
  cases.push_back({"two branches from one value (a parallel block)", declare,
                   [](Tape& tape, ParameterStore& s) {
                     const Var x = parameter(tape, s, "x");
                     const Var w = parameter(tape, s, "weight");
                     const Var y = activation(tape, x, ActivationKind::silu);
                     return add(tape, add(tape, x, linear(tape, y, w)), linear(tape, y, w));
                   }});
}

TEST_CASE("add works in the branch's memory when nobody else reads it", "[autograd][add]") {
  ParameterStore store;
  store.add("x", Shape{1, 2, 2}, Role::linear);
  store.add("w", Shape{2, 2}, Role::linear);
  store.allocate(Dtype::f64);
  fill_normal(store, 3);
  Tape tape(Dtype::f64);
  const Var x = parameter(tape, store, "x");
  const Var branch = linear(tape, x, parameter(tape, store, "w"));
  const void* memory = tape.value(branch).memory;
  CHECK(tape.value(add(tape, x, branch)).memory == memory);

  const Var other = linear(tape, x, parameter(tape, store, "w"));
  const Var reader = activation(tape, other, ActivationKind::relu);
  CHECK(tape.value(add(tape, reader, other)).memory != tape.value(other).memory);
}

TEST_CASE("a value that was changed in place cannot be read again", "[autograd][add]") {
  ParameterStore store;
  store.add("x", Shape{1, 2, 2}, Role::linear);
  store.add("w", Shape{2, 2}, Role::linear);
  store.allocate(Dtype::f64);
  fill_normal(store, 3);
  Tape tape(Dtype::f64);
  const Var x = parameter(tape, store, "x");
  const Var branch = linear(tape, x, parameter(tape, store, "w"));
  add(tape, x, branch);
  CHECK_THROWS_AS(activation(tape, branch, ActivationKind::relu), InternalError);
}

}  // namespace ballast::test
