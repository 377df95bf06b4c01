#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

void add_norm_cases(GradcheckCases& cases) {
  for (const Shape shape : {Shape{2, 3, 8}, Shape{1, 1, 5}, Shape{1, 70, 3}}) {
    const int64_t c = shape.back();
    for (const bool has_weight : {false, true}) {
      for (const bool unit_offset : {false, true}) {
        if (unit_offset && !has_weight) continue;
        for (const bool has_branch : {false, true}) {
          const auto declare = [=](ParameterStore& s) {
            s.add("x", shape, Role::linear);
            if (has_branch) s.add("branch", shape, Role::linear);
            if (has_weight) s.add("weight", Shape{c}, Role::norm);
            s.add("bias", Shape{c}, Role::bias);
          };
          const auto weight = [=](Tape& tape, ParameterStore& s) {
            return has_weight ? parameter(tape, s, "weight") : Var{};
          };
          const std::string what =
              concat(" ", shape, has_weight ? " weight" : "", unit_offset ? " unit_offset" : "");
          // Both outputs of the fused operations are read, so both of their gradients count.
          const auto both = [](Tape& tape, SumAndNorm y) { return add(tape, y.sum, y.normed); };
          if (has_branch) {
            cases.push_back({"add_rms_norm" + what, declare, [=](Tape& tape, ParameterStore& s) {
                               return both(tape, add_rms_norm(tape, parameter(tape, s, "x"),
                                                              parameter(tape, s, "branch"),
                                                              weight(tape, s), 1e-5, unit_offset));
                             }});
            cases.push_back(
                {"add_layer_norm" + what, declare, [=](Tape& tape, ParameterStore& s) {
                   return both(tape, add_layer_norm(tape, parameter(tape, s, "x"),
                                                    parameter(tape, s, "branch"), weight(tape, s),
                                                    parameter(tape, s, "bias"), 1e-5, unit_offset));
                 }});
          } else {
            cases.push_back({"rms_norm" + what, declare, [=](Tape& tape, ParameterStore& s) {
                               return rms_norm(tape, parameter(tape, s, "x"), weight(tape, s), 1e-5,
                                               unit_offset);
                             }});
            cases.push_back({"layer_norm" + what, declare, [=](Tape& tape, ParameterStore& s) {
                               return layer_norm(tape, parameter(tape, s, "x"), weight(tape, s),
                                                 parameter(tape, s, "bias"), 1e-5, unit_offset);
                             }});
          }
        }
      }
    }
  }
  for (const Shape shape : {Shape{2, 3, 8}, Shape{1, 1, 5}, Shape{1, 70, 3}}) {
    for (const bool has_branch : {false, true}) {
      const auto both = [](Tape& tape, SumAndNorm y) { return add(tape, y.sum, y.normed); };
      const std::string what = concat(" ", shape);
      // With an eps of 2, some rows are shorter and some longer; none is near it.
      for (const double eps : {1e-5, 2.0}) {
        const auto declare = [=](ParameterStore& s) {
          s.add("x", shape, Role::linear);
          if (has_branch) s.add("branch", shape, Role::linear);
          s.add("weight", Shape{1}, Role::norm);
        };
        cases.push_back(
            {concat(has_branch ? "add_scale_norm" : "scale_norm", what, " eps ", eps), declare,
             [=](Tape& tape, ParameterStore& s) {
               const Var x = parameter(tape, s, "x"), w = parameter(tape, s, "weight");
               return has_branch ? both(tape, add_scale_norm(tape, x, parameter(tape, s, "branch"),
                                                             w, eps))
                                 : scale_norm(tape, x, w, eps);
             }});
      }
      for (const bool is_affine : {false, true}) {
        const auto declare = [=](ParameterStore& s) {
          s.add("x", shape, Role::linear);
          if (has_branch) s.add("branch", shape, Role::linear);
          s.add("alpha", Shape{1}, Role::norm);
          if (is_affine) s.add("weight", Shape{shape.back()}, Role::norm);
          if (is_affine) s.add("bias", Shape{shape.back()}, Role::bias);
        };
        cases.push_back(
            {concat(has_branch ? "add_dyt" : "dyt", what, is_affine ? " affine" : ""), declare,
             [=](Tape& tape, ParameterStore& s) {
               const Var x = parameter(tape, s, "x"), alpha = parameter(tape, s, "alpha");
               const Var w = is_affine ? parameter(tape, s, "weight") : Var{};
               const Var b = is_affine ? parameter(tape, s, "bias") : Var{};
               return has_branch
                          ? both(tape, add_dyt(tape, x, parameter(tape, s, "branch"), alpha, w, b))
                          : dyt(tape, x, alpha, w, b);
             }});
      }
    }
  }
  cases.push_back({"add_rms_norm of which only the norm is read",
                   [](ParameterStore& s) {
                     s.add("x", Shape{1, 2, 4}, Role::linear);
                     s.add("branch", Shape{1, 2, 4}, Role::linear);
                   },
                   [](Tape& tape, ParameterStore& s) {
                     return add_rms_norm(tape, parameter(tape, s, "x"),
                                         parameter(tape, s, "branch"), {}, 1e-5)
                         .normed;
                   }});
}

