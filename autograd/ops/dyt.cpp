#include "core/kernels/dyt.h"

#include "autograd/ops/norm_node.h"

namespace ballast {

namespace {

struct Dyt {
  static constexpr const char* kName = "dyt";
  static constexpr const char* kAddName = "add_dyt";
  Var alpha, weight, bias;

  std::array<Var, 3> inputs() const { return {alpha, weight, bias}; }

  void check_parameters(Tape& tape, int64_t c, const char* op) const {
    check_single_parameter(tape, alpha, op, "alpha");
    check_row_parameter(tape, weight, c, op, "weight");
    check_row_parameter(tape, bias, c, op, "bias");
  }

  void save(Tape&, int64_t) {}

  template <class T>
  void forward(Tape& tape, const NormRows<T>& in, T* y) const {
    const T a = *tape.value(alpha).data<T>();
    const T* w = data_or_null<T>(tape, weight);
    const T* b = data_or_null<T>(tape, bias);
    if (in.branch != nullptr) {
      add_dyt_forward(in.x, in.branch, a, w, b, in.rows, in.C, in.sum, y);
    } else {
      dyt_forward(in.x, a, w, b, in.rows, in.C, y);
    }
  }

  template <class T>
  void backward(Tape& tape, const T* dy, const T* x, int64_t rows, int64_t c,
                const GradRef& dx) const {
    const GradRef da = tape.grad(alpha);
    const GradRef dw = tape.grad(weight);
    const GradRef db = tape.grad(bias);
    dyt_backward(dy, x, *tape.value(alpha).data<T>(), data_or_null<T>(tape, weight), rows, c,
                 dx.data<T>(), dx.accumulate, da.data<T>(), da.accumulate, dw.data<T>(),
                 dw.accumulate, db.data<T>(), db.accumulate);
  }
};

}  // namespace

Var dyt(Tape& tape, Var x, Var alpha, Var weight, Var bias) {
  return record_norm(tape, x, {}, Dyt{alpha, weight, bias}).normed;
}

SumAndNorm add_dyt(Tape& tape, Var x, Var branch, Var alpha, Var weight, Var bias) {
  return record_add_norm(tape, x, branch, Dyt{alpha, weight, bias});
}

}  // namespace ballast
