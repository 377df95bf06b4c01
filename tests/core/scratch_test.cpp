#include "core/scratch.h"

#include <algorithm>
#include <set>
#include <vector>

#include "core/parallel.h"
#include "tests/support/catch.h"
#include "tests/support/threads.h"

namespace ballast {

TEST_CASE("scratch grows to the largest request and is counted once", "[core][scratch]") {
  const int64_t more = scratch_bytes() + 100'000;  // than any slot of this process holds
  std::byte* const large = scratch(ScratchSlot::kernel, more);
  CHECK(reinterpret_cast<uintptr_t>(large) % kAlignment == 0);
  const int64_t bytes = scratch_bytes();
  CHECK(scratch(ScratchSlot::kernel, 1) == large);
  CHECK(scratch(ScratchSlot::kernel, more) == large);
  CHECK(scratch_bytes() == bytes);
  scratch(ScratchSlot::kernel, more + 100'000);
  CHECK(scratch_bytes() == bytes + 100'000);
}

TEST_CASE("slots do not disturb each other", "[core][scratch]") {
  auto* kernel = scratch<int>(ScratchSlot::kernel, 1000);
  auto* node = scratch<int>(ScratchSlot::node, 1000);
  auto* matmul = scratch<int>(ScratchSlot::matmul, 1000);
  std::fill_n(kernel, 1000, 1);
  std::fill_n(node, 1000, 2);
  std::fill_n(matmul, 1000, 3);
  CHECK(std::all_of(kernel, kernel + 1000, [](int x) { return x == 1; }));
  CHECK(std::all_of(node, node + 1000, [](int x) { return x == 2; }));
}

TEST_CASE("every thread has its own scratch and keeps it", "[core][scratch]") {
  const WithThreads with(3);
  const auto addresses = [] {
    std::vector<std::byte*> found(3);
    parallel_ranges(3, 1, [&](int64_t begin, int64_t) {
      found[static_cast<size_t>(begin)] = scratch(ScratchSlot::kernel, 5000);
    });
    return found;
  };
  const std::vector<std::byte*> first = addresses();
  CHECK(std::set<std::byte*>(first.begin(), first.end()).size() == 3);
  const int64_t bytes = scratch_bytes();
  CHECK(addresses() == first);
  CHECK(scratch_bytes() == bytes);
}

}  // namespace ballast
