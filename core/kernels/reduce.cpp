#include "core/kernels/reduce.h"

#include <atomic>
#include <bit>
#include <limits>
#include <type_traits>

#include "core/kernels/rows.h"

namespace ballast {

namespace {

// Bits without the sign order like absolute values, with NaN above infinity: comparing them as
// integers needs no case for NaN.
template <class T>
struct Magnitude {
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  static constexpr Bits kInfinity = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  static Bits of(T x) { return std::bit_cast<Bits>(x) & std::numeric_limits<Bits>::max(); }
};

template <class T>
int64_t count_in_range(const T* x, int64_t begin, int64_t end) {
  int64_t total = 0;
  for (int64_t i = begin; i < end; i += kSumChunk) {
    typename Magnitude<T>::Bits count = 0;  // as wide as an element: one vector of each
    const int64_t chunk_end = std::min(end, i + kSumChunk);
#pragma omp simd reduction(+ : count)
    for (int64_t j = i; j < chunk_end; ++j) {
      count += Magnitude<T>::of(x[j]) >= Magnitude<T>::kInfinity ? 1 : 0;
    }
    total += count;
  }
  return total;
}

// Loops over a plain parameter: over a pointer inside a closure they turn into gathers.
template <class T>
double sum_of_squares_in_range(const T* x, int64_t begin, int64_t end) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = begin; i < end; ++i) {
    const auto value = static_cast<double>(x[i]);
    sum += value * value;
  }
  return sum;
}

template <class T>
typename Magnitude<T>::Bits max_in_range(const T* x, int64_t begin, int64_t end) {
  typename Magnitude<T>::Bits largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = begin; i < end; ++i) {
    const auto here = Magnitude<T>::of(x[i]);
    largest = here > largest ? here : largest;
  }
  return largest;
}

}  // namespace

template <class T>
double sum_of_squares(const T* x, int64_t n) {
  return chunked_sum(
      n, [x](int64_t begin, int64_t end) { return sum_of_squares_in_range(x, begin, end); });
}

template <class T>
T max_abs(const T* x, int64_t n) {
  using Bits = typename Magnitude<T>::Bits;
  std::atomic<Bits> largest{0};
  parallel_elements(n, [x, &largest](int64_t begin, int64_t end) {
    const Bits here = max_in_range(x, begin, end);
    Bits seen = largest.load();
    while (seen < here && !largest.compare_exchange_weak(seen, here)) {
    }
  });
  return std::bit_cast<T>(largest.load());
}

template <class T>
int64_t count_nonfinite(const T* x, int64_t n) {
  std::atomic<int64_t> total{0};
  parallel_elements(
      n, [x, &total](int64_t begin, int64_t end) { total += count_in_range(x, begin, end); });
  return total.load();
}

template <class T>
int64_t first_nonfinite(const T* x, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kSumChunk) {
    const int64_t end = std::min(n, begin + kSumChunk);
    if (count_in_range(x, begin, end) == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      if (Magnitude<T>::of(x[i]) >= Magnitude<T>::kInfinity) return i;
    }
  }
  return -1;
}

#define BALLAST_INSTANTIATE(T)                         \
  template double sum_of_squares(const T*, int64_t);   \
  template T max_abs(const T*, int64_t);               \
  template int64_t count_nonfinite(const T*, int64_t); \
  template int64_t first_nonfinite(const T*, int64_t);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
