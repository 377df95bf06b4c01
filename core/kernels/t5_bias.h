// T5's relative position bias: one learned number for each bucket of distances and each head.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ballast {

/// Buckets of the distances 0 to max_distance of a key behind its query; farther ones share the
/// last. Half of the buckets hold one distance each; the others grow logarithmically up to
/// max_distance. Throws std::invalid_argument unless max_distance > n_buckets / 2 >= 1.
/// Raffel et al. 2020, arXiv 1910.10683, section 2.1, as in their code, for causal attention.
std::vector<int32_t> t5_buckets(int64_t n_buckets, int64_t max_distance);

/// bias[h][d] = table[buckets[d]][h], and the last bucket's row beyond the buckets.
/// table: (n_buckets, H)   bias: (H, n_positions)
template <class T>
void t5_bias_forward(const T* table, std::span<const int32_t> buckets, int64_t H,
                     int64_t n_positions, T* bias);

/// dtable[bucket][h] = sum of dbias[h][d] over its distances.
template <class T>
void t5_bias_backward(const T* dbias, std::span<const int32_t> buckets, int64_t n_buckets,
                      int64_t H, int64_t n_positions, T* dtable, bool accumulate);

}  // namespace ballast
