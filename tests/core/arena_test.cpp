#include "core/arena.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/support/catch.h"

namespace ballast {

namespace {

bool is_aligned(const std::byte* p) {
  return reinterpret_cast<uintptr_t>(p) % kAlignment == 0;
}

// One step that asks for these sizes.
std::vector<std::byte*> allocate_all(StepArena& arena, const std::vector<int64_t>& sizes) {
  arena.reset();
  std::vector<std::byte*> addresses;
  for (const int64_t bytes : sizes) addresses.push_back(arena.allocate(bytes));
  return addresses;
}

constexpr int64_t kMiB = int64_t{1} << 20;

}  // namespace

TEST_CASE("an arena's memory begins at cache lines and pieces do not overlap", "[core][arena]") {
  StepArena arena;
  const std::vector<int64_t> sizes = {1, 63, 64, 65, 0, 4096, 3 * kMiB, 7};
  const std::vector<std::byte*> p = allocate_all(arena, sizes);
  for (size_t i = 0; i < sizes.size(); ++i) {
    CHECK(is_aligned(p[i]));
    std::fill_n(p[i], sizes[i], static_cast<std::byte>(i + 1));
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    for (int64_t j = 0; j < sizes[i]; ++j) {
      if (p[i][j] != static_cast<std::byte>(i + 1)) FAIL("piece " << i << " was overwritten");
    }
  }
}

TEST_CASE("an arena counts what it handed out, rounded up to cache lines", "[core][arena]") {
  StepArena arena;
  CHECK(arena.capacity() == 0);
  allocate_all(arena, {1, 64, 65});
  CHECK(arena.used() == 64 + 64 + 128);
  arena.reset();
  CHECK(arena.used() == 0);
}

TEST_CASE("an arena that grew is one block after reset, and then repeats its addresses",
          "[core][arena]") {
  StepArena arena;
  const std::vector<int64_t> sizes = {700'000, 900'001, 3 * kMiB, 100, 800'000};
  allocate_all(arena, sizes);
  const int64_t needed = arena.used();
  const std::vector<std::byte*> second = allocate_all(arena, sizes);
  CHECK(arena.capacity() == needed);
  for (size_t i = 0; i + 1 < sizes.size(); ++i) {
    CHECK(second[i + 1] - second[i] == (sizes[i] + 63) / 64 * 64);
  }
  for (int step = 2; step < 6; ++step) {
    CHECK(allocate_all(arena, sizes) == second);
    CHECK(arena.capacity() == needed);
  }
}

TEST_CASE("a smaller step keeps the arena as it is, a larger one makes it larger once",
          "[core][arena]") {
  StepArena arena;
  allocate_all(arena, {4 * kMiB, 4 * kMiB});
  allocate_all(arena, {4 * kMiB, 4 * kMiB});
  const std::vector<std::byte*> small = allocate_all(arena, {1000});
  CHECK(arena.capacity() == 8 * kMiB);
  allocate_all(arena, {1000, 9 * kMiB});  // does not fit behind the first piece
  CHECK(arena.capacity() == 17 * kMiB);
  const std::vector<std::byte*> larger = allocate_all(arena, {1000, 9 * kMiB});
  CHECK(arena.capacity() == 9 * kMiB + 1024);
  CHECK(allocate_all(arena, {1000}).front() == larger.front());
}

}  // namespace ballast
