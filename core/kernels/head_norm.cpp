#include "core/kernels/head_norm.h"

#include "core/kernels/norm_row.h"
#include "core/kernels/rows.h"
#include "core/scratch.h"

namespace ballast {

namespace {

// One group of one row, in place; xhat may be null. Returns rstd.
template <bool kCentred, class T>
T normalise_group(T* x, const T* gain, const T* shift, T eps, int64_t D, T* xhat) {
  const auto [centre, correction, r] =
      row_statistics<kCentred>(x, eps, T{1} / static_cast<T>(D), D);
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

#define BALLAST_INSTANTIATE(T)                                                                    \
  template void head_norm_forward(T*, int64_t, int64_t, const HeadGroups&, const T*, const T*, T, \
                                  T*, T*);                                                        \
  template void head_norm_backward(T*, int64_t, int64_t, const HeadGroups&, const T*, const T*,   \
                                   const T*, T*, T*);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
