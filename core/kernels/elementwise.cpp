#include "core/kernels/elementwise.h"

#include <cstring>

#include "core/kernels/rows.h"
#include "core/scratch.h"

namespace ballast {

template <class T>
void add(const T* a, const T* b, int64_t n, T* out) {
  parallel_elements(n, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) out[i] = a[i] + b[i];
  });
}

template <class T>
void add_inplace(const T* a, int64_t n, T* out) {
  add(out, a, n, out);
}

template <class T>
void scale(const T* x, T factor, int64_t n, T* out, bool accumulate) {
  with_flag(accumulate, [=](auto accumulates) {
    parallel_elements(n, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) store<accumulates.value>(out[i], factor * x[i]);
    });
  });
}

template <class T>
void copy(const T* x, int64_t n, T* out) {
  parallel_elements(n, [=](int64_t begin, int64_t end) {
    std::memcpy(out + begin, x + begin, static_cast<size_t>(end - begin) * sizeof(T));
  });
}

template <class T>
void fill(T value, int64_t n, T* out) {
  parallel_elements(n,
                    [=](int64_t begin, int64_t end) { std::fill(out + begin, out + end, value); });
}

void convert(const float* x, int64_t n, bf16* out) {
  parallel_elements(n, [=](int64_t begin, int64_t end) {
    // Without `omp simd`, which would keep the temporary in memory and prevent what it asks for.
    for (int64_t i = begin; i < end; ++i) out[i] = bf16(x[i]);
  });
}

void convert(const bf16* x, int64_t n, float* out) {
  parallel_elements(n, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) out[i] = static_cast<float>(x[i]);
  });
}

template <class T>
void add_bias(T* y, int64_t rows, int64_t N, int64_t stride, const T* b) {
  parallel_rows(rows, N, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      T* const out = y + row * stride;
#pragma omp simd
      for (int64_t c = 0; c < N; ++c) out[c] += b[c];
    }
  });
}

template <class T>
void column_sum(const T* x, int64_t rows, int64_t N, int64_t stride, T* out, bool accumulate) {
  const int64_t chunks = row_chunks(rows);
  T* const partials = scratch<T>(ScratchSlot::kernel, chunks * N);
  const int64_t grain = std::max<int64_t>(1, row_grain(N) / kRowChunk);
  parallel_ranges(chunks, grain, [=](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      T* const sum = partials + chunk * N;
      std::fill(sum, sum + N, T{0});
      const int64_t end = std::min(rows, (chunk + 1) * kRowChunk);
      int64_t row = chunk * kRowChunk;
      for (; row + 4 <= end; row += 4) {  // four rows for each access to the sums
        const T* const in = x + row * stride;
#pragma omp simd
        for (int64_t c = 0; c < N; ++c) {
          sum[c] += (in[c] + in[stride + c]) + (in[2 * stride + c] + in[3 * stride + c]);
        }
      }
      for (; row < end; ++row) {
        const T* const in = x + row * stride;
#pragma omp simd
        for (int64_t c = 0; c < N; ++c) sum[c] += in[c];
      }
    }
  });
  add_partials(partials, chunks, N, out, accumulate);
}

#define BALLAST_INSTANTIATE(T)                                     \
  template void add(const T*, const T*, int64_t, T*);              \
  template void add_inplace(const T*, int64_t, T*);                \
  template void scale(const T*, T, int64_t, T*, bool);             \
  template void copy(const T*, int64_t, T*);                       \
  template void fill(T, int64_t, T*);                              \
  template void add_bias(T*, int64_t, int64_t, int64_t, const T*); \
  template void column_sum(const T*, int64_t, int64_t, int64_t, T*, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
