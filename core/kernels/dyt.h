// Dynamic tanh, alone and behind a residual addition: in place of a norm, without statistics.
#pragma once

#include <cstdint>

namespace ballast {

/// y = w tanh(alpha x) + b.   Saves nothing.
/// Zhu et al. 2025, arXiv 2503.10622, "Transformers without Normalization".
template <class T>
void dyt_forward(const T* x, T alpha, const T* w, const T* b, int64_t rows, int64_t C, T* y);

/// s = x + f, y = dyt(s).
template <class T>
void add_dyt_forward(const T* x, const T* f, T alpha, const T* w, const T* b, int64_t rows,
                     int64_t C, T* s, T* y);

/// dx = alpha g, dalpha = sum of g x, g = dy w (1 - t^2), t = tanh(alpha x); dw = sum over rows of
/// dy t, db = sum over rows of dy.
template <class T>
void dyt_backward(const T* dy, const T* x, T alpha, const T* w, int64_t rows, int64_t C, T* dx,
                  bool accumulate_dx, T* dalpha, bool accumulate_dalpha, T* dw, bool accumulate_dw,
                  T* db, bool accumulate_db);

}  // namespace ballast
