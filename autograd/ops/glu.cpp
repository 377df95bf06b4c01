#include "core/kernels/glu.h"

#include "autograd/ops.h"
#include "autograd/ops/columns.h"

namespace ballast {

namespace {

struct Glu final : Node {
  Var gate_up, y;
  ActivationKind kind{};
  Columns columns;

  const char* name() const override { return "glu"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(gate_up);
      const Tensor& out = tape.value(y);
      glu_forward(kind, in.data<T>() + columns.begin, out.shape.rows(), out.shape.back(),
                  in.shape.back(), out.data<T>());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(gate_up);
      const Tensor dy = tape.output_grad(y);
      if (const GradRef d = grad_of(tape, gate_up, columns)) {
        glu_backward(kind, dy.data<T>(), in.data<T>() + columns.begin, dy.shape.rows(),
                     dy.shape.back(), in.shape.back(), d.data<T>() + columns.begin, d.accumulate);
      }
    });
  }
};

}  // namespace

Var glu(Tape& tape, Var gate_up, ActivationKind kind, Columns columns) {
  const Shape& in = tape.value(gate_up).shape;
  columns = resolved(columns, in, "[glu]");
  check(columns.width % 2 == 0, "[glu] ", columns.width, " columns of gate_up ", in,
        "; expected an even number, or an even last dimension");
  auto& node = tape.make<Glu>();
  node.gate_up = gate_up;
  node.kind = kind;
  node.columns = columns;
  node.y = tape.output(node, with_last_dimension(in, columns.width / 2), {gate_up});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
