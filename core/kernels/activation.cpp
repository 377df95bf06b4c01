#include "core/kernels/activation.h"

#include "core/kernels/rows.h"

namespace ballast {

template <class T>
void activation_forward(ActivationKind kind, const T* x, int64_t n, T* y) {
  with_activation(kind, [=]<class Activation>() {
    parallel_elements(n, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) y[i] = value_of<Activation>(x[i]);
    });
  });
}

template <class T>
void activation_backward(ActivationKind kind, const T* dy, const T* x, int64_t n, T* dx,
                         bool accumulate) {
  with_activation(kind, [=]<class Activation>() {
    with_flag(accumulate, [=](auto accumulates) {
      parallel_elements(n, [=](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) {
          store<accumulates.value>(dx[i], dy[i] * slope_of<Activation>(x[i]));
        }
      });
    });
  });
}

template <class T>
void activation_forward(ActivationKind kind, const T* x, int64_t rows, int64_t C, int64_t stride,
                        T* y) {
  if (stride == C) return activation_forward(kind, x, rows * C, y);
  with_activation(kind, [=]<class Activation>() {
    parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* const in = x + row * stride;
        T* const out = y + row * C;
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) out[c] = value_of<Activation>(in[c]);
      }
    });
  });
}

template <class T>
void activation_backward(ActivationKind kind, const T* dy, const T* x, int64_t rows, int64_t C,
                         int64_t stride, T* dx, bool accumulate) {
  if (stride == C) return activation_backward(kind, dy, x, rows * C, dx, accumulate);
  with_activation(kind, [=]<class Activation>() {
    with_flag(accumulate, [=](auto accumulates) {
      parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const T* const in = x + row * stride;
          const T* const grad = dy + row * C;
          T* const out = dx + row * stride;
#pragma omp simd
          for (int64_t c = 0; c < C; ++c) {
            store<accumulates.value>(out[c], grad[c] * slope_of<Activation>(in[c]));
          }
        }
      });
    });
  });
}

#define BALLAST_INSTANTIATE(T)                                                                     \
  template void activation_forward(ActivationKind, const T*, int64_t, T*);                         \
  template void activation_backward(ActivationKind, const T*, const T*, int64_t, T*, bool);        \
  template void activation_forward(ActivationKind, const T*, int64_t, int64_t, int64_t, T*);       \
  template void activation_backward(ActivationKind, const T*, const T*, int64_t, int64_t, int64_t, \
                                    T*, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
