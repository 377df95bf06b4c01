// Norms over the last dimension of (rows, C), alone and behind a residual addition.
// gain[c] = gain_offset + w[c]; without w the gain is 1, without b the shift is 0.
#pragma once

#include <cstdint>

namespace ballast {

/// y = (x - mean(x)) / sqrt(var(x) + eps) * gain + b with the biased variance.
/// x, y: (rows, C)   w, b: (C) or null.   Saves mean and rstd: one value a row each.
/// The variance takes a second pass and mean's rounding error is taken out of it and of y, so a
/// mean far above the standard deviation costs no digits. Ba et al. 2016, arXiv 1607.06450, eq. 3.
template <class T>
void layer_norm_forward(const T* x, const T* w, const T* b, T gain_offset, T eps, int64_t rows,
                        int64_t C, T* y, T* mean, T* rstd);

/// dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gain, xhat = (x - mean) * rstd;
/// dw = sum over rows of dy * xhat, db = sum over rows of dy. Outputs that are null are skipped.
template <class T>
void layer_norm_backward(const T* dy, const T* x, const T* w, T gain_offset, const T* mean,
                         const T* rstd, int64_t rows, int64_t C, T* dx, bool accumulate_dx, T* dw,
                         bool accumulate_dw, T* db, bool accumulate_db);

/// y = x / sqrt(mean(x^2) + eps) * gain.   Saves rstd: one value a row.
/// Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4. Unlike LayerNorm, the mean is not removed.
template <class T>
void rms_norm_forward(const T* x, const T* w, T gain_offset, T eps, int64_t rows, int64_t C, T* y,
                      T* rstd);

/// dx = rstd * (g - xhat * mean(g * xhat)), g = dy * gain, xhat = x * rstd; dw as above.
template <class T>
void rms_norm_backward(const T* dy, const T* x, const T* w, T gain_offset, const T* rstd,
                       int64_t rows, int64_t C, T* dx, bool accumulate_dx, T* dw,
                       bool accumulate_dw);

/// s = x + f, y = layer_norm(s): one pass over memory. s may be x or f. The gradient of both
/// addends is what reaches s from elsewhere, to which layer_norm_backward at s adds.
template <class T>
void add_layer_norm_forward(const T* x, const T* f, const T* w, const T* b, T gain_offset, T eps,
                            int64_t rows, int64_t C, T* s, T* y, T* mean, T* rstd);

/// s = x + f, y = rms_norm(s).
template <class T>
void add_rms_norm_forward(const T* x, const T* f, const T* w, T gain_offset, T eps, int64_t rows,
                          int64_t C, T* s, T* y, T* rstd);

/// y = g x / max(norm2(x), eps).   Saves inverse = 1 / max(norm2(x), eps): one value a row.
/// Nguyen & Salazar 2019, arXiv 1910.05895, section 3.2.
template <class T>
void scale_norm_forward(const T* x, T g, T eps, int64_t rows, int64_t C, T* y, T* inverse);

/// s = x + f, y = scale_norm(s).
template <class T>
void add_scale_norm_forward(const T* x, const T* f, T g, T eps, int64_t rows, int64_t C, T* s, T* y,
                            T* inverse);

/// dx = g inverse (dy - u sum(dy u)), u = x inverse, without the sum in rows no longer than eps;
/// dg = sum over rows of dy u.
template <class T>
void scale_norm_backward(const T* dy, const T* x, T g, T eps, const T* inverse, int64_t rows,
                         int64_t C, T* dx, bool accumulate_dx, T* dg, bool accumulate_dg);

}  // namespace ballast
