#include "core/kernels/activation.h"

#include "autograd/ops.h"

namespace ballast {

namespace {

struct Activation final : Node {
  Var x, y;
  ActivationKind kind{};

  const char* name() const override { return "activation"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      activation_forward(kind, in.data<T>(), in.size(), tape.value(y).data<T>());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      if (const GradRef dx = tape.grad(x)) {
        activation_backward(kind, tape.output_grad(y).data<T>(), in.data<T>(), in.size(),
                            dx.data<T>(), dx.accumulate);
      }
    });
  }
};

}  // namespace

Var activation(Tape& tape, Var x, ActivationKind kind) {
  auto& node = tape.make<Activation>();
  node.x = x;
  node.kind = kind;
  node.y = tape.output(node, tape.value(x).shape, {x});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
