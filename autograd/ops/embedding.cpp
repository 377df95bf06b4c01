#include "core/kernels/embedding.h"

#include "autograd/ops.h"

namespace ballast {

namespace {

struct Embedding final : Node {
  TokenView tokens;
  Var table, position, y;
  int64_t position_offset = 0;
  double scale = 1.0;

  const char* name() const override { return "embedding"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& out = tape.value(y);
      const T* positions = position.defined() ? tape.value(position).data<T>() : nullptr;
      embedding_forward(tokens.ids, out.shape.rows(), out.shape.back(), tape.value(table).data<T>(),
                        positions, tokens.length, position_offset, static_cast<T>(scale),
                        out.data<T>());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor dy = tape.output_grad(y);
      const int64_t c = dy.shape.back();
      if (const GradRef dt = tape.grad(table)) {
        embedding_backward(dy.data<T>(), tokens.ids, dy.shape.rows(), c, dt.tensor.shape[0],
                           static_cast<T>(scale), dt.data<T>(), dt.accumulate);
      }
      if (const GradRef dp = tape.grad(position)) {
        position_backward(dy.data<T>(), tokens.batch, tokens.length, c, dp.data<T>(),
                          dp.tensor.shape[0], dp.accumulate);
      }
    });
  }
};

}  // namespace

Var embedding(Tape& tape, TokenView tokens, Var table, Var position, int64_t position_offset,
              double scale) {
  const Shape& t = tape.value(table).shape;
  check(t.rank() == 2, "[embedding] table is ", t, "; expected (V, C)");
  const int64_t rows = tokens.batch * tokens.length;
  for (int64_t i = 0; i < rows; ++i) {
    check(tokens.ids[i] >= 0 && tokens.ids[i] < t[0], "[embedding] token ", tokens.ids[i],
          " at position ", i, "; expected 0 <= token < ", t[0]);
  }
  if (position.defined()) {
    const Shape& p = tape.value(position).shape;
    check(p.rank() == 2 && p[1] == t[1], "[embedding] positions are ", p, " but the table is ", t);
    check(position_offset + tokens.length <= p[0], "[embedding] ", position_offset + tokens.length,
          " positions are needed but the table has ", p[0]);
    check(position_offset == 0 || !tape.needs_grad(position),
          "[embedding] a position offset is for generation only");
  }
  auto& node = tape.make<Embedding>();
  node.tokens = tokens;
  node.table = table;
  node.position = position;
  node.position_offset = position_offset;
  node.scale = scale;
  node.y = tape.output(node, Shape{tokens.batch, tokens.length, t[1]}, {table, position});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
