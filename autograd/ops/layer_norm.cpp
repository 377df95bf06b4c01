#include "autograd/ops.h"
#include "core/kernels/norm.h"

namespace ballast {

namespace {

// With a branch, sum = x + branch is a second output and the norm is taken of the sum.
struct LayerNorm final : Node {
  Var x, branch, weight, bias, sum, y;
  double eps = 0.0;
  bool unit_offset = false;
  Tensor mean, rstd;

  const char* name() const override { return branch.defined() ? "add_layer_norm" : "layer_norm"; }
  bool keeps_output() const override { return branch.defined(); }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      const T* w = weight.defined() ? tape.value(weight).data<T>() : nullptr;
      const T* b = bias.defined() ? tape.value(bias).data<T>() : nullptr;
      T* out = tape.value(y).data<T>();
      const int64_t rows = in.shape.rows();
      const int64_t c = in.shape.back();
      if (branch.defined()) {
        add_layer_norm_forward(in.data<T>(), tape.value(branch).data<T>(), w, b, offset<T>(),
                               static_cast<T>(eps), rows, c, tape.value(sum).data<T>(), out,
                               mean.data<T>(), rstd.data<T>());
      } else {
        layer_norm_forward(in.data<T>(), w, b, offset<T>(), static_cast<T>(eps), rows, c, out,
                           mean.data<T>(), rstd.data<T>());
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
        const GradRef db = tape.grad(bias);
        layer_norm_backward(dy.data<T>(), in.data<T>(), w, offset<T>(), mean.data<T>(),
                            rstd.data<T>(), in.shape.rows(), in.shape.back(), dx.data<T>(),
                            dx.accumulate, dw.data<T>(), dw.accumulate, db.data<T>(),
                            db.accumulate);
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

SumAndNorm record(Tape& tape, Var x, Var branch, Var weight, Var bias, double eps,
                  bool unit_offset) {
  const Shape& in = tape.value(x).shape;
  const char* op = branch.defined() ? "[add_layer_norm]" : "[layer_norm]";
  check(!branch.defined() || tape.value(branch).shape == in, op, " x is ", in,
        " but the branch has another shape");
  for (const Var p : {weight, bias}) {
    check(!p.defined() || tape.value(p).shape == Shape{in.back()}, op, " weight or bias has ",
          p.defined() ? tape.value(p).size() : 0, " elements but x has last dimension ", in.back());
  }
  check(weight.defined() || !unit_offset, op, " unit_offset needs a weight");
  auto& node = tape.make<LayerNorm>();
  node.x = x;
  node.branch = branch;
  node.weight = weight;
  node.bias = bias;
  node.eps = eps;
  node.unit_offset = unit_offset;
  node.mean = tape.saved(in.rows());
  node.rstd = tape.saved(in.rows());
  if (branch.defined()) node.sum = tape.output_in_place(node, branch, {x, branch});
  node.y = tape.output(node, in, {branch.defined() ? node.sum : x, weight, bias});
  tape.run(node);
  return {node.sum, node.y};
}

}  // namespace

Var layer_norm(Tape& tape, Var x, Var weight, Var bias, double eps, bool unit_offset) {
  return record(tape, x, {}, weight, bias, eps, unit_offset).normed;
}

SumAndNorm add_layer_norm(Tape& tape, Var x, Var branch, Var weight, Var bias, double eps,
                          bool unit_offset) {
  check(branch.defined(), "[add_layer_norm] the branch is missing");
  return record(tape, x, branch, weight, bias, eps, unit_offset);
}

}  // namespace ballast
