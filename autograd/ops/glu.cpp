#include "core/kernels/glu.h"

#include "autograd/ops.h"

namespace ballast {

namespace {

struct Glu final : Node {
  Var gate_up, y;
  ActivationKind kind{};

  const char* name() const override { return "glu"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& out = tape.value(y);
      glu_forward(kind, tape.value(gate_up).data<T>(), out.shape.rows(), out.shape.back(),
                  out.data<T>());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor dy = tape.output_grad(y);
      if (const GradRef d = tape.grad(gate_up)) {
        glu_backward(kind, dy.data<T>(), tape.value(gate_up).data<T>(), dy.shape.rows(),
                     dy.shape.back(), d.data<T>(), d.accumulate);
      }
    });
  }
};

}  // namespace

Var glu(Tape& tape, Var gate_up, ActivationKind kind) {
  const Shape& in = tape.value(gate_up).shape;
  check(in.rank() >= 1 && in.back() % 2 == 0, "[glu] gate_up is ", in,
        "; expected an even last dimension");
  Shape out;
  for (int i = 0; i + 1 < in.rank(); ++i) out.push_back(in[i]);
  out.push_back(in.back() / 2);
  auto& node = tape.make<Glu>();
  node.gate_up = gate_up;
  node.kind = kind;
  node.y = tape.output(node, out, {gate_up});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
