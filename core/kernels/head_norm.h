// Norms of groups of columns (heads) of each row, in place.
#pragma once

#include <cstdint>

namespace ballast {

/// Groups of neighbouring columns that are normalised each on its own: group i is columns
/// [bounds[i], bounds[i + 1]), bounds[0] = 0.
struct HeadGroups {
  const int64_t* bounds = nullptr;
  int64_t n = 0;
  bool is_centred = false;  ///< LayerNorm; otherwise RMSNorm
  int64_t width() const { return bounds[n]; }
};

/// x = xhat * gain + shift in place, xhat the normalised group: of the first W = groups.width()
/// columns of rows that begin `stride` apart.   gain, shift: (W)
/// Saves xhat (rows, W) and rstd (rows, groups.n); null: not wanted.
template <class T>
void head_norm_forward(T* x, int64_t rows, int64_t stride, const HeadGroups& groups, const T* gain,
                       const T* shift, T eps, T* xhat, T* rstd);

/// dy becomes dx in place, as layer_norm_backward and rms_norm_backward have it; dgain = sum over
/// rows of dy * xhat and dshift = sum over rows of dy overwrite (W); only centred groups shift.
template <class T>
void head_norm_backward(T* dy, int64_t rows, int64_t stride, const HeadGroups& groups,
                        const T* gain, const T* xhat, const T* rstd, T* dgain, T* dshift);

}  // namespace ballast
