#include "core/kernels/glu.h"

#include "core/kernels/rows.h"

namespace ballast {

template <class T>
void glu_forward(ActivationKind kind, const T* gate_up, int64_t rows, int64_t F, int64_t stride,
                 T* y) {
  with_activation(kind, [=]<class Activation>() {
    parallel_rows(rows, F, [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* const gate = gate_up + row * stride;
        const T* const up = gate + F;
        T* const out = y + row * F;
#pragma omp simd
        for (int64_t i = 0; i < F; ++i) out[i] = value_of<Activation>(gate[i]) * up[i];
      }
    });
  });
}

template <class T>
void glu_backward(ActivationKind kind, const T* dy, const T* gate_up, int64_t rows, int64_t F,
                  int64_t stride, T* dgate_up, bool accumulate) {
  with_activation(kind, [=]<class Activation>() {
    with_flag(accumulate, [=](auto accumulates) {
      parallel_rows(rows, F, [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const T* const gate = gate_up + row * stride;
          const T* const up = gate + F;
          const T* const grad = dy + row * F;
          T* const dgate = dgate_up + row * stride;
          T* const dup = dgate + F;
#pragma omp simd
          for (int64_t i = 0; i < F; ++i) {
            const auto [f, df] = Activation::both(gate[i]);
            const T dgate_i = grad[i] * up[i] * df;
            const T dup_i = grad[i] * f;
            store<accumulates.value>(dgate[i], dgate_i);
            store<accumulates.value>(dup[i], dup_i);
          }
        }
      });
    });
  });
}

#define BALLAST_INSTANTIATE(T)                                                                  \
  template void glu_forward(ActivationKind, const T*, int64_t, int64_t, int64_t, T*);           \
  template void glu_backward(ActivationKind, const T*, const T*, int64_t, int64_t, int64_t, T*, \
                             bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
