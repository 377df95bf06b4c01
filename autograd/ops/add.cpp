#include "autograd/ops.h"
#include "core/kernels/elementwise.h"

namespace ballast {

namespace {

struct Add final : Node {
  Var x, branch, y;

  const char* name() const override { return "add"; }

  void forward(Tape& tape) override {
    // y holds the branch already: it took over its memory, or a copy of it.
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& out = tape.value(y);
      add_inplace(tape.value(x).data<T>(), out.size(), out.data<T>());
    });
  }

  void backward(Tape& tape) override {
    tape.pass_grad(y, branch);
    tape.pass_grad(y, x);
  }
};

}  // namespace

Var add(Tape& tape, Var x, Var branch) {
  check(tape.value(x).shape == tape.value(branch).shape, "[add] x is ", tape.value(x).shape,
        " but branch is ", tape.value(branch).shape);
  auto& node = tape.make<Add>();
  node.x = x;
  node.branch = branch;
  node.y = tape.output_in_place(node, branch, {x, branch});
  tape.run(node);
  return node.y;
}

}  // namespace ballast
