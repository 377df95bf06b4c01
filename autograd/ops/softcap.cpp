#include "autograd/ops.h"
#include "core/kernels/scaling.h"

namespace ballast {

namespace {

struct Softcap final : Node {
  Var x, y;
  double cap = 0.0;
  double factor = 1.0;

  const char* name() const override { return "softcap"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      softcap_forward(in.data<T>(), static_cast<T>(cap), static_cast<T>(factor), in.size(),
                      tape.value(y).data<T>());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      if (const GradRef dx = tape.grad(x)) {
        softcap_backward(tape.output_grad(y).data<T>(), in.data<T>(), static_cast<T>(cap),
                         static_cast<T>(factor), in.size(), dx.data<T>(), dx.accumulate);
      }
    });
  }
};

}  // namespace

Var softcap(Tape& tape, Var x, double cap, double factor) {
  check(cap >= 0.0, "[softcap] cap is ", cap, "; expected above 0, or 0 for none");
  if (cap == 0.0) return scaled(tape, x, factor);
  auto& node = tape.make<Softcap>();
  node.x = x;
  node.cap = cap;
  node.factor = factor;
  node.y = tape.output(node, tape.value(x).shape, {x});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
