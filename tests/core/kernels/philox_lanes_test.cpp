#include "core/kernels/philox_lanes.h"

#include "core/random.h"
#include "tests/support/catch.h"

namespace ballast {

TEST_CASE("Philox in lanes draws the numbers of Philox", "[core][random]") {
  constexpr size_t kLanes = 37;
  constexpr uint64_t kKey = 0x0123456789abcdefu;
  constexpr uint64_t kHigh = 0xfedcba9876543210u;
  std::array<std::array<uint32_t, kLanes>, 4> words;
  const auto low = [](size_t n) { return uint64_t{0x9e3779b97f4a7c15u} * (n + 1); };
  for (size_t n = 0; n < kLanes; ++n) {
    words[0][n] = static_cast<uint32_t>(low(n));
    words[1][n] = static_cast<uint32_t>(low(n) >> 32);
  }
  philox_lanes(kKey, kHigh, words);
  for (size_t n = 0; n < kLanes; ++n) {
    const std::array<uint32_t, 4> block = Philox::block(kKey, kHigh, low(n));
    for (size_t w = 0; w < 4; ++w) CHECK(words[w][n] == block[w]);
  }
}

}  // namespace ballast
