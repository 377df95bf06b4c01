// T5's relative position bias: one learned number for each bucket of distances and each head.
#pragma once

#include <cstdint>

namespace ballast {

/// Bucket of the distance d >= 0 of a key behind its query. Half of the buckets hold one distance
/// each; the others grow logarithmically up to max_distance, and the last one holds all beyond.
/// Raffel et al. 2020, arXiv 1910.10683, section 2.1, as in their code, for causal attention.
int64_t t5_bucket(int64_t d, int64_t n_buckets, int64_t max_distance);

/// bias[h][d] = table[bucket(d)][h].   table: (n_buckets, H)   bias: (H, n_positions)
template <class T>
void t5_bias_forward(const T* table, int64_t n_buckets, int64_t H, int64_t n_positions,
                     int64_t max_distance, T* bias);

/// dtable[bucket][h] = sum of dbias[h][d] over its distances.
template <class T>
void t5_bias_backward(const T* dbias, int64_t n_buckets, int64_t H, int64_t n_positions,
                      int64_t max_distance, T* dtable, bool accumulate);

}  // namespace ballast
