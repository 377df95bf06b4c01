#include "core/kernels/rope.h"

#include "autograd/ops.h"

namespace ballast {

namespace {

struct Rope final : Node {
  Var x, y;
  RopeTable table;
  RopeOptions options;

  const char* name() const override { return "rope"; }

  void forward(Tape& tape) override {
    // y holds x already: it took over its memory, or a copy of it.
    rotate(tape.value(y), false);
  }

  void backward(Tape& tape) override {
    rotate(tape.exclusive_output_grad(y), true);
    tape.pass_grad(y, x);
  }

 private:
  void rotate(const Tensor& rows, bool inverse) const {
    dispatch(rows.dtype, [&]<class T>() {
      rope_rotate(rows.data<T>(), rows.shape.rows(), rows.shape[1], options.position_offset,
                  rows.shape.back(), options.n_heads, options.head_dim, 2 * table.cos.shape.back(),
                  options.layout, table.cos.data<T>(), table.sin.data<T>(), inverse);
    });
  }
};

}  // namespace

Var rope(Tape& tape, Var x, const RopeTable& table, const RopeOptions& options) {
  const Shape& in = tape.value(x).shape;
  check(in.rank() == 3, "[rope] x is ", in, "; expected (B, T, W)");
  check(options.n_heads * options.head_dim <= in.back(), "[rope] ", options.n_heads, " heads of ",
        options.head_dim, " channels do not fit into ", in);
  const int64_t d_rot = 2 * table.cos.shape.back();
  check(d_rot <= options.head_dim, "[rope] ", d_rot, " rotated channels do not fit into head_dim ",
        options.head_dim);
  check(options.position_offset + in[1] <= table.cos.shape[0], "[rope] ",
        options.position_offset + in[1], " positions are needed but the table has ",
        table.cos.shape[0]);
  auto& node = tape.make<Rope>();
  node.x = x;
  node.table = table;
  node.options = options;
  node.y = tape.output_in_place(node, x, {x});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
