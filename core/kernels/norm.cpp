#include "core/kernels/norm.h"

#include <cmath>

#include "core/kernels/rows.h"
#include "core/scratch.h"

namespace ballast {

namespace {

// Gain and shift as full rows: the loops have no cases.
template <class T>
void fill_gain(const T* w, T gain_offset, int64_t C, T* gain) {
  for (int64_t c = 0; c < C; ++c) gain[c] = w != nullptr ? gain_offset + w[c] : T{1};
}

// kCentred: LayerNorm; otherwise RMSNorm, whose mean is 0 by definition.
// kAdd: s = x + f is written and normalised; otherwise s is x.
template <bool kCentred, bool kAdd, class T>
void forward(const T* x, const T* f, const T* w, const T* b, T gain_offset, T eps, int64_t rows,
             int64_t C, T* s, T* y, T* mean, T* rstd) {
  T* const gain = scratch<T>(ScratchSlot::kernel, 2 * C);
  T* const shift = gain + C;
  fill_gain(w, gain_offset, C, gain);
  for (int64_t c = 0; c < C; ++c) shift[c] = b != nullptr ? b[c] : T{0};
  const T inv_C = T{1} / static_cast<T>(C);

  parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* in = x + row * C;
      if constexpr (kAdd) {
        const T* branch = f + row * C;
        T* sum = s + row * C;
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) sum[c] = in[c] + branch[c];
        in = sum;
      }
      T centre{0};
      if constexpr (kCentred) {
        T sum{0};
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < C; ++c) sum += in[c];
        centre = sum * inv_C;
      }
      T square_sum{0};
      T rest{0};  // what the rounding of `centre` left of the sum
#pragma omp simd reduction(+ : square_sum, rest)
      for (int64_t c = 0; c < C; ++c) {
        const T d = in[c] - centre;
        square_sum += d * d;
        if constexpr (kCentred) rest += d;
      }
      const T correction = rest * inv_C;
      const T variance = square_sum * inv_C - correction * correction;
      const T r = T{1} / std::sqrt((variance < T{0} ? T{0} : variance) + eps);  // NaN stays NaN
      if constexpr (kCentred) mean[row] = centre + correction;
      rstd[row] = r;
      T* out = y + row * C;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) {
        out[c] = (in[c] - centre - correction) * r * gain[c] + shift[c];
      }
    }
  });
}

template <class T>
struct Gradient {
  T* out;  ///< null: not wanted
  bool accumulate;
};

// The two means of dy that the gradient of one row needs.
template <class T>
struct RowMeans {
  T g;
  T g_xhat;
};

template <bool kCentred, bool kAccumulate, class T>
void write_row(const T* dy, const T* x, const T* gain, T mean, T rstd, RowMeans<T> means, int64_t C,
               T* dx) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) {
    const T xhat = (x[c] - mean) * rstd;
    T value = dy[c] * gain[c] - xhat * means.g_xhat;
    if constexpr (kCentred) value -= means.g;
    value *= rstd;
    store<kAccumulate>(dx[c], value);
  }
}

template <bool kCentred, class T>
void backward(const T* dy, const T* x, const T* w, T gain_offset, const T* mean, const T* rstd,
              int64_t rows, int64_t C, Gradient<T> dx, Gradient<T> dw, Gradient<T> db) {
  const int64_t chunks = row_chunks(rows);
  const int64_t n_partials = chunks * C;
  T* const gain = scratch<T>(ScratchSlot::kernel, C + 2 * n_partials);
  T* const dw_partials = gain + C;
  T* const db_partials = dw_partials + n_partials;
  fill_gain(w, gain_offset, C, gain);
  const T inv_C = T{1} / static_cast<T>(C);

  parallel_ranges(chunks, std::max<int64_t>(1, row_grain(C) / kRowChunk),
                  [=](int64_t first, int64_t last) {
                    for (int64_t chunk = first; chunk < last; ++chunk) {
                      T* const dw_row = dw_partials + chunk * C;
                      T* const db_row = db_partials + chunk * C;
                      if (dw.out != nullptr) std::fill(dw_row, dw_row + C, T{0});
                      if (db.out != nullptr) std::fill(db_row, db_row + C, T{0});
                      const int64_t end = std::min(rows, (chunk + 1) * kRowChunk);
                      for (int64_t row = chunk * kRowChunk; row < end; ++row) {
                        const T* const in = x + row * C;
                        const T* const grad = dy + row * C;
                        const T m = kCentred ? mean[row] : T{0};
                        const T r = rstd[row];
                        RowMeans<T> means{T{0}, T{0}};
                        if (dx.out != nullptr) {
                          T sum_g{0};
                          T sum_g_xhat{0};
#pragma omp simd reduction(+ : sum_g, sum_g_xhat)
                          for (int64_t c = 0; c < C; ++c) {
                            const T g = grad[c] * gain[c];
                            if constexpr (kCentred) sum_g += g;
                            sum_g_xhat += g * ((in[c] - m) * r);
                          }
                          means = {sum_g * inv_C, sum_g_xhat * inv_C};
                        }
                        if (dw.out != nullptr) {
#pragma omp simd
                          for (int64_t c = 0; c < C; ++c) dw_row[c] += grad[c] * ((in[c] - m) * r);
                        }
                        if (db.out != nullptr) {
#pragma omp simd
                          for (int64_t c = 0; c < C; ++c) db_row[c] += grad[c];
                        }
                        if (dx.out == nullptr) continue;
                        with_flag(dx.accumulate, [&](auto accumulate) {
                          write_row<kCentred, accumulate.value>(grad, in, gain, m, r, means, C,
                                                                dx.out + row * C);
                        });
                      }
                    }
                  });
  if (dw.out != nullptr) add_partials(dw_partials, chunks, C, dw.out, dw.accumulate);
  if (db.out != nullptr) add_partials(db_partials, chunks, C, db.out, db.accumulate);
}

