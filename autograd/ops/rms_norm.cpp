#include "autograd/ops/norm_node.h"
#include "core/kernels/norm.h"

namespace ballast {

namespace {

struct RmsNorm {
  static constexpr const char* kName = "rms_norm";
  static constexpr const char* kAddName = "add_rms_norm";
  Var weight;
  double eps = 0.0;
  bool unit_offset = false;
  Tensor rstd;

  std::array<Var, 3> inputs() const { return {weight, Var{}, Var{}}; }

  void check_parameters(Tape& tape, int64_t c, const char* op) const {
    check_row_parameter(tape, weight, c, op, "weight");
    check(weight.defined() || !unit_offset, "[", op, "] unit_offset needs a weight");
  }

  void save(Tape& tape, int64_t rows) { rstd = tape.saved(rows); }

  template <class T>
  void forward(Tape& tape, const NormRows<T>& in, T* y) const {
    const T* w = data_or_null<T>(tape, weight);
    if (in.branch != nullptr) {
      add_rms_norm_forward(in.x, in.branch, w, offset<T>(), static_cast<T>(eps), in.rows, in.C,
                           in.sum, y, rstd.data<T>());
    } else {
      rms_norm_forward(in.x, w, offset<T>(), static_cast<T>(eps), in.rows, in.C, y, rstd.data<T>());
    }
  }

  template <class T>
  void backward(Tape& tape, const T* dy, const T* x, int64_t rows, int64_t c,
                const GradRef& dx) const {
    const GradRef dw = tape.grad(weight);
    rms_norm_backward(dy, x, data_or_null<T>(tape, weight), offset<T>(), rstd.data<T>(), rows, c,
                      dx.data<T>(), dx.accumulate, dw.data<T>(), dw.accumulate);
  }

 private:
  // The gain is 1 + weight when its offset is stored.
  template <class T>
  T offset() const {
    return unit_offset ? T(1) : T(0);
  }
};

}  // namespace

Var rms_norm(Tape& tape, Var x, Var weight, double eps, bool unit_offset) {
  return record_norm(tape, x, {}, RmsNorm{weight, eps, unit_offset, {}}).normed;
}

SumAndNorm add_rms_norm(Tape& tape, Var x, Var branch, Var weight, double eps, bool unit_offset) {
  return record_add_norm(tape, x, branch, RmsNorm{weight, eps, unit_offset, {}});
}

}  // namespace ballast
