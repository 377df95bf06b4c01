// Products of small matrices that are in cache: C = A B or C += A B, accumulated in registers.
// For kernels that make their operands on the fly; large products belong to core/matmul.h.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ballast::tile {

#ifdef __AVX512F__
inline constexpr int64_t kVectorBytes = 64;
inline constexpr int kRows = 8;  // 8 x 2 sums and 2 operands of the 32 registers
#else
inline constexpr int64_t kVectorBytes = 32;
inline constexpr int kRows = 6;  // 6 x 2 sums and 2 operands of the 16 registers
#endif

/// One register of T; arithmetic is element by element. Loads and stores need no alignment.
template <class T>
struct Simd {
  typedef T Vec __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
  static constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));

  static Vec load(const T* p) { return *reinterpret_cast<const Vec*>(p); }
  static void store(T* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
  static Vec broadcast(T x) { return x - Vec{}; }
};

/// Columns that the micro-kernel computes at once. Rows of B are read up to a multiple of it.
template <class T>
inline constexpr int64_t kPanel = 2 * Simd<T>::kLanes;

template <class T>
constexpr int64_t padded(int64_t columns) {
  return (columns + kPanel<T> - 1) / kPanel<T> * kPanel<T>;
}

/// Half-open range of the summed dimension.
struct Depth {
  int64_t begin, end;
};

namespace detail {

/// C[M][kVecs vectors] (+)= A[M][depth] B[depth][kVecs vectors]. Every element is one chain of
/// fused multiply-adds in the order of depth: its bits do not depend on M or on its place.
template <int M, int kVecs, bool kTransposed, class T>
[[gnu::always_inline]] inline void micro(Depth depth, const T* __restrict a, int64_t lda,
                                         const T* __restrict b, int64_t ldb, T* __restrict c,
                                         int64_t ldc, bool accumulate) {
  using S = Simd<T>;
  typename S::Vec sum[M][kVecs];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      sum[m][v] = accumulate ? S::load(c + m * ldc + v * S::kLanes) : typename S::Vec{};
    }
  }
  const T* b_row = b + depth.begin * ldb;
  const T* a_column = a + depth.begin * (kTransposed ? lda : 1);
  for (int64_t k = depth.begin; k < depth.end; ++k) {
    typename S::Vec right[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) right[v] = S::load(b_row + v * S::kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const T left = a_column[kTransposed ? m : m * lda];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[m][v] += left * right[v];
    }
    b_row += ldb;
    a_column += kTransposed ? lda : 1;
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) S::store(c + m * ldc + v * S::kLanes, sum[m][v]);
  }
}

/// The same for the last columns of C, of which only `columns` exist.
template <int M, bool kTransposed, class T>
void micro_edge(Depth depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc,
                bool accumulate, int64_t columns) {
  T full[M * kPanel<T>] = {};
  if (accumulate) {
    for (int m = 0; m < M; ++m) std::copy_n(c + m * ldc, columns, full + m * kPanel<T>);
  }
  micro<M, 2, kTransposed>(depth, a, lda, b, ldb, full, kPanel<T>, true);
  for (int m = 0; m < M; ++m) std::copy_n(full + m * kPanel<T>, columns, c + m * ldc);
}

template <int M, bool kTransposed, class T>
void block(Depth depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc,
           bool accumulate, int64_t columns) {
  if (columns < kPanel<T>) {
    micro_edge<M, kTransposed>(depth, a, lda, b, ldb, c, ldc, accumulate, columns);
  } else {
    micro<M, 2, kTransposed>(depth, a, lda, b, ldb, c, ldc, accumulate);
  }
}

/// block() with the number of rows as an argument: 1 … kRows.
template <int M, bool kTransposed, class T>
void block_of(int64_t rows, Depth depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
              int64_t ldc, bool accumulate, int64_t columns) {
  if constexpr (M > 1) {
    if (rows < M) {
      block_of<M - 1, kTransposed>(rows, depth, a, lda, b, ldb, c, ldc, accumulate, columns);
      return;
    }
  }
  block<M, kTransposed>(depth, a, lda, b, ldb, c, ldc, accumulate, columns);
}

}  // namespace detail

/// C (m, n) = A B, or C += A B, with A (m, k) and B (k, n) row-major. If kTransposed, `a` is the
/// (k, m) matrix whose transpose is A. Rows of B are read up to padded<T>(n) columns.
/// depth_of(row, rows, column, columns) gives the part of [0, k) that contributes to that block of
/// at most kRows x kPanel elements of C; a block without any is left untouched, never zeroed.
template <bool kTransposed, class T, class DepthOf>
void multiply(int64_t m, int64_t n, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
              int64_t ldc, bool accumulate, DepthOf&& depth_of) {
  for (int64_t column = 0; column < n; column += kPanel<T>) {
    const int64_t columns = std::min(kPanel<T>, n - column);
    for (int64_t row = 0; row < m; row += kRows) {
      const int64_t rows = std::min<int64_t>(kRows, m - row);
      const Depth depth = depth_of(row, rows, column, columns);
      if (depth.begin >= depth.end) continue;
      detail::block_of<kRows, kTransposed>(rows, depth, a + row * (kTransposed ? 1 : lda), lda,
                                           b + column, ldb, c + row * ldc + column, ldc, accumulate,
                                           columns);
    }
  }
}

/// The whole product.
template <bool kTransposed, class T>
void multiply(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
              T* c, int64_t ldc, bool accumulate) {
  multiply<kTransposed>(m, n, a, lda, b, ldb, c, ldc, accumulate,
                        [k](int64_t, int64_t, int64_t, int64_t) {
                          return Depth{0, k};
                        });
}

}  // namespace ballast::tile
