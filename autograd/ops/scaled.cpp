#include "autograd/ops.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/scaling.h"

namespace ballast {

namespace {

struct Scaled final : Node {
  Var x, weight, y;
  double factor = 1.0;
  bool is_in_place = false;  // y holds x already: it took over its memory, or a copy of it

  const char* name() const override { return "scaled"; }

  void forward(Tape& tape) override {
    multiply(tape, tape.value(is_in_place ? y : x), tape.value(y));
  }

  void backward(Tape& tape) override {
    if (is_in_place) {
      const Tensor dy = tape.exclusive_output_grad(y);
      multiply(tape, dy, dy);
      tape.pass_grad(y, x);
      return;
    }
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      const GradRef dx = tape.grad(x);
      const GradRef dw = tape.grad(weight);
      scale_columns_backward(tape.output_grad(y).data<T>(), in.data<T>(),
                             tape.value(weight).data<T>(), static_cast<T>(factor), in.shape.rows(),
                             in.shape.back(), dx.data<T>(), dx.accumulate, dw.data<T>(),
                             dw.accumulate);
    });
  }

 private:
  void multiply(Tape& tape, const Tensor& from, const Tensor& to) const {
    dispatch(tape.dtype(), [&]<class T>() {
      if (weight.defined()) {
        scale_columns_forward(from.data<T>(), tape.value(weight).data<T>(), static_cast<T>(factor),
                              from.shape.rows(), from.shape.back(), to.data<T>());
      } else {
        scale(from.data<T>(), static_cast<T>(factor), from.size(), to.data<T>());
      }
    });
  }
};

}  // namespace

Var scaled(Tape& tape, Var x, double factor, Var weight) {
  const Shape in = tape.value(x).shape;
  check(!weight.defined() || tape.value(weight).shape == Shape{in.back()}, "[scaled] weight has ",
        weight.defined() ? tape.value(weight).size() : 0, " elements but x has last dimension ",
        in.back());
  auto& node = tape.make<Scaled>();
  node.x = x;
  node.weight = weight;
  node.factor = factor;
  node.is_in_place = !tape.needs_grad(weight);  // the weight's gradient needs x
  node.y = node.is_in_place ? tape.output_in_place(node, x, {x, weight})
                            : tape.output(node, in, {x, weight});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
