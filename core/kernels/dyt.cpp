#include "core/kernels/dyt.h"

#include "core/kernels/activation.h"
#include "core/kernels/norm_row.h"
#include "core/kernels/rows.h"
#include "core/scratch.h"

namespace ballast {

namespace {

template <bool kAdd, class T>
void tanh_forward(const T* x, const T* f, T alpha, const T* w, const T* b, int64_t rows, int64_t C,
                  T* s, T* y) {
  T* const gain = scratch<T>(ScratchSlot::kernel, 2 * C);
  T* const shift = gain + C;
  fill_gain(w, T{0}, C, gain);
  fill_shift(b, C, shift);
  parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const in = residual_row<kAdd>(x, f, s, row, C);
      T* const out = y + row * C;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) out[c] = value_of<Tanh>(alpha * in[c]) * gain[c] + shift[c];
    }
  });
}

// One row of dyt's backward; returns its part of dL/dalpha.
template <bool kWrite, bool kAccumulate, class T>
T tanh_backward_row(const T* dy, const T* x, T alpha, const T* gain, int64_t C, T* dx, T* dw,
                    T* db) {
  T dalpha{0};
#pragma omp simd reduction(+ : dalpha)
  for (int64_t c = 0; c < C; ++c) {
    const auto [t, slope] = Tanh::both(alpha * x[c]);
    const T g = dy[c] * gain[c] * slope;
    dalpha += g * x[c];
    dw[c] += dy[c] * t;
    db[c] += dy[c];
    if constexpr (kWrite) {
      const T value = alpha * g;
      store<kAccumulate>(dx[c], value);
    }
  }
  return dalpha;
}

}  // namespace

template <class T>
void dyt_forward(const T* x, T alpha, const T* w, const T* b, int64_t rows, int64_t C, T* y) {
  tanh_forward<false>(x, static_cast<const T*>(nullptr), alpha, w, b, rows, C,
                      static_cast<T*>(nullptr), y);
}

template <class T>
void add_dyt_forward(const T* x, const T* f, T alpha, const T* w, const T* b, int64_t rows,
                     int64_t C, T* s, T* y) {
  tanh_forward<true>(x, f, alpha, w, b, rows, C, s, y);
}

template <class T>
void dyt_backward(const T* dy, const T* x, T alpha, const T* w, int64_t rows, int64_t C, T* dx,
                  bool accumulate_dx, T* dalpha, bool accumulate_dalpha, T* dw, bool accumulate_dw,
                  T* db, bool accumulate_db) {
  const int64_t chunks = row_chunks(rows);
  T* const gain = scratch<T>(ScratchSlot::kernel, C + 2 * chunks * C + rows);
  T* const dw_partials = gain + C;
  T* const db_partials = dw_partials + chunks * C;
  T* const row_sums = db_partials + chunks * C;
  fill_gain(w, T{0}, C, gain);
  const int64_t grain = std::max<int64_t>(1, row_grain(C) / kRowChunk);
  with_flag(dx != nullptr, [=](auto writes) {
    with_flag(accumulate_dx, [=](auto accumulates) {
      parallel_ranges(chunks, grain, [=](int64_t first, int64_t last) {
        for (int64_t chunk = first; chunk < last; ++chunk) {
          T* const dw_row = dw_partials + chunk * C;
          T* const db_row = db_partials + chunk * C;
          std::fill(dw_row, dw_row + C, T{0});
          std::fill(db_row, db_row + C, T{0});
          const int64_t end = std::min(rows, (chunk + 1) * kRowChunk);
          for (int64_t row = chunk * kRowChunk; row < end; ++row) {
            T* const out = writes.value ? dx + row * C : nullptr;
            row_sums[row] = tanh_backward_row<writes.value, accumulates.value>(
                dy + row * C, x + row * C, alpha, gain, C, out, dw_row, db_row);
          }
        }
      });
    });
  });
  if (dalpha != nullptr) add_rows(row_sums, rows, Gradient<T>{dalpha, accumulate_dalpha});
  if (dw != nullptr) add_partials(dw_partials, chunks, C, dw, accumulate_dw);
  if (db != nullptr) add_partials(db_partials, chunks, C, db, accumulate_db);
}

#define BALLAST_INSTANTIATE(T)                                                                   \
  template void dyt_forward(const T*, T, const T*, const T*, int64_t, int64_t, T*);              \
  template void add_dyt_forward(const T*, const T*, T, const T*, const T*, int64_t, int64_t, T*, \
                                T*);                                                             \
  template void dyt_backward(const T*, const T*, T, const T*, int64_t, int64_t, T*, bool, T*,    \
                             bool, T*, bool, T*, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
