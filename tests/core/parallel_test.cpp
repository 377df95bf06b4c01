#include "core/parallel.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <mutex>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/random_tensor.h"
#include "tests/support/threads.h"

namespace ballast {

namespace {

struct Range {
  int64_t begin, end;
};

std::vector<Range> ranges_of(int64_t n, int64_t grain, int64_t align) {
  std::mutex mutex;
  std::vector<Range> ranges;
  parallel_ranges(
      n, grain,
      [&](int64_t begin, int64_t end) {
        const std::lock_guard lock(mutex);
        ranges.push_back({begin, end});
      },
      align);
  return ranges;
}

}  // namespace

TEST_CASE("parallel ranges cover everything once, whatever the threads, grain and alignment",
          "[core][parallel]") {
  for (const int threads : {1, 2, 3, 4, 7}) {
    const WithThreads with(threads);
    for (const int64_t n : {0, 1, 2, 5, 63, 64, 65, 1000}) {
      for (const int64_t grain : {0, 1, 3, 64, 5000}) {
        for (const int64_t align : {1, 4, 16, 64}) {
          INFO(threads << " threads, n " << n << ", grain " << grain << ", align " << align);
          std::vector<int> visits(static_cast<size_t>(n));
          const std::vector<Range> ranges = ranges_of(n, grain, align);
          bool all_aligned = true;
          for (const Range& r : ranges) {
            REQUIRE((0 <= r.begin && r.begin < r.end && r.end <= n));
            all_aligned = all_aligned && r.begin % align == 0;
            for (int64_t i = r.begin; i < r.end; ++i) ++visits[static_cast<size_t>(i)];
          }
          CHECK(all_aligned);
          CHECK(visits == std::vector<int>(static_cast<size_t>(n), 1));
          CHECK(static_cast<int>(ranges.size()) <= threads_for(n, grain));
        }
      }
    }
  }
}

TEST_CASE("a thread is started only for at least a grain of work", "[core][parallel]") {
  const WithThreads with(4);
  CHECK(threads_for(0, 10) == 1);
  CHECK(threads_for(19, 10) == 1);
  CHECK(threads_for(20, 10) == 2);
  CHECK(threads_for(1000, 10) == 4);
  CHECK(threads_for(3, 0) == 3);  // a grain of nothing is one of 1
}

TEST_CASE("a parallel loop inside another covers everything once", "[core][parallel]") {
  const WithThreads with(2);
  std::vector<std::atomic<int>> visits(20);
  parallel_tasks(2, [&](int64_t outer) {
    parallel_ranges(10, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(10 * outer + i)];
    });
  });
  for (const auto& v : visits) CHECK(v == 1);
}

TEST_CASE("every task runs once", "[core][parallel]") {
  const WithThreads with(GENERATE(1, 2, 4));
  for (const int64_t n : {0, 1, 2, 3, 257}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
    parallel_tasks(n, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
    for (const auto& v : visits) CHECK(v == 1);
  }
}

TEST_CASE("a chunked sum has the same bits for any number of threads and is accurate",
          "[core][parallel]") {
  RandomValues random(3);
  for (const int64_t n : {int64_t{0}, int64_t{1}, kSumChunk - 1, kSumChunk, kSumChunk + 1,
                          64 * kSumChunk, 64 * kSumChunk + 1, 700'001l}) {
    // Large terms of both signs that nearly cancel: the order of additions shows in the bits.
    const std::vector<double> x = random.normal_vector(n, 0.0, 1e6);
    const auto sum = [&] {
      return chunked_sum(n, [&](int64_t begin, int64_t end) {
        REQUIRE(end - begin <= kSumChunk);
        double s = 0.0;
        for (int64_t i = begin; i < end; ++i) s += x[static_cast<size_t>(i)];
        return s;
      });
    };
    long double exact = 0.0L;
    long double absolute = 0.0L;
    for (const double v : x) {
      exact += static_cast<long double>(v);
      absolute += std::abs(static_cast<long double>(v));
    }
    std::vector<double> sums;
    for (const int threads : {1, 2, 3, 4}) {
      const WithThreads with(threads);
      sums.push_back(sum());
    }
    CAPTURE(n);
    for (const double s : sums)
      CHECK(std::bit_cast<uint64_t>(s) == std::bit_cast<uint64_t>(sums[0]));
    // At most kSumChunk + 64 + log2(groups) additions lie on the way of a term: each rounds by
    // 2^-53 of the sum so far. In practice errors cancel; the bound needs no luck.
    const auto bound =
        static_cast<double>(absolute) * static_cast<double>(kSumChunk + 76) * 0x1p-53;
    CHECK(std::abs(sums[0] - static_cast<double>(exact)) <= bound);
  }
}

TEST_CASE("a chunked sum longer than one round of groups leaves nothing out", "[core][parallel]") {
  const WithThreads with(2);
  const int64_t n = (int64_t{1} << 30) + 12345;  // a round is 4096 groups of 64 chunks of 4096
  const double sum =
      chunked_sum(n, [](int64_t begin, int64_t end) { return static_cast<double>(end - begin); });
  CHECK(sum == static_cast<double>(n));
}

}  // namespace ballast
