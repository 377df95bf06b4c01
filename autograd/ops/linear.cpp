#include "autograd/ops.h"
#include "core/kernels/elementwise.h"
#include "core/matmul.h"

namespace ballast {

namespace {

struct Linear final : Node {
  Var x, weight, bias, y;
  int64_t bias_begin = 0;

  const char* name() const override { return "linear"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const auto [rows, n, c] = sizes(tape);
      const bool is_bias_whole = bias.defined() && tape.value(bias).size() == n;
      matmul<T>(rows, n, c, {tape.value(x).data<T>(), c}, {tape.value(weight).data<T>(), c, true},
                false, {tape.value(y).data<T>(), n},
                is_bias_whole ? tape.value(bias).data<T>() : nullptr);
      if (bias.defined() && !is_bias_whole) {
        add_bias(tape.value(y).data<T>() + bias_begin, rows, tape.value(bias).size(), n,
                 tape.value(bias).data<T>());
      }
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const auto [rows, n, c] = sizes(tape);
      const T* dy = tape.output_grad(y).data<T>();
      if (const GradRef dx = tape.grad(x)) {
        matmul<T>(rows, c, n, {dy, n}, {tape.value(weight).data<T>(), c}, dx.accumulate,
                  {dx.data<T>(), c});
      }
      if (const GradRef dw = tape.grad(weight)) {
        matmul<T>(n, c, rows, {dy, n, true}, {tape.value(x).data<T>(), c}, dw.accumulate,
                  {dw.data<T>(), c});
      }
      if (const GradRef db = tape.grad(bias)) {
        column_sum(dy + bias_begin, rows, db.tensor.size(), n, db.data<T>(), db.accumulate);
      }
    });
  }

 private:
  struct Sizes {
    int64_t rows, n, c;
  };
  Sizes sizes(const Tape& tape) const {
    const Shape& w = tape.value(weight).shape;
    return {tape.value(x).shape.rows(), w[0], w[1]};
  }
};

}  // namespace

Var linear(Tape& tape, Var x, Var weight, Var bias, Columns bias_columns) {
  const Shape& in = tape.value(x).shape;
  const Shape& w = tape.value(weight).shape;
  check(w.rank() == 2, "[linear] weight is ", w, "; expected (out, in)");
  check(in.rank() >= 1 && in.back() == w[1], "[linear] x is ", in, " but weight ", w,
        " expects last dimension ", w[1]);
  if (bias.defined()) {
    const Shape& b = tape.value(bias).shape;
    const int64_t wanted = bias_columns.width == 0 ? w[0] - bias_columns.begin : bias_columns.width;
    check(b.rank() == 1 && b[0] == wanted && bias_columns.begin >= 0 &&
              bias_columns.begin + wanted <= w[0],
          "[linear] bias is ", b, " for ", wanted, " outputs from ", bias_columns.begin,
          " on but weight ", w, " has ", w[0], " outputs");
  }
  Shape out;
  for (int i = 0; i + 1 < in.rank(); ++i) out.push_back(in[i]);
  out.push_back(w[0]);
  auto& node = tape.make<Linear>();
  node.x = x;
  node.weight = weight;
  node.bias = bias;
  node.bias_begin = bias_columns.begin;
  node.y = tape.output(node, out, {x, weight, bias});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
