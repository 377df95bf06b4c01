#include "core/kernels/embedding.h"

#include "core/kernels/rows.h"

namespace ballast {

template <class T>
void embedding_forward(const int32_t* tokens, int64_t rows, int64_t C, const T* table,
                       const T* position_table, int64_t T_len, int64_t position_offset, T scale,
                       T* y) {
  parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const in = table + tokens[row] * C;
      T* const out = y + row * C;
      if (position_table == nullptr) {
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) out[c] = scale * in[c];
      } else {
        const T* const position = position_table + (position_offset + row % T_len) * C;
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) out[c] = scale * in[c] + position[c];
      }
    }
  });
}

template <class T>
void embedding_backward(const T* dy, const int32_t* tokens, int64_t rows, int64_t C, int64_t V,
                        T scale, T* dtable, bool accumulate) {
  // A thread owns columns, not rows: no two threads meet in a row of the table, and each element's
  // sum runs over the rows in order.
  const int64_t grain = std::max(kVectorAlign, kElementGrain / std::max<int64_t>(1, rows));
  parallel_ranges(
      C, grain,
      [=](int64_t begin, int64_t end) {
        if (!accumulate) {
          for (int64_t v = 0; v < V; ++v)
            std::fill(dtable + v * C + begin, dtable + v * C + end, T{0});
        }
        for (int64_t row = 0; row < rows; ++row) {
          const T* const in = dy + row * C;
          T* const out = dtable + tokens[row] * C;
#pragma omp simd
          for (int64_t c = begin; c < end; ++c) out[c] += scale * in[c];
        }
      },
      kVectorAlign);
}

template <class T>
void position_backward(const T* dy, int64_t B, int64_t T_len, int64_t C, T* dpos,
                       int64_t n_positions, bool accumulate) {
  parallel_rows(T_len, B * C, [=](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      T* const out = dpos + t * C;
      if (!accumulate) std::fill(out, out + C, T{0});
      for (int64_t b = 0; b < B; ++b) {
        const T* const in = dy + (b * T_len + t) * C;
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) out[c] += in[c];
      }
    }
  });
  if (!accumulate) std::fill(dpos + T_len * C, dpos + n_positions * C, T{0});
}

#define BALLAST_INSTANTIATE(T)                                                                   \
  template void embedding_forward(const int32_t*, int64_t, int64_t, const T*, const T*, int64_t, \
                                  int64_t, T, T*);                                               \
  template void embedding_backward(const T*, const int32_t*, int64_t, int64_t, int64_t, T, T*,   \
                                   bool);                                                        \
  template void position_backward(const T*, int64_t, int64_t, int64_t, T*, int64_t, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
