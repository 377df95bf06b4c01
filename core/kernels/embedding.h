// Rows of a table by token, with learned positions.
#pragma once

#include <cstdint>

namespace ballast {

/// y[r] = scale * table[tokens[r]] + position_table[position_offset + r mod T].
/// tokens: (rows), each in [0, V)   table: (V, C)   position_table: (n_positions, C) or null
/// y: (rows, C).   Saves nothing.
template <class T>
void embedding_forward(const int32_t* tokens, int64_t rows, int64_t C, const T* table,
                       const T* position_table, int64_t T_len, int64_t position_offset, T scale,
                       T* y);

/// dtable[v] = scale * sum of dy[r] over the rows r with token v, in the order of the rows. Rows of
/// the table that no token reads become 0 when overwriting.
template <class T>
void embedding_backward(const T* dy, const int32_t* tokens, int64_t rows, int64_t C, int64_t V,
                        T scale, T* dtable, bool accumulate);

/// dpos[t] = sum over b of dy[b, t].   dy: (B, T, C)   dpos: (n_positions, C), n_positions >= T.
/// Positions from T on become 0 when overwriting.
template <class T>
void position_backward(const T* dy, int64_t B, int64_t T_len, int64_t C, T* dpos,
                       int64_t n_positions, bool accumulate);

}  // namespace ballast
