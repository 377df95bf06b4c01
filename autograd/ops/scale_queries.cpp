#include "autograd/ops.h"
#include "core/kernels/scaling.h"

namespace ballast {

namespace {

struct ScaleQueries final : Node {
  Var x, y;
  const double* factors = nullptr;  // from the first row's position on
  int64_t width = 0;

  const char* name() const override { return "scale_queries"; }

  // y holds x already: it took over its memory, or a copy of it.
  void forward(Tape& tape) override { multiply(tape.value(y)); }

  void backward(Tape& tape) override {
    multiply(tape.exclusive_output_grad(y));
    tape.pass_grad(y, x);
  }

 private:
  void multiply(const Tensor& rows) const {
    dispatch(rows.dtype, [&]<class T>() {
      scale_rows(rows.data<T>(), rows.shape.rows(), width, rows.shape.back(), factors,
                 rows.shape[1]);
    });
  }
};

}  // namespace

Var scale_queries(Tape& tape, Var x, std::span<const double> factors, int64_t width,
                  int64_t position_offset) {
  const Shape& in = tape.value(x).shape;
  check(in.rank() == 3, "[scale_queries] x is ", in, "; expected (B, T, W)");
  check(width <= in.back(), "[scale_queries] ", width, " columns do not fit into ", in);
  check(position_offset + in[1] <= std::ssize(factors), "[scale_queries] ", position_offset + in[1],
        " positions are needed but there are factors of ", factors.size());
  auto& node = tape.make<ScaleQueries>();
  node.x = x;
  node.factors = factors.data() + position_offset;
  node.width = width;
  node.y = tape.output_in_place(node, x, {x});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
