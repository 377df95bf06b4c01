// What the norms' kernels share: the row that is normalised, its statistics, gains, and gradients
// that are sums over rows.
#pragma once

#include <cmath>
#include <cstdint>

namespace ballast {

/// Gain and shift as full rows: the loops have no cases.
template <class T>
void fill_gain(const T* w, T gain_offset, int64_t C, T* gain) {
  for (int64_t c = 0; c < C; ++c) gain[c] = w != nullptr ? gain_offset + w[c] : T{1};
}

template <class T>
void fill_shift(const T* b, int64_t C, T* shift) {
  for (int64_t c = 0; c < C; ++c) shift[c] = b != nullptr ? b[c] : T{0};
}

/// The row that is normalised: s = x + f, which is written, or x itself.
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

/// xhat = (x - centre - correction) * rstd.
template <class T>
struct RowStatistics {
  T centre;      ///< the mean as first summed
  T correction;  ///< what its rounding left of the sum, over C
  T rstd;
};

/// kCentred: LayerNorm; otherwise RMSNorm, whose mean is 0 by definition.
template <bool kCentred, class T>
[[gnu::always_inline]] inline RowStatistics<T> row_statistics(const T* x, T eps, T inv_C,
                                                              int64_t C) {
  T centre{0};
  if constexpr (kCentred) {
    T sum{0};
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; ++c) sum += x[c];
    centre = sum * inv_C;
  }
  T square_sum{0};
  T rest{0};
#pragma omp simd reduction(+ : square_sum, rest)
  for (int64_t c = 0; c < C; ++c) {
    const T d = x[c] - centre;
    square_sum += d * d;
    if constexpr (kCentred) rest += d;
  }
  const T correction = rest * inv_C;
  const T variance = square_sum * inv_C - correction * correction;
  const T above_zero = variance < T{0} ? T{0} : variance;  // NaN stays NaN
  return {centre, correction, T{1} / std::sqrt(above_zero + eps)};
}

template <class T>
struct Gradient {
  T* out;  ///< null: not wanted
  bool accumulate;
};

/// out (+)= the sum of one value a row: few, so that one thread adds them, in double.
template <class T>
void add_rows(const T* row_sums, int64_t rows, Gradient<T> out) {
  double sum = 0.0;
  for (int64_t row = 0; row < rows; ++row) sum += static_cast<double>(row_sums[row]);
  *out.out = static_cast<T>(out.accumulate ? static_cast<double>(*out.out) + sum : sum);
}

}  // namespace ballast
