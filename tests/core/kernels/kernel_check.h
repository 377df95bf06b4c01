// What the tests of kernels share: comparisons, finite differences, and equal bits for any threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "tests/support/catch.h"
#include "tests/support/random_tensor.h"
#include "tests/support/reference.h"

namespace ballast {

using reference::Values;

inline constexpr double kFloatRounding = 0x1p-24;  // relative error of one rounding

template <class T>
std::vector<T> cast(const Values& values) {
  return std::vector<T>(values.begin(), values.end());
}

template <class T>
int64_t length(const std::vector<T>& values) {
  return static_cast<int64_t>(values.size());
}

/// Outputs that a kernel overwrites start like this: reading them shows.
template <class T = double>
std::vector<T> poisoned(int64_t n) {
  return std::vector<T>(static_cast<size_t>(n), std::numeric_limits<T>::quiet_NaN());
}

template <class T>
double largest(const std::vector<T>& values) {
  double result = 0.0;
  for (const T value : values) result = std::max(result, std::fabs(static_cast<double>(value)));
  return result;
}

/// Largest difference over the largest expected value; infinite where a value is not a number.
template <class T>
double relative_error(const std::vector<T>& actual, const Values& expected, double floor = 0.0) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double d = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    if (std::isnan(d)) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, d);
  }
  const double size = std::max(largest(expected), floor);
  return size > 0.0 ? difference / size : difference;
}

inline double dot(const Values& a, const Values& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// d loss / d x[i] by central differences; loss() reads x. With h = 1e-5, truncation (h^2 f'''/6)
/// and rounding (1e-16 |f| / h) both stay near 1e-11 for values of size 1.
inline Values numeric_gradient(Values& x, const std::function<double()>& loss) {
  constexpr double kStep = 1e-5;
  Values gradient;
  for (double& value : x) {
    const double here = value;
    value = here + kStep;
    const double above = loss();
    value = here - kStep;
    const double below = loss();
    value = here;
    gradient.push_back((above - below) / (2.0 * kStep));
  }
  return gradient;
}

/// The bound of every gradient check in float64.
inline constexpr double kGradientBound = 1e-7;

/// Threads of a scope; the number before comes back at its end.
class ThreadsInScope {
 public:
  explicit ThreadsInScope(int n) : before_(n_threads()) { set_n_threads(n); }
  ~ThreadsInScope() { set_n_threads(before_); }
  ThreadsInScope(const ThreadsInScope&) = delete;
  ThreadsInScope& operator=(const ThreadsInScope&) = delete;

 private:
  int before_;
};

/// True if run() returns the same bits with 1, 2, 3 and 4 threads.
template <class F>
bool same_bits_for_all_threads(F run) {
  const auto with_threads = [&run](int n) {
    const ThreadsInScope threads(n);
    return run();
  };
  const auto expected = with_threads(1);
  for (int n = 2; n <= 4; ++n) {
    const auto actual = with_threads(n);
    if (actual.size() != expected.size()) return false;
    if (std::memcmp(actual.data(), expected.data(), actual.size() * sizeof(actual[0])) != 0) {
      return false;
    }
  }
  return true;
}

struct RowShape {
  int64_t rows;
  int64_t C;
};

/// One row, one column, odd sizes, more rows than one chunk, more columns than one vector.
inline RowShape generate_row_shape() {
  return GENERATE(RowShape{1, 1}, RowShape{1, 7}, RowShape{5, 1}, RowShape{5, 3}, RowShape{70, 5},
                  RowShape{3, 131});
}

}  // namespace ballast
