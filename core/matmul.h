// Matrix products. The only door to oneDNN.
#pragma once

#include <cstdint>
#include <string>

namespace ballast {

/// Which of oneDNN's interfaces computes a float32 product.
enum class MatmulPath {
  automatic,  ///< what was measured to be fastest for the instruction set and the shape
  sgemm,      ///< dnnl_sgemm: any transposition, accumulates
  plain,      ///< matmul primitive on row-major operands; cannot accumulate
  packed,     ///< matmul primitive whose right operand is first brought into its favourite layout
};

/// One operand or result: row-major with a leading dimension, read as its transpose if
/// `transposed`.
template <class T>
struct Matrix {
  T* data;
  int64_t leading_dimension;
  bool transposed = false;
};

/// C = op(A) op(B) [+ bias in every row] [+ C if accumulate], with op(A) (m, k), op(B) (k, n), C
/// (m, n). bias: n values or null; cannot be combined with accumulate. C is not read unless
/// accumulate; k must be positive. float: oneDNN. double: a blocked loop for gradient checks.
template <class T>
void matmul(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, bool accumulate,
            Matrix<T> c, const T* bias = nullptr, MatmulPath path = MatmulPath::automatic);

/// "oneDNN 2.6.3, AVX2": version and the instruction set it uses on this machine.
std::string matmul_backend();

}  // namespace ballast
