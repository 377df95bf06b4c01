// What kernels over rows share: how rows become threads' work, and sums over rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/parallel.h"

namespace ballast {

/// Elements worth a thread: fewer are done before a thread has started.
inline constexpr int64_t kElementGrain = 16384;
/// Elements at whose multiples ranges of flat loops begin, so that an element is in the same vector
/// (or in the same scalar remainder) for every number of threads.
inline constexpr int64_t kVectorAlign = 64;

/// Rows of C elements worth a thread.
inline int64_t row_grain(int64_t C) {
  return std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, C));
}

/// fn(begin, end) on ranges of n elements.
template <class F>
void parallel_elements(int64_t n, F&& fn) {
  parallel_ranges(n, kElementGrain, fn, kVectorAlign);
}

/// fn(begin, end) on ranges of rows of C elements.
template <class F>
void parallel_rows(int64_t rows, int64_t C, F&& fn) {
  parallel_ranges(rows, row_grain(C), fn);
}

/// fn(std::true_type or std::false_type): a flag becomes a constant outside of the loops.
template <class F>
void with_flag(bool flag, F&& fn) {
  if (flag) {
    fn(std::true_type{});
  } else {
    fn(std::false_type{});
  }
}

/// Gradient outputs: overwriting never reads the old value, which may be anything.
template <bool kAccumulate, class T>
[[gnu::always_inline]] inline void store(T& out, T value) {
  if constexpr (kAccumulate) {
    out += value;
  } else {
    out = value;
  }
}

/// Rows whose column sums are formed first, one after another. It decides the bits of every sum
/// over rows, so it is a constant: the number of threads has no say.
inline constexpr int64_t kRowChunk = 64;

inline int64_t row_chunks(int64_t rows) {
  return (rows + kRowChunk - 1) / kRowChunk;
}

/// out[c] (+)= sum over the chunks, in order, of partials (chunks, C).
template <class T>
void add_partials(const T* partials, int64_t chunks, int64_t C, T* out, bool accumulate) {
  const int64_t grain = std::max(kVectorAlign, kElementGrain / std::max<int64_t>(1, chunks));
  parallel_ranges(
      C, grain,
      [=](int64_t begin, int64_t end) {
        if (!accumulate) std::fill(out + begin, out + end, T{0});
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          const T* row = partials + chunk * C;
#pragma omp simd
          for (int64_t c = begin; c < end; ++c) out[c] += row[c];
        }
      },
      kVectorAlign);
}

}  // namespace ballast
