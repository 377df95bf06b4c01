// Sums, scaling, copies and conversions of whole tensors, and bias rows.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace ballast {

/// out = a + b. out may be a or b.
template <class T>
void add(const T* a, const T* b, int64_t n, T* out);

/// out += a. The gradient of both addends of a sum is the gradient of the sum: this adds it.
template <class T>
void add_inplace(const T* a, int64_t n, T* out);

/// out = factor * x. out may be x. With `accumulate`, out += factor * x: its own gradient.
template <class T>
void scale(const T* x, T factor, int64_t n, T* out, bool accumulate = false);

template <class T>
void copy(const T* x, int64_t n, T* out);

template <class T>
void fill(T value, int64_t n, T* out);

/// Rounds to nearest, ties to even; a NaN stays a NaN.
void convert(const float* x, int64_t n, bf16* out);
/// Exact.
void convert(const bf16* x, int64_t n, float* out);

/// y[r, c] += b[c], c < N.   y: rows of N values that begin `stride` apart   b: (N).
/// Its gradient in b is column_sum.
template <class T>
void add_bias(T* y, int64_t rows, int64_t N, int64_t stride, const T* b);

/// out[c] = sum over rows of x[r, c], c < N.   x: rows that begin `stride` apart   out: (N)
template <class T>
void column_sum(const T* x, int64_t rows, int64_t N, int64_t stride, T* out, bool accumulate);

}  // namespace ballast
