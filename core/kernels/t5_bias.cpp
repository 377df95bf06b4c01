#include "core/kernels/t5_bias.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace ballast {

std::vector<int32_t> t5_buckets(int64_t n_buckets, int64_t max_distance) {
  const int64_t max_exact = n_buckets / 2;
  check(max_exact >= 1 && max_distance > max_exact, "[t5_bias] max_distance is ", max_distance,
        "; expected more than ", max_exact, ", half of the buckets, which are at least 2");
  const auto exact = static_cast<double>(max_exact);
  const double log_range = std::log(static_cast<double>(max_distance) / exact);
  std::vector<int32_t> buckets;
  for (int64_t d = 0; d <= max_distance; ++d) {
    int64_t bucket = d;
    if (d >= max_exact) {
      const double share = std::log(static_cast<double>(d) / exact) / log_range;
      // Where the quotient of logarithms is a whole number, rounding must not push it below.
      const double offset = share * static_cast<double>(n_buckets - max_exact) + 1e-9;
      bucket = std::min(max_exact + static_cast<int64_t>(offset), n_buckets - 1);
    }
    buckets.push_back(static_cast<int32_t>(bucket));
  }
  return buckets;
}

namespace {

int64_t bucket_of(std::span<const int32_t> buckets, int64_t d) {
  return buckets[std::min(static_cast<size_t>(d), buckets.size() - 1)];
}

}  // namespace

template <class T>
void t5_bias_forward(const T* table, std::span<const int32_t> buckets, int64_t H,
                     int64_t n_positions, T* bias) {
  for (int64_t d = 0; d < n_positions; ++d) {
    const T* const row = table + bucket_of(buckets, d) * H;
    for (int64_t h = 0; h < H; ++h) bias[h * n_positions + d] = row[h];
  }
}

template <class T>
void t5_bias_backward(const T* dbias, std::span<const int32_t> buckets, int64_t n_buckets,
                      int64_t H, int64_t n_positions, T* dtable, bool accumulate) {
  if (!accumulate) std::fill(dtable, dtable + n_buckets * H, T{0});
  for (int64_t d = 0; d < n_positions; ++d) {
    T* const row = dtable + bucket_of(buckets, d) * H;
    for (int64_t h = 0; h < H; ++h) row[h] += dbias[h * n_positions + d];
  }
}

#define BALLAST_INSTANTIATE(T)                                                                  \
  template void t5_bias_forward(const T*, std::span<const int32_t>, int64_t, int64_t, T*);      \
  template void t5_bias_backward(const T*, std::span<const int32_t>, int64_t, int64_t, int64_t, \
                                 T*, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