TEST_CASE("rms_norm ignores the scale of its input when eps is 0", "[autograd][rms_norm]") {
  double x[] = {1.0, -2.0, 3.0, 0.5};
  double x4[] = {4.0, -8.0, 12.0, 2.0};
  Tape tape(Dtype::f64);
  const Var a = rms_norm(tape, tape.constant({x, Shape{1, 4}, Dtype::f64}), {}, 0.0);
  const Var b = rms_norm(tape, tape.constant({x4, Shape{1, 4}, Dtype::f64}), {}, 0.0);
  for (int i = 0; i < 4; ++i)
    CHECK(tape.value(a).data<double>()[i] == Approx(tape.value(b).data<double>()[i]));
}

TEST_CASE("norms name the sizes that do not fit", "[autograd][rms_norm][layer_norm]") {
  ParameterStore store;
  Parameter& w = store.add("w", Shape{6}, Role::norm);
  store.allocate(Dtype::f32);
  float x[8] = {};
  Tape tape;
  const Var in = tape.constant({x, Shape{1, 8}, Dtype::f32});
  CHECK_THROWS_WITH(rms_norm(tape, in, tape.parameter(store, w), 1e-5),
                    ContainsSubstring("weight has 6 elements but x has last dimension 8"));
  CHECK_THROWS_WITH(layer_norm(tape, in, tape.parameter(store, w), {}, 1e-5),
                    ContainsSubstring("has 6 elements but x has last dimension 8"));
  CHECK_THROWS_WITH(dyt(tape, in, tape.parameter(store, w), {}, {}),
                    ContainsSubstring("[dyt] alpha has 6 elements; expected 1"));
  CHECK_THROWS_WITH(scale_norm(tape, in, {}, 1e-5),
                    ContainsSubstring("[scale_norm] weight has 0 elements; expected 1"));
  CHECK_THROWS_WITH(add_scale_norm(tape, in, {}, {}, 1e-5),
                    ContainsSubstring("[add_scale_norm] the branch is missing"));
}

TEST_CASE("scale_norm gives every row the length g", "[autograd][scale_norm]") {
  double x[] = {3.0, -4.0, 1e-3, 0.0};
  double g = 10.0;
  Tape tape(Dtype::f64);
  const Var y = scale_norm(tape, tape.constant({x, Shape{2, 2}, Dtype::f64}),
                           tape.constant({&g, Shape{1}, Dtype::f64}), 1e-5);
  CHECK(tape.value(y).data<double>()[0] == Approx(6.0));
  CHECK(tape.value(y).data<double>()[1] == Approx(-8.0));
  CHECK(tape.value(y).data<double>()[2] == Approx(10.0));
}

}  // namespace ballast::test
