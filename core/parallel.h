// The one wrapper over OpenMP. Work is split in ways that do not depend on timing, and sums are
// formed in ways that do not depend on the number of threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace ballast {

/// Threads that a parallel loop uses.
inline int n_threads() {
  return omp_get_max_threads();
}
inline void set_n_threads(int n) {
  omp_set_num_threads(n);
}
/// Index of the calling thread inside a parallel loop, 0 outside.
inline int thread_index() {
  return omp_get_thread_num();
}

/// Threads worth starting for n units of work when each should get at least `grain` of them.
inline int threads_for(int64_t n, int64_t grain) {
  return static_cast<int>(std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, n_threads()));
}

/// Calls a copy of fn. There is one compiled copy of fn for the path of one thread and that of
/// many: two may contract a * b + c differently, and then the bits depend on the number of threads.
/// By value, so that what fn captured by value stays in registers: behind a reference, each store
/// of a float may change a captured float, and loops over it do not vectorise.
template <class F, class... Args>
[[gnu::noinline, gnu::noclone]] void call_one_copy(F fn, Args... args) {
  fn(args...);
}

/// fn(begin, end) on one contiguous range of [0, n) a thread; ranges start at multiples of `align`.
/// Fewer than `grain` units a thread are not worth a thread.
template <class F>
void parallel_ranges(int64_t n, int64_t grain, F&& fn, int64_t align = 1) {
  const int threads = threads_for(n, grain);
  if (threads == 1) {
    if (n > 0) call_one_copy(fn, int64_t{0}, n);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const int64_t team = omp_get_num_threads();
    const int64_t blocks = (n + align - 1) / align;
    const int64_t begin = std::min(n, blocks * omp_get_thread_num() / team * align);
    const int64_t end = std::min(n, blocks * (omp_get_thread_num() + 1) / team * align);
    if (begin < end) call_one_copy(fn, begin, end);
  }
}

/// fn(i) for each of n independent tasks, handed out as threads become free: for tasks of unequal
/// length. A task must write only what belongs to it, so the result cannot depend on the order.
template <class F>
void parallel_tasks(int64_t n, F&& fn) {
  if (n <= 1 || n_threads() == 1) {
    for (int64_t i = 0; i < n; ++i) call_one_copy(fn, i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) call_one_copy(fn, i);
}

/// Elements of the chunks whose sums are formed first; a property of the result, not of the
/// machine.
inline constexpr int64_t kSumChunk = 4096;

/// Sum over [0, n) where sum_of(begin, end) gives the sum of one chunk of at most kSumChunk
/// elements. Chunks are added in a fixed tree, in double: the bits do not depend on the number of
/// threads.
template <class F>
double chunked_sum(int64_t n, F&& sum_of) {
  constexpr int64_t kGroup = 64;        // chunks added one after another
  constexpr int64_t kMaxGroups = 4096;  // groups added pairwise, in place
  std::array<double, kMaxGroups> sums;
  double total = 0.0;
  for (int64_t base = 0; base < n; base += kMaxGroups * kGroup * kSumChunk) {
    const int64_t here = std::min(n - base, kMaxGroups * kGroup * kSumChunk);
    const int64_t groups = (here + kGroup * kSumChunk - 1) / (kGroup * kSumChunk);
    parallel_ranges(groups, 1, [&](int64_t first, int64_t last) {
      for (int64_t g = first; g < last; ++g) {
        double sum = 0.0;
        const int64_t end = std::min(here, (g + 1) * kGroup * kSumChunk);
        for (int64_t i = g * kGroup * kSumChunk; i < end; i += kSumChunk) {
          sum += sum_of(base + i, base + std::min(end, i + kSumChunk));
        }
        sums[static_cast<size_t>(g)] = sum;
      }
    });
    for (int64_t stride = 1; stride < groups; stride *= 2) {
      for (int64_t g = 0; g + stride < groups; g += 2 * stride) {
        sums[static_cast<size_t>(g)] += sums[static_cast<size_t>(g + stride)];
      }
    }
    total += groups > 0 ? sums[0] : 0.0;
  }
  return total;
}

}  // namespace ballast
