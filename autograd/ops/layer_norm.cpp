#include "autograd/ops/norm_node.h"
#include "core/kernels/norm.h"

namespace ballast {

namespace {

struct LayerNorm {
  static constexpr const char* kName = "layer_norm";
  static constexpr const char* kAddName = "add_layer_norm";
  Var weight, bias;
  double eps = 0.0;
  bool unit_offset = false;
  Tensor mean, rstd;

  std::array<Var, 3> inputs() const { return {weight, bias, Var{}}; }

  void check_parameters(Tape& tape, int64_t c, const char* op) const {
    check_row_parameter(tape, weight, c, op, "weight");
    check_row_parameter(tape, bias, c, op, "bias");
    check(weight.defined() || !unit_offset, "[", op, "] unit_offset needs a weight");
  }

  void save(Tape& tape, int64_t rows) {
    mean = tape.saved(rows);
    rstd = tape.saved(rows);
  }

  template <class T>
  void forward(Tape& tape, const NormRows<T>& in, T* y) const {
    const T* w = data_or_null<T>(tape, weight);
    const T* b = data_or_null<T>(tape, bias);
    if (in.branch != nullptr) {
      add_layer_norm_forward(in.x, in.branch, w, b, offset<T>(), static_cast<T>(eps), in.rows, in.C,
                             in.sum, y, mean.data<T>(), rstd.data<T>());
    } else {
      layer_norm_forward(in.x, w, b, offset<T>(), static_cast<T>(eps), in.rows, in.C, y,
                         mean.data<T>(), rstd.data<T>());
    }
  }

  template <class T>
  void backward(Tape& tape, const T* dy, const T* x, int64_t rows, int64_t c,
                const GradRef& dx) const {
    const GradRef dw = tape.grad(weight);
    const GradRef db = tape.grad(bias);
    layer_norm_backward(dy, x, data_or_null<T>(tape, weight), offset<T>(), mean.data<T>(),
                        rstd.data<T>(), rows, c, dx.data<T>(), dx.accumulate, dw.data<T>(),
                        dw.accumulate, db.data<T>(), db.accumulate);
  }

 private:
  // The gain is 1 + weight when its offset is stored.
  template <class T>
  T offset() const {
    return unit_offset ? T(1) : T(0);
  }
};

}  // namespace

Var layer_norm(Tape& tape, Var x, Var weight, Var bias, double eps, bool unit_offset) {
  return record_norm(tape, x, {}, LayerNorm{weight, bias, eps, unit_offset, {}, {}}).normed;
}

SumAndNorm add_layer_norm(Tape& tape, Var x, Var branch, Var weight, Var bias, double eps,
                          bool unit_offset) {
  return record_add_norm(tape, x, branch, LayerNorm{weight, bias, eps, unit_offset, {}, {}});
}

}  // namespace ballast
