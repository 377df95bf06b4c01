#include "autograd/ops.h"
#include "core/kernels/norm.h"

namespace ballast {

namespace {

// With a branch, sum = x + branch is a second output and the norm is taken of the sum.
struct RmsNorm final : Node {
  Var x, branch, weight, sum, y;
  double eps = 0.0;
  bool unit_offset = false;
  Tensor rstd;

  const char* name() const override { return branch.defined() ? "add_rms_norm" : "rms_norm"; }
  bool keeps_output() const override { return branch.defined(); }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      const T* w = weight.defined() ? tape.value(weight).data<T>() : nullptr;
      T* out = tape.value(y).data<T>();
      const int64_t rows = in.shape.rows();
      const int64_t c = in.shape.back();
      if (branch.defined()) {
        add_rms_norm_forward(in.data<T>(), tape.value(branch).data<T>(), w, offset<T>(),
                             static_cast<T>(eps), rows, c, tape.value(sum).data<T>(), out,
                             rstd.data<T>());
      } else {
        rms_norm_forward(in.data<T>(), w, offset<T>(), static_cast<T>(eps), rows, c, out,
                         rstd.data<T>());
      }
    });
  }

  void backward(Tape& tape) override {
    const Var normed = branch.defined() ? sum : x;
    if (const Tensor dy = tape.output_grad(y); dy.defined()) {
      dispatch(tape.dtype(), [&]<class T>() {
        const Tensor& in = tape.value(normed);
        const T* w = weight.defined() ? tape.value(weight).data<T>() : nullptr;
        const GradRef dx = branch.defined() ? tape.open_grad(sum) : tape.grad(x);
        const GradRef dw = tape.grad(weight);
        rms_norm_backward(dy.data<T>(), in.data<T>(), w, offset<T>(), rstd.data<T>(),
                          in.shape.rows(), in.shape.back(), dx.data<T>(), dx.accumulate,
                          dw.data<T>(), dw.accumulate);
      });
    }
    if (branch.defined()) {
      tape.pass_grad(sum, branch);
      tape.pass_grad(sum, x);
    }
  }

 private:
  // The gain is 1 + weight when its offset is stored.
  template <class T>
  T offset() const {
    return unit_offset ? T(1) : T(0);
  }
};

SumAndNorm record(Tape& tape, Var x, Var branch, Var weight, double eps, bool unit_offset) {
  const Shape& in = tape.value(x).shape;
  const char* op = branch.defined() ? "[add_rms_norm]" : "[rms_norm]";
  check(!branch.defined() || tape.value(branch).shape == in, op, " x is ", in,
        " but the branch has another shape");
  check(!weight.defined() || tape.value(weight).shape == Shape{in.back()}, op, " weight has ",
        weight.defined() ? tape.value(weight).size() : 0, " elements but x has last dimension ",
        in.back());
  check(weight.defined() || !unit_offset, op, " unit_offset needs a weight");
  auto& node = tape.make<RmsNorm>();
  node.x = x;
  node.branch = branch;
  node.weight = weight;
  node.eps = eps;
  node.unit_offset = unit_offset;
  node.rstd = tape.saved(in.rows());
  if (branch.defined()) node.sum = tape.output_in_place(node, branch, {x, branch});
  node.y = tape.output(node, in, {branch.defined() ? node.sum : x, weight});
  tape.run(node);
  return {node.sum, node.y};
}

}  // namespace

Var rms_norm(Tape& tape, Var x, Var weight, double eps, bool unit_offset) {
  return record(tape, x, {}, weight, eps, unit_offset).normed;
}

SumAndNorm add_rms_norm(Tape& tape, Var x, Var branch, Var weight, double eps, bool unit_offset) {
  check(branch.defined(), "[add_rms_norm] the branch is missing");
  return record(tape, x, branch, weight, eps, unit_offset);
}

}  // namespace ballast
