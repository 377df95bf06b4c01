// Factors on rows and columns, and the soft cap.
#pragma once

#include <cstdint>

namespace ballast {

/// y = factor * w * x.   x, y: (rows, C)   w: (C).   y may be x.
template <class T>
void scale_columns_forward(const T* x, const T* w, T factor, int64_t rows, int64_t C, T* y);

/// dx = factor * w * dy, dw = factor * sum over rows of dy * x. Outputs that are null are skipped.
template <class T>
void scale_columns_backward(const T* dy, const T* x, const T* w, T factor, int64_t rows, int64_t C,
                            T* dx, bool accumulate_dx, T* dw, bool accumulate_dw);

/// The first C columns of row r times factors[r % period], in place; rows begin `stride` apart.
/// Its gradient is the same function of dy.
template <class T>
void scale_rows(T* x, int64_t rows, int64_t C, int64_t stride, const double* factors,
                int64_t period);

/// y = cap tanh(factor x / cap), cap > 0. y may be x.   Gemma 2, arXiv 2408.00118, section 2.
template <class T>
void softcap_forward(const T* x, T cap, T factor, int64_t n, T* y);

/// dx = dy factor (1 - tanh(factor x / cap)^2). dx may be dy.
template <class T>
void softcap_backward(const T* dy, const T* x, T cap, T factor, int64_t n, T* dx, bool accumulate);

}  // namespace ballast
