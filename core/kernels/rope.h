// Rotary position embedding (Su et al. 2021, arXiv 2104.09864) on rows of heads.
#pragma once

#include <cstdint>

namespace ballast {

/// Which channels of a head form a rotated pair.
enum class RopeLayout {
  half,         ///< (i, i + d_rot/2): GPT-NeoX, LLaMA
  interleaved,  ///< (2i, 2i + 1): the paper, GPT-J
};

/// cos, sin: (n_positions, d_rot/2), of the angle position * theta^(-2i/d_rot), computed in double.
/// (1e5 radians in float are off by 4e-3.)
template <class T>
void rope_table(double theta, int64_t d_rot, int64_t n_positions, T* cos, T* sin);

/// In place: each pair (a, b) of the first d_rot channels of the first n_heads heads of a row
/// becomes (a cos - b sin, a sin + b cos); the other channels and columns stay.
/// x: (rows, row_stride), heads of head_dim channels side by side from column 0. Row r is at
/// position position_offset + r mod T. `inverse` turns by the negative angle: the gradient of the
/// rotation. The table must reach the last position.
template <class T>
void rope_rotate(T* x, int64_t rows, int64_t T_len, int64_t position_offset, int64_t row_stride,
                 int64_t n_heads, int64_t head_dim, int64_t d_rot, RopeLayout layout, const T* cos,
                 const T* sin, bool inverse);

}  // namespace ballast
