#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

void add_linear_cases(GradcheckCases& cases) {
  struct Sizes {
    int64_t b, t, c, n;
  };
  for (const Sizes z :
       {Sizes{2, 3, 5, 7}, Sizes{1, 1, 4, 1}, Sizes{1, 9, 1, 3}, Sizes{2, 33, 17, 20}}) {
    for (const bool has_bias : {false, true}) {
      cases.push_back(
          {concat("linear ", z.b, "x", z.t, "x", z.c, " to ", z.n, has_bias ? " with bias" : ""),
           [=](ParameterStore& s) {
             s.add("x", Shape{z.b, z.t, z.c}, Role::linear);
             s.add("weight", Shape{z.n, z.c}, Role::linear);
             if (has_bias) s.add("bias", Shape{z.n}, Role::bias);
           },
           [=](Tape& tape, ParameterStore& s) {
             return linear(tape, parameter(tape, s, "x"), parameter(tape, s, "weight"),
                           has_bias ? parameter(tape, s, "bias") : Var{});
           }});
    }
  }
  cases.push_back({"linear with a bias of some outputs",
                   [](ParameterStore& s) {
                     s.add("x", Shape{2, 5, 4}, Role::linear);
                     s.add("weight", Shape{6, 4}, Role::linear);
                     s.add("bias", Shape{3}, Role::bias);
                   },
                   [](Tape& tape, ParameterStore& s) {
                     return linear(tape, parameter(tape, s, "x"), parameter(tape, s, "weight"),
                                   parameter(tape, s, "bias"), {.begin = 2, .width = 3});
                   }});
  cases.push_back({"linear twice on the same weight accumulates",
                   [](ParameterStore& s) {
                     s.add("x", Shape{1, 3, 4}, Role::linear);
                     s.add("weight", Shape{4, 4}, Role::linear);
                   },
                   [](Tape& tape, ParameterStore& s) {
                     const Var once =
                         linear(tape, parameter(tape, s, "x"), parameter(tape, s, "weight"));
                     return linear(tape, once, parameter(tape, s, "weight"));
                   }});
}

TEST_CASE("linear multiplies by the transposed weight and adds the bias", "[autograd][linear]") {
  ParameterStore store;
  Parameter& w = store.add("w", Shape{2, 3}, Role::linear);
  Parameter& b = store.add("b", Shape{2}, Role::bias);
  store.allocate(Dtype::f32);
  for (int i = 0; i < 6; ++i) w.value.data<float>()[i] = static_cast<float>(i + 1);
  b.value.data<float>()[0] = 10.0F;
  b.value.data<float>()[1] = 20.0F;
  float x[] = {1.0F, 0.0F, -1.0F};
  Tape tape;
  const Var y = linear(tape, tape.constant({x, Shape{1, 1, 3}, Dtype::f32}),
                       tape.parameter(store, w), tape.parameter(store, b));
  CHECK(tape.value(y).shape == Shape{1, 1, 2});
  CHECK(tape.value(y).data<float>()[0] == 8.0F);
  CHECK(tape.value(y).data<float>()[1] == 18.0F);
}

TEST_CASE("a bias of some outputs leaves the others alone", "[autograd][linear]") {
  ParameterStore store;
  Parameter& w = store.add("w", Shape{3, 1}, Role::linear);
  Parameter& b = store.add("b", Shape{1}, Role::bias);
  store.allocate(Dtype::f32);
  for (int i = 0; i < 3; ++i) w.value.data<float>()[i] = static_cast<float>(i + 1);
  b.value.data<float>()[0] = 10.0F;
  float x[] = {1.0F, 2.0F};
  Tape tape;
  const Var input = tape.constant({x, Shape{2, 1}, Dtype::f32});
  const Var y = linear(tape, input, tape.parameter(store, w), tape.parameter(store, b), {1, 1});
  const float* values = tape.value(y).data<float>();
  CHECK(std::vector<float>(values, values + 6) == std::vector<float>{1, 12, 3, 2, 14, 6});
  for (const Columns columns : {Columns{}, Columns{0, 2}, Columns{1, 0}, Columns{3, 1}}) {
    CHECK_THROWS_WITH(
        linear(tape, input, tape.parameter(store, w), tape.parameter(store, b), columns),
        ContainsSubstring("[linear] bias is (1) for"));
  }
}

TEST_CASE("linear names both shapes when they do not fit", "[autograd][linear]") {
  ParameterStore store;
  Parameter& w = store.add("w", Shape{2, 3}, Role::linear);
  store.allocate(Dtype::f32);
  float x[4] = {};
  Tape tape;
  CHECK_THROWS_WITH(
      linear(tape, tape.constant({x, Shape{1, 4}, Dtype::f32}), tape.parameter(store, w)),
      "[linear] x is (1, 4) but weight (2, 3) expects last dimension 3");
}

}  // namespace ballast::test
