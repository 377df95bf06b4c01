#include "autograd/ops.h"

namespace ballast {

namespace {

struct WeightedSum final : Node {
  Var x, y;
  const double* coefficients = nullptr;

  const char* name() const override { return "weighted_sum"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      const T* values = in.data<T>();
      double sum = 0.0;
      for (int64_t i = 0; i < in.size(); ++i)
        sum += coefficients[i] * static_cast<double>(values[i]);
      *tape.value(y).data<T>() = static_cast<T>(sum);
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const T dy = *tape.output_grad(y).data<T>();
      const GradRef dx = tape.grad(x);
      if (!dx) return;
      T* out = dx.data<T>();
      for (int64_t i = 0; i < dx.tensor.size(); ++i) {
        const T contribution = static_cast<T>(coefficients[i]) * dy;
        out[i] = dx.accumulate ? out[i] + contribution : contribution;
      }
    });
  }
};

}  // namespace

Var weighted_sum(Tape& tape, Var x, const double* coefficients) {
  auto& node = tape.make<WeightedSum>();
  node.x = x;
  node.coefficients = coefficients;
  node.y = tape.output(node, Shape{1}, {x});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
