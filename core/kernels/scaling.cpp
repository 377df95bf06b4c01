#include "core/kernels/scaling.h"

#include "core/kernels/activation.h"
#include "core/kernels/rows.h"
#include "core/scratch.h"

namespace ballast {

template <class T>
void scale_columns_forward(const T* x, const T* w, T factor, int64_t rows, int64_t C, T* y) {
  parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const in = x + row * C;
      T* const out = y + row * C;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) out[c] = factor * w[c] * in[c];
    }
  });
}

template <class T>
void scale_columns_backward(const T* dy, const T* x, const T* w, T factor, int64_t rows, int64_t C,
                            T* dx, bool accumulate_dx, T* dw, bool accumulate_dw) {
  const int64_t chunks = row_chunks(rows);
  T* const partials = scratch<T>(ScratchSlot::kernel, chunks * C);
  const int64_t grain = std::max<int64_t>(1, row_grain(C) / kRowChunk);
  with_flag(accumulate_dx, [=](auto accumulates) {
    parallel_ranges(chunks, grain, [=](int64_t first, int64_t last) {
      for (int64_t chunk = first; chunk < last; ++chunk) {
        T* const sums = partials + chunk * C;
        std::fill(sums, sums + C, T{0});
        const int64_t end = std::min(rows, (chunk + 1) * kRowChunk);
        for (int64_t row = chunk * kRowChunk; row < end; ++row) {
          const T* const in = x + row * C;
          const T* const grad = dy + row * C;
#pragma omp simd
          for (int64_t c = 0; c < C; ++c) sums[c] += factor * grad[c] * in[c];
          if (dx == nullptr) continue;
          T* const out = dx + row * C;
#pragma omp simd
          for (int64_t c = 0; c < C; ++c) {
            store<accumulates.value>(out[c], factor * w[c] * grad[c]);
          }
        }
      }
    });
  });
  if (dw != nullptr) add_partials(partials, chunks, C, dw, accumulate_dw);
}

template <class T>
void scale_rows(T* x, int64_t rows, int64_t C, int64_t stride, const double* factors,
                int64_t period) {
  parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T factor = static_cast<T>(factors[row % period]);
      T* const out = x + row * stride;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) out[c] *= factor;
    }
  });
}

template <class T>
void softcap_forward(const T* x, T cap, T factor, int64_t n, T* y) {
  const T inner = factor / cap;
  parallel_elements(n, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) y[i] = cap * value_of<Tanh>(inner * x[i]);
  });
}

template <class T>
void softcap_backward(const T* dy, const T* x, T cap, T factor, int64_t n, T* dx, bool accumulate) {
  const T inner = factor / cap;
  with_flag(accumulate, [=](auto accumulates) {
    parallel_elements(n, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        store<accumulates.value>(dx[i], dy[i] * factor * slope_of<Tanh>(inner * x[i]));
      }
    });
  });
}

#define BALLAST_INSTANTIATE(T)                                                                \
  template void scale_columns_forward(const T*, const T*, T, int64_t, int64_t, T*);           \
  template void scale_columns_backward(const T*, const T*, const T*, T, int64_t, int64_t, T*, \
                                       bool, T*, bool);                                       \
  template void scale_rows(T*, int64_t, int64_t, int64_t, const double*, int64_t);            \
  template void softcap_forward(const T*, T, T, int64_t, T*);                                 \
  template void softcap_backward(const T*, const T*, T, T, int64_t, T*, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
