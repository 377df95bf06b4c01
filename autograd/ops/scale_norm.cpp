#include "autograd/ops/norm_node.h"
#include "core/kernels/norm.h"

namespace ballast {

namespace {

struct ScaleNorm {
  static constexpr const char* kName = "scale_norm";
  static constexpr const char* kAddName = "add_scale_norm";
  Var weight;
  double eps = 0.0;
  Tensor inverse;

  std::array<Var, 3> inputs() const { return {weight, Var{}, Var{}}; }

  void check_parameters(Tape& tape, int64_t, const char* op) const {
    check_single_parameter(tape, weight, op, "weight");
  }

  void save(Tape& tape, int64_t rows) { inverse = tape.saved(rows); }

  template <class T>
  void forward(Tape& tape, const NormRows<T>& in, T* y) const {
    const T g = *tape.value(weight).data<T>();
    if (in.branch != nullptr) {
      add_scale_norm_forward(in.x, in.branch, g, static_cast<T>(eps), in.rows, in.C, in.sum, y,
                             inverse.data<T>());
    } else {
      scale_norm_forward(in.x, g, static_cast<T>(eps), in.rows, in.C, y, inverse.data<T>());
    }
  }

  template <class T>
  void backward(Tape& tape, const T* dy, const T* x, int64_t rows, int64_t c,
                const GradRef& dx) const {
    const GradRef dg = tape.grad(weight);
    scale_norm_backward(dy, x, *tape.value(weight).data<T>(), static_cast<T>(eps),
                        inverse.data<T>(), rows, c, dx.data<T>(), dx.accumulate, dg.data<T>(),
                        dg.accumulate);
  }
};

}  // namespace

Var scale_norm(Tape& tape, Var x, Var weight, double eps) {
  return record_norm(tape, x, {}, ScaleNorm{weight, eps, {}}).normed;
}

SumAndNorm add_scale_norm(Tape& tape, Var x, Var branch, Var weight, double eps) {
  return record_add_norm(tape, x, branch, ScaleNorm{weight, eps, {}});
}

}  // namespace ballast