template <class T>
constexpr T* kNone = nullptr;

}  // namespace

template <class T>
void layer_norm_forward(const T* x, const T* w, const T* b, T gain_offset, T eps, int64_t rows,
                        int64_t C, T* y, T* mean, T* rstd) {
  forward<true, false>(x, kNone<const T>, w, b, gain_offset, eps, rows, C, kNone<T>, y, mean, rstd);
}

template <class T>
void layer_norm_backward(const T* dy, const T* x, const T* w, T gain_offset, const T* mean,
                         const T* rstd, int64_t rows, int64_t C, T* dx, bool accumulate_dx, T* dw,
                         bool accumulate_dw, T* db, bool accumulate_db) {
  backward<true>(dy, x, w, gain_offset, mean, rstd, rows, C, Gradient<T>{dx, accumulate_dx},
                 Gradient<T>{dw, accumulate_dw}, Gradient<T>{db, accumulate_db});
}

template <class T>
void rms_norm_forward(const T* x, const T* w, T gain_offset, T eps, int64_t rows, int64_t C, T* y,
                      T* rstd) {
  forward<false, false>(x, kNone<const T>, w, kNone<const T>, gain_offset, eps, rows, C, kNone<T>,
                        y, kNone<T>, rstd);
}

template <class T>
void rms_norm_backward(const T* dy, const T* x, const T* w, T gain_offset, const T* rstd,
                       int64_t rows, int64_t C, T* dx, bool accumulate_dx, T* dw,
                       bool accumulate_dw) {
  backward<false>(dy, x, w, gain_offset, kNone<const T>, rstd, rows, C,
                  Gradient<T>{dx, accumulate_dx}, Gradient<T>{dw, accumulate_dw},
                  Gradient<T>{nullptr, false});
}

template <class T>
void add_layer_norm_forward(const T* x, const T* f, const T* w, const T* b, T gain_offset, T eps,
                            int64_t rows, int64_t C, T* s, T* y, T* mean, T* rstd) {
  forward<true, true>(x, f, w, b, gain_offset, eps, rows, C, s, y, mean, rstd);
}

template <class T>
void add_rms_norm_forward(const T* x, const T* f, const T* w, T gain_offset, T eps, int64_t rows,
                          int64_t C, T* s, T* y, T* rstd) {
  forward<false, true>(x, f, w, kNone<const T>, gain_offset, eps, rows, C, s, y, kNone<T>, rstd);
}

#define BALLAST_INSTANTIATE(T)                                                                     \
  template void layer_norm_forward(const T*, const T*, const T*, T, T, int64_t, int64_t, T*, T*,   \
                                   T*);                                                            \
  template void layer_norm_backward(const T*, const T*, const T*, T, const T*, const T*, int64_t,  \
                                    int64_t, T*, bool, T*, bool, T*, bool);                        \
  template void rms_norm_forward(const T*, const T*, T, T, int64_t, int64_t, T*, T*);              \
  template void rms_norm_backward(const T*, const T*, const T*, T, const T*, int64_t, int64_t, T*, \
                                  bool, T*, bool);                                                 \
  template void add_layer_norm_forward(const T*, const T*, const T*, const T*, T, T, int64_t,      \
                                       int64_t, T*, T*, T*, T*);                                   \
  template void add_rms_norm_forward(const T*, const T*, const T*, T, T, int64_t, int64_t, T*, T*, \
                                     T*);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
