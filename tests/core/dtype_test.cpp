#include "core/dtype.h"

#include <cmath>
#include <limits>

#include "tests/support/catch.h"

namespace ballast {

namespace {

float from_bits(uint32_t bits) {
  return std::bit_cast<float>(bits);
}

float rounded(float x) {
  return static_cast<float>(bf16(x));
}

// Nearest bfloat16 by comparison of the two neighbours: slow and obvious.
uint16_t nearest(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t below = bits & 0xffff0000U;  // towards zero
  const uint32_t rest = bits & 0xffffU;
  const bool is_odd = ((below >> 16) & 1U) != 0;
  const bool up = rest > 0x8000U || (rest == 0x8000U && is_odd);
  return static_cast<uint16_t>((below >> 16) + (up ? 1U : 0U));
}

}  // namespace

TEST_CASE("bf16 rounds to nearest, ties to even", "[core][dtype]") {
  CHECK(rounded(1.0F) == 1.0F);
  CHECK(rounded(from_bits(0x3f808000)) == from_bits(0x3f800000));  // tie, down to even
  CHECK(rounded(from_bits(0x3f818000)) == from_bits(0x3f820000));  // tie, up to even
  CHECK(rounded(from_bits(0x3f808001)) == from_bits(0x3f810000));
  CHECK(rounded(from_bits(0x3f817fff)) == from_bits(0x3f810000));
  CHECK(rounded(from_bits(0xbf818000)) == from_bits(0xbf820000));
  uint32_t bits = 1;
  for (int i = 0; i < 200'000; ++i) {
    bits = bits * 1664525U + 1013904223U;
    const float x = from_bits(bits);
    if (std::isnan(x)) continue;
    if (bf16(x).bits != nearest(x)) FAIL(x << " rounds to " << rounded(x));
  }
}

TEST_CASE("bf16 keeps signed zeros, subnormals and infinities, and overflows to infinity",
          "[core][dtype]") {
  CHECK(bf16(0.0F).bits == 0x0000);
  CHECK(bf16(-0.0F).bits == 0x8000);
  CHECK(rounded(from_bits(0x00010000)) == from_bits(0x00010000));
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(rounded(infinity) == infinity);
  CHECK(rounded(-infinity) == -infinity);
  CHECK(rounded(std::numeric_limits<float>::max()) == infinity);
  CHECK(rounded(from_bits(0x7f7f7fff)) == from_bits(0x7f7f0000));  // the largest that stays finite
}

TEST_CASE("bf16 keeps every NaN a NaN, with its sign", "[core][dtype]") {
  for (const uint32_t bits : {0x7fc00000U, 0x7f800001U, 0x7f80ffffU, 0xff800001U, 0xffffffffU}) {
    const float y = rounded(from_bits(bits));
    CHECK(std::isnan(y));
    CHECK(std::signbit(y) == ((bits >> 31) != 0));
  }
}

TEST_CASE("every bf16 survives the way to float and back", "[core][dtype]") {
  for (uint32_t b = 0; b < 0x10000U; ++b) {
    bf16 x;
    x.bits = static_cast<uint16_t>(b);
    const auto wide = static_cast<float>(x);
    if (std::isnan(wide)) continue;
    if (bf16(wide).bits != b) FAIL("bits " << b);
  }
}

TEST_CASE("kernels run in float and double, never in bf16", "[core][dtype]") {
  const auto size = [](Dtype dtype) {
    return dispatch(dtype, []<class T>() { return static_cast<int64_t>(sizeof(T)); });
  };
  CHECK(size(Dtype::f32) == size_of(Dtype::f32));
  CHECK(size(Dtype::f64) == size_of(Dtype::f64));
  CHECK(size_of(Dtype::bf16) == 2);
  CHECK_THROWS_AS(size(Dtype::bf16), InternalError);
}

}  // namespace ballast
