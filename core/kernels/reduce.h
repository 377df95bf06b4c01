// Numbers that describe a whole tensor. Their bits do not depend on the number of threads.
#pragma once

#include <cstdint>

namespace ballast {

/// Sum of x^2, formed in double.
template <class T>
double sum_of_squares(const T* x, int64_t n);

/// Largest |x|; NaN if there is one, 0 if n is 0.
template <class T>
T max_abs(const T* x, int64_t n);

/// Elements that are NaN or infinite.
template <class T>
int64_t count_nonfinite(const T* x, int64_t n);

template <class T>
bool all_finite(const T* x, int64_t n) {
  return count_nonfinite(x, n) == 0;
}

/// Index of the first element that is NaN or infinite, -1 without one.
template <class T>
int64_t first_nonfinite(const T* x, int64_t n);

}  // namespace ballast
