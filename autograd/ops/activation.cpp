#include "core/kernels/activation.h"

#include "autograd/ops.h"
#include "autograd/ops/columns.h"

namespace ballast {

namespace {

struct Activation final : Node {
  Var x, y;
  ActivationKind kind{};
  Columns columns;

  const char* name() const override { return "activation"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      const Tensor& out = tape.value(y);
      activation_forward(kind, in.data<T>() + columns.begin, out.shape.rows(), columns.width,
                         in.shape.back(), out.data<T>());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      const Tensor dy = tape.output_grad(y);
      if (const GradRef dx = grad_of(tape, x, columns)) {
        activation_backward(kind, dy.data<T>(), in.data<T>() + columns.begin, dy.shape.rows(),
                            columns.width, in.shape.back(), dx.data<T>() + columns.begin,
                            dx.accumulate);
      }
    });
  }
};

}  // namespace

Var activation(Tape& tape, Var x, ActivationKind kind, Columns columns) {
  const Shape& in = tape.value(x).shape;
  auto& node = tape.make<Activation>();
  node.x = x;
  node.kind = kind;
  node.columns = resolved(columns, in, "[activation]");
  node.y = tape.output(node, with_last_dimension(in, node.columns.width), {x});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
