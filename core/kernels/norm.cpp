#include "core/kernels/norm.h"

#include <cmath>

#include "core/kernels/norm_row.h"
#include "core/kernels/rows.h"
#include "core/scratch.h"

namespace ballast {

namespace {

// kCentred: LayerNorm; otherwise RMSNorm. kAdd: s = x + f is written and normalised; otherwise x.
template <bool kCentred, bool kAdd, class T>
void forward(const T* x, const T* f, const T* w, const T* b, T gain_offset, T eps, int64_t rows,
             int64_t C, T* s, T* y, T* mean, T* rstd) {
  T* const gain = scratch<T>(ScratchSlot::kernel, 2 * C);
  T* const shift = gain + C;
  fill_gain(w, gain_offset, C, gain);
  fill_shift(b, C, shift);
  const T inv_C = T{1} / static_cast<T>(C);

  parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const in = residual_row<kAdd>(x, f, s, row, C);
      const auto [centre, correction, r] = row_statistics<kCentred>(in, eps, inv_C, C);
      if constexpr (kCentred) mean[row] = centre + correction;
      rstd[row] = r;
      T* const out = y + row * C;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) {
        out[c] = (in[c] - centre - correction) * r * gain[c] + shift[c];
      }
    }
  });
}

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

template <bool kAdd, class T>
void scale_forward(const T* x, const T* f, T g, T eps, int64_t rows, int64_t C, T* s, T* y,
                   T* inverse) {
  const T limit = T{1} / eps;
  parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const in = residual_row<kAdd>(x, f, s, row, C);
      T square_sum{0};
#pragma omp simd reduction(+ : square_sum)
      for (int64_t c = 0; c < C; ++c) square_sum += in[c] * in[c];
      const T r = T{1} / std::sqrt(square_sum);
      inverse[row] = r > limit ? limit : r;  // NaN stays NaN
      const T factor = g * inverse[row];
      T* const out = y + row * C;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) out[c] = factor * in[c];
    }
  });
}

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

template <class T>
void scale_norm_forward(const T* x, T g, T eps, int64_t rows, int64_t C, T* y, T* inverse) {
  scale_forward<false>(x, kNone<const T>, g, eps, rows, C, kNone<T>, y, inverse);
}

template <class T>
void add_scale_norm_forward(const T* x, const T* f, T g, T eps, int64_t rows, int64_t C, T* s, T* y,
                            T* inverse) {
  scale_forward<true>(x, f, g, eps, rows, C, s, y, inverse);
}

template <class T>
void scale_norm_backward(const T* dy, const T* x, T g, T eps, const T* inverse, int64_t rows,
                         int64_t C, T* dx, bool accumulate_dx, T* dg, bool accumulate_dg) {
  T* const row_sums = scratch<T>(ScratchSlot::kernel, rows);
  const T limit = T{1} / eps;
  with_flag(accumulate_dx, [=](auto accumulates) {
    parallel_rows(rows, C, [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* const in = x + row * C;
        const T* const grad = dy + row * C;
        const T r = inverse[row];
        T sum{0};
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < C; ++c) sum += grad[c] * in[c];
        row_sums[row] = sum * r;
        if (dx == nullptr) continue;
        // A row no longer than eps is divided by a constant.
        const T projection = r < limit ? sum * r * r : T{0};
        const T factor = g * r;
        T* const out = dx + row * C;
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) {
          const T value = factor * (grad[c] - in[c] * projection);
          store<accumulates.value>(out[c], value);
        }
      }
    });
  });
  if (dg != nullptr) add_rows(row_sums, rows, Gradient<T>{dg, accumulate_dg});
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
                                     T*);                                                          \
  template void scale_norm_forward(const T*, T, T, int64_t, int64_t, T*, T*);                      \
  template void add_scale_norm_forward(const T*, const T*, T, T, int64_t, int64_t, T*, T*, T*);    \
  template void scale_norm_backward(const T*, const T*, T, T, const T*, int64_t, int64_t, T*,      \
                                    bool, T*, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
