#include "core/kernels/dropout.h"

#include "autograd/ops.h"

namespace ballast {

namespace {

struct Dropout final : Node {
  Var x, y;
  DropoutKey key;

  const char* name() const override { return "dropout"; }

  void forward(Tape& tape) override { apply(tape.value(y)); }

  void backward(Tape& tape) override {
    apply(tape.exclusive_output_grad(y));
    tape.pass_grad(y, x);
  }

 private:
  // Multiplies by keep / (1 - rate) in place: y holds x already, and the mask is drawn again.
  void apply(const Tensor& rows) const {
    dispatch(rows.dtype, [&]<class T>() {
      const int64_t c = rows.shape.back();
      const int64_t rows_per_sequence = rows.shape.rows() / rows.shape[0];
      const DropoutMask mask{key.seed, key.step, key.site, key.first_row * rows_per_sequence,
                             key.rate};
      dropout(mask, rows.data<T>(), rows.shape.rows(), c, rows.data<T>(), false);
    });
  }
};

}  // namespace

Var dropout(Tape& tape, Var x, const DropoutKey& key) {
  check(key.rate >= 0.0 && key.rate < 1.0, "[dropout] rate is ", key.rate,
        "; expected 0 <= rate < 1");
  if (key.rate == 0.0) return x;
  auto& node = tape.make<Dropout>();
  node.x = x;
  node.key = key;
  node.y = tape.output_in_place(node, x, {x});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
