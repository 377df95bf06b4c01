// What all norms share: y = norm(x), or, behind a residual step, sum = x + branch and y =
// norm(sum).
#pragma once

#include "autograd/ops.h"

namespace ballast {

template <class T>
T* data_or_null(Tape& tape, Var v) {
  return v.defined() ? tape.value(v).data<T>() : nullptr;
}

/// Rows that a norm reads; without a branch, branch and sum are null and x is what is normalised.
template <class T>
struct NormRows {
  const T* x;
  const T* branch;
  T* sum;
  int64_t rows, C;
};

/// Norm has kName, kAddName; inputs(): its parameters; save(tape, rows): memory for backward;
/// forward<T>(tape, rows, y); backward<T>(tape, dy, x, rows, C, dx), which also gives its
/// parameters their gradients.
template <class Norm>
struct NormNode final : Node {
  Var x, branch, sum, y;
  Norm norm;

  const char* name() const override { return branch.defined() ? Norm::kAddName : Norm::kName; }
  bool keeps_output() const override { return branch.defined(); }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor& in = tape.value(x);
      norm.template forward<T>(tape,
                               {in.data<T>(), data_or_null<T>(tape, branch),
                                data_or_null<T>(tape, sum), in.shape.rows(), in.shape.back()},
                               tape.value(y).data<T>());
    });
  }

  void backward(Tape& tape) override {
    if (const Tensor dy = tape.output_grad(y); dy.defined()) {
      dispatch(tape.dtype(), [&]<class T>() {
        const Tensor& in = tape.value(branch.defined() ? sum : x);
        const GradRef dx = branch.defined() ? tape.open_grad(sum) : tape.grad(x);
        norm.template backward<T>(tape, dy.data<T>(), in.data<T>(), in.shape.rows(),
                                  in.shape.back(), dx);
      });
    }
    if (branch.defined()) {
      tape.pass_grad(sum, branch);
      tape.pass_grad(sum, x);
    }
  }
};

/// Throws std::invalid_argument if a parameter has not the size of a row, or is not of one element.
inline void check_row_parameter(Tape& tape, Var parameter, int64_t c, const char* op,
                                const char* what) {
  check(!parameter.defined() || tape.value(parameter).shape == Shape{c}, "[", op, "] ", what,
        " has ", parameter.defined() ? tape.value(parameter).size() : 0,
        " elements but x has last dimension ", c);
}
inline void check_single_parameter(Tape& tape, Var parameter, const char* op, const char* what) {
  check(parameter.defined() && tape.value(parameter).size() == 1, "[", op, "] ", what, " has ",
        parameter.defined() ? tape.value(parameter).size() : 0, " elements; expected 1");
}

template <class Norm>
SumAndNorm record_norm(Tape& tape, Var x, Var branch, Norm norm) {
  const Shape& in = tape.value(x).shape;
  check(!branch.defined() || tape.value(branch).shape == in, "[", Norm::kAddName, "] x is ", in,
        " but the branch has another shape");
  norm.check_parameters(tape, in.back(), branch.defined() ? Norm::kAddName : Norm::kName);
  auto& node = tape.make<NormNode<Norm>>();
  node.x = x;
  node.branch = branch;
  norm.save(tape, in.rows());
  node.norm = norm;
  if (branch.defined()) node.sum = tape.output_in_place(node, branch, {x, branch});
  const auto [first, second, third] = norm.inputs();
  node.y = tape.output(node, in, {branch.defined() ? node.sum : x, first, second, third});
  tape.run(node);
  return {node.sum, node.y};
}

template <class Norm>
SumAndNorm record_add_norm(Tape& tape, Var x, Var branch, const Norm& norm) {
  check(branch.defined(), "[", Norm::kAddName, "] the branch is missing");
  return record_norm(tape, x, branch, norm);
}

}  // namespace ballast
