#include "core/buffer_pool.h"

#include <cstdint>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"

namespace ballast {

TEST_CASE("a released buffer serves the next request of exactly its size", "[core][pool]") {
  BufferPool pool;
  const BufferPool::Handle a = pool.acquire(1000);
  std::byte* const memory = pool.data(a);
  CHECK(reinterpret_cast<uintptr_t>(memory) % kAlignment == 0);
  pool.release(a);
  const BufferPool::Handle other = pool.acquire(999);
  CHECK(pool.data(other) != memory);
  const BufferPool::Handle same = pool.acquire(1000);
  CHECK(pool.data(same) == memory);
  CHECK(pool.capacity() == 1999);
}

TEST_CASE("a buffer in use is never handed out again", "[core][pool]") {
  BufferPool pool;
  const BufferPool::Handle a = pool.acquire(64);
  const BufferPool::Handle b = pool.acquire(64);
  CHECK(pool.data(a) != pool.data(b));
  CHECK(pool.capacity() == 128);
}

TEST_CASE("the last of several references frees a buffer", "[core][pool]") {
  BufferPool pool;
  const BufferPool::Handle a = pool.acquire(64);
  CHECK_FALSE(pool.is_shared(a));
  pool.add_reference(a);
  CHECK(pool.is_shared(a));
  pool.release(a);
  CHECK_FALSE(pool.is_shared(a));
  CHECK(pool.acquire(64) != a);  // one reference is left
  pool.release(a);
  CHECK(pool.acquire(64) == a);
}

TEST_CASE("releasing a buffer more often than it was taken is an error of ours", "[core][pool]") {
  BufferPool pool;
  const BufferPool::Handle a = pool.acquire(64);
  pool.release(a);
  CHECK_THROWS_AS(pool.release(a), InternalError);
  CHECK_THROWS_WITH(pool.release(a), ContainsSubstring("released twice"));
}

TEST_CASE("after reset the same requests get the same buffers and nothing grows", "[core][pool]") {
  BufferPool pool;
  const auto step = [&] {
    pool.reset();
    const BufferPool::Handle a = pool.acquire(4096);
    const BufferPool::Handle b = pool.acquire(512);
    pool.add_reference(a);
    pool.release(b);
    const BufferPool::Handle c = pool.acquire(512);
    const BufferPool::Handle d = pool.acquire(512);
    return std::vector<std::byte*>{pool.data(a), pool.data(b), pool.data(c), pool.data(d)};
  };
  const std::vector<std::byte*> first = step();
  const int64_t capacity = pool.capacity();
  CHECK(capacity == 4096 + 2 * 512);
  for (int i = 0; i < 3; ++i) {
    CHECK(step() == first);
    CHECK(pool.capacity() == capacity);
  }
}

}  // namespace ballast
