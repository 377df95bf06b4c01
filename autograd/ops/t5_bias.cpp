#include "core/kernels/t5_bias.h"

#include <algorithm>

#include "autograd/ops.h"

namespace ballast {

namespace {

struct T5Bias final : Node {
  Var table, y;
  std::span<const int32_t> buckets;

  const char* name() const override { return "t5_bias"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(table);
      const Tensor& out = tape.value(y);
      t5_bias_forward(in.data<T>(), buckets, in.shape[1], out.shape[1], out.data<T>());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(table);
      const Tensor dy = tape.output_grad(y);
      if (const GradRef d = tape.grad(table)) {
        t5_bias_backward(dy.data<T>(), buckets, in.shape[0], in.shape[1], dy.shape[1], d.data<T>(),
                         d.accumulate);
      }
    });
  }
};

}  // namespace

Var t5_bias(Tape& tape, Var table, std::span<const int32_t> buckets, int64_t n_positions) {
  const Shape& in = tape.value(table).shape;
  check(in.rank() == 2, "[t5_bias] table is ", in, "; expected (n_buckets, n_heads)");
  check(!buckets.empty(), "[t5_bias] no distance has a bucket");
  const auto [lowest, highest] = std::minmax_element(buckets.begin(), buckets.end());
  check(*lowest >= 0 && *highest < in[0], "[t5_bias] buckets ", *lowest, " to ", *highest,
        " in a table of ", in[0]);
  check(n_positions >= 1, "[t5_bias] n_positions is ", n_positions, "; expected at least 1");
  auto& node = tape.make<T5Bias>();
  node.table = table;
  node.buckets = buckets;
  node.y = tape.output(node, Shape{in[1], n_positions}, {table});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
