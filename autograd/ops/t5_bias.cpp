#include "core/kernels/t5_bias.h"

#include "autograd/ops.h"

namespace ballast {

namespace {

struct T5Bias final : Node {
  Var table, y;
  int64_t max_distance = 0;

  const char* name() const override { return "t5_bias"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(table);
      const Tensor& out = tape.value(y);
      t5_bias_forward(in.data<T>(), in.shape[0], in.shape[1], out.shape[1], max_distance,
                      out.data<T>());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(table);
      const Tensor dy = tape.output_grad(y);
      if (const GradRef d = tape.grad(table)) {
        t5_bias_backward(dy.data<T>(), in.shape[0], in.shape[1], dy.shape[1], max_distance,
                         d.data<T>(), d.accumulate);
      }
    });
  }
};

}  // namespace

Var t5_bias(Tape& tape, Var table, int64_t n_positions, int64_t max_distance) {
  const Shape& in = tape.value(table).shape;
  check(in.rank() == 2 && in[0] >= 2, "[t5_bias] table is ", in,
        "; expected (n_buckets, n_heads) with at least 2 buckets");
  check(max_distance > in[0] / 2, "[t5_bias] max_distance is ", max_distance,
        "; expected more than ", in[0] / 2, ", half of the buckets");
  check(n_positions >= 1, "[t5_bias] n_positions is ", n_positions, "; expected at least 1");
  auto& node = tape.make<T5Bias>();
  node.table = table;
  node.max_distance = max_distance;
  node.y = tape.output(node, Shape{in[1], n_positions}, {table});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
