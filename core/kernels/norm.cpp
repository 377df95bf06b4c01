#include "core/kernels/norm.h"

#include <cmath>

#include "core/kernels/activation.h"
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

// The row that is normalised: s = x + f, which is written, or x itself.
template <bool kAdd, class T>
[[gnu::always_inline]] inline const T* residual_row(const T* x, const T* f, T* s, int64_t row,
                                                    int64_t C) {
  if constexpr (!kAdd) return x + row * C;
  const T* const in = x + row * C;
  const T* const branch = f + row * C;
  T* const sum = s + row * C;
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) sum[c] = in[c] + branch[c];
  return sum;
}

// out (+)= the sum of one value a row: few, so that one thread adds them, in double.
template <class T>
void add_rows(const T* row_sums, int64_t rows, Gradient<T> out) {
  double sum = 0.0;
  for (int64_t row = 0; row < rows; ++row) sum += static_cast<double>(row_sums[row]);
  *out.out = static_cast<T>(out.accumulate ? static_cast<double>(*out.out) + sum : sum);
}

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

template <bool kAdd, class T>
void tanh_forward(const T* x, const T* f, T alpha, const T* w, const T* b, int64_t rows, int64_t C,
                  T* s, T* y) {
  T* const gain = scratch<T>(ScratchSlot::kernel, 2 * C);
  T* const shift = gain + C;
  fill_gain(w, T{0}, C, gain);
  for (int64_t c = 0; c < C; ++c) shift[c] = b != nullptr ? b[c] : T{0};
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

// Columns [begin, end) of one row, normalised in place; xhat may be null.
template <bool kCentred, class T>
T normalise_group(T* x, const T* gain, const T* shift, T eps, int64_t D, T* xhat) {
  const T inv_D = T{1} / static_cast<T>(D);
  T centre{0};
  if constexpr (kCentred) {
    T sum{0};
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < D; ++d) sum += x[d];
    centre = sum * inv_D;
  }
  T square_sum{0};
  T rest{0};  // as in forward()
#pragma omp simd reduction(+ : square_sum, rest)
  for (int64_t d = 0; d < D; ++d) {
    const T centred = x[d] - centre;
    square_sum += centred * centred;
    if constexpr (kCentred) rest += centred;
  }
  const T correction = rest * inv_D;
  const T variance = square_sum * inv_D - correction * correction;
  const T r = T{1} / std::sqrt((variance < T{0} ? T{0} : variance) + eps);
  if (xhat == nullptr) {
#pragma omp simd
    for (int64_t d = 0; d < D; ++d) x[d] = (x[d] - centre - correction) * r * gain[d] + shift[d];
  } else {
#pragma omp simd
    for (int64_t d = 0; d < D; ++d) {
      xhat[d] = (x[d] - centre - correction) * r;
      x[d] = xhat[d] * gain[d] + shift[d];
    }
  }
  return r;
}

template <bool kCentred, class T>
void differentiate_group(T* dy, const T* xhat, T rstd, const T* gain, int64_t D, T* dgain,
                         T* dshift) {
  const T inv_D = T{1} / static_cast<T>(D);
  T sum_g{0};
  T sum_g_xhat{0};
#pragma omp simd reduction(+ : sum_g, sum_g_xhat)
  for (int64_t d = 0; d < D; ++d) {
    const T g = dy[d] * gain[d];
    if constexpr (kCentred) sum_g += g;
    sum_g_xhat += g * xhat[d];
    dgain[d] += dy[d] * xhat[d];
    if constexpr (kCentred) dshift[d] += dy[d];
  }
  const T mean_g = sum_g * inv_D;
  const T mean_g_xhat = sum_g_xhat * inv_D;
#pragma omp simd
  for (int64_t d = 0; d < D; ++d) {
    dy[d] = rstd * (dy[d] * gain[d] - mean_g - xhat[d] * mean_g_xhat);
  }
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

template <class T>
void dyt_forward(const T* x, T alpha, const T* w, const T* b, int64_t rows, int64_t C, T* y) {
  tanh_forward<false>(x, kNone<const T>, alpha, w, b, rows, C, kNone<T>, y);
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

template <class T>
void head_norm_forward(T* x, int64_t rows, int64_t stride, const HeadGroups& groups, const T* gain,
                       const T* shift, T eps, T* xhat, T* rstd) {
  const int64_t W = groups.width();
  with_flag(groups.is_centred, [=](auto centred) {
    parallel_rows(rows, W, [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t g = 0; g < groups.n; ++g) {
          const int64_t at = groups.bounds[g];
          const T r = normalise_group<centred.value>(
              x + row * stride + at, gain + at, shift + at, eps, groups.bounds[g + 1] - at,
              xhat != nullptr ? xhat + row * W + at : nullptr);
          if (rstd != nullptr) rstd[row * groups.n + g] = r;
        }
      }
    });
  });
}

template <class T>
void head_norm_backward(T* dy, int64_t rows, int64_t stride, const HeadGroups& groups,
                        const T* gain, const T* xhat, const T* rstd, T* dgain, T* dshift) {
  const int64_t W = groups.width();
  const int64_t chunks = row_chunks(rows);
  T* const dgain_partials = scratch<T>(ScratchSlot::kernel, 2 * chunks * W);
  T* const dshift_partials = dgain_partials + chunks * W;
  const int64_t grain = std::max<int64_t>(1, row_grain(W) / kRowChunk);
  with_flag(groups.is_centred, [=](auto centred) {
    parallel_ranges(chunks, grain, [=](int64_t first, int64_t last) {
      for (int64_t chunk = first; chunk < last; ++chunk) {
        T* const dgain_row = dgain_partials + chunk * W;
        T* const dshift_row = dshift_partials + chunk * W;
        std::fill(dgain_row, dgain_row + W, T{0});
        std::fill(dshift_row, dshift_row + W, T{0});
        const int64_t end = std::min(rows, (chunk + 1) * kRowChunk);
        for (int64_t row = chunk * kRowChunk; row < end; ++row) {
          for (int64_t g = 0; g < groups.n; ++g) {
            const int64_t at = groups.bounds[g];
            differentiate_group<centred.value>(
                dy + row * stride + at, xhat + row * W + at, rstd[row * groups.n + g], gain + at,
                groups.bounds[g + 1] - at, dgain_row + at, dshift_row + at);
          }
        }
      }
    });
  });
  add_partials(dgain_partials, chunks, W, dgain, false);
  add_partials(dshift_partials, chunks, W, dshift, false);
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
                                    bool, T*, bool);                                               \
  template void dyt_forward(const T*, T, const T*, const T*, int64_t, int64_t, T*);                \
  template void add_dyt_forward(const T*, const T*, T, const T*, const T*, int64_t, int64_t, T*,   \
                                T*);                                                               \
  template void dyt_backward(const T*, const T*, T, const T*, int64_t, int64_t, T*, bool, T*,      \
                             bool, T*, bool, T*, bool);                                            \
  template void head_norm_forward(T*, int64_t, int64_t, const HeadGroups&, const T*, const T*, T,  \
                                  T*, T*);                                                         \
  template void head_norm_backward(T*, int64_t, int64_t, const HeadGroups&, const T*, const T*,    \
                                   const T*, T*, T*);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
