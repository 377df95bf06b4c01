#include "core/kernels/t5_bias.h"

#include <algorithm>
#include <cmath>

namespace ballast {

int64_t t5_bucket(int64_t d, int64_t n_buckets, int64_t max_distance) {
  const int64_t max_exact = n_buckets / 2;
  if (d < max_exact) return d;
  const auto exact = static_cast<double>(max_exact);
  const double share = std::log(static_cast<double>(d) / exact) /
                       std::log(static_cast<double>(max_distance) / exact);
  // Where the quotient of logarithms is a whole number, rounding must not push it below.
  const double offset = share * static_cast<double>(n_buckets - max_exact) + 1e-9;
  return std::min(max_exact + static_cast<int64_t>(offset), n_buckets - 1);
}

template <class T>
void t5_bias_forward(const T* table, int64_t n_buckets, int64_t H, int64_t n_positions,
                     int64_t max_distance, T* bias) {
  for (int64_t d = 0; d < n_positions; ++d) {
    const T* const row = table + t5_bucket(d, n_buckets, max_distance) * H;
    for (int64_t h = 0; h < H; ++h) bias[h * n_positions + d] = row[h];
  }
}

template <class T>
void t5_bias_backward(const T* dbias, int64_t n_buckets, int64_t H, int64_t n_positions,
                      int64_t max_distance, T* dtable, bool accumulate) {
  if (!accumulate) std::fill(dtable, dtable + n_buckets * H, T{0});
  for (int64_t d = 0; d < n_positions; ++d) {
    T* const row = dtable + t5_bucket(d, n_buckets, max_distance) * H;
    for (int64_t h = 0; h < H; ++h) row[h] += dbias[h * n_positions + d];
  }
}

#define BALLAST_INSTANTIATE(T)                                                     \
  template void t5_bias_forward(const T*, int64_t, int64_t, int64_t, int64_t, T*); \
  template void t5_bias_backward(const T*, int64_t, int64_t, int64_t, int64_t, T*, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
