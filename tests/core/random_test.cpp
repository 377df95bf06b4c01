#include "core/random.h"

#include <cmath>
#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace ballast {
namespace {

using Words = std::array<uint32_t, 4>;

TEST_CASE("philox gives the known answers of its authors", "[core][random]") {
  // Random123, tests/kat_vectors, "philox4x32 10": counter words, key words, result.
  CHECK(Philox::block(0, 0, 0) == Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(Philox::block(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}) ==
        Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  CHECK(Philox::block(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u) ==
        Words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("a stream reads the blocks of its counter in order", "[core][random]") {
  RandomStream stream(5, 9);
  for (uint64_t b = 0; b < 3; ++b) {
    const Words block = Philox::block(5, 9, b);
    for (const uint32_t word : block) CHECK(stream.next_u32() == word);
  }
  RandomStream fork = stream;
  CHECK(fork.next_u64() == stream.next_u64());
}

TEST_CASE("uniform values fill [0, 1) and never reach 1", "[core][random]") {
  CHECK(unit_float(0) == 0.0f);
  CHECK(unit_float(~uint32_t{0}) < 1.0f);
  CHECK(unit_double(~uint64_t{0}) < 1.0);
  RandomStream stream(1, 2);
  constexpr int kDraws = 100000;
  double sum = 0.0;
  for (int i = 0; i < kDraws; ++i) sum += stream.uniform();
  // Five standard errors of the mean of kDraws uniform values.
  CHECK(std::abs(sum / kDraws - 0.5) < 5.0 * std::sqrt(1.0 / 12.0 / kDraws));
}

TEST_CASE("bounded integers are uniform over the whole range", "[core][random]") {
  const uint64_t n = GENERATE(uint64_t{1}, uint64_t{2}, uint64_t{3}, uint64_t{7}, uint64_t{1000});
  RandomStream stream(3, n);
  std::vector<int64_t> counts(n, 0);
  const int64_t draws = 200 * static_cast<int64_t>(n) + 1000;
  for (int64_t i = 0; i < draws; ++i) {
    const uint64_t value = stream.below(n);
    REQUIRE(value < n);
    ++counts[value];
  }
  const double expected = static_cast<double>(draws) / static_cast<double>(n);
  double chi2 = 0.0;
  for (const int64_t count : counts) chi2 += std::pow(static_cast<double>(count) - expected, 2);
  chi2 /= expected;
  // Chi-square with n - 1 degrees of freedom: mean n - 1, variance 2 (n - 1); five deviations.
  const double df = static_cast<double>(n) - 1.0;
  CHECK(chi2 <= df + 5.0 * std::sqrt(2.0 * df) + 10.0);
}

TEST_CASE("bounded integers have no bias where 2^64 is far from a multiple of n",
          "[core][random]") {
  // With n = 3 * 2^62 a bare multiplication would give the multiples of 3 twice as often.
  constexpr uint64_t kN = uint64_t{3} << 62;
  RandomStream stream(11, 0);
  constexpr int kDraws = 30000;
  int hits = 0;
  for (int i = 0; i < kDraws; ++i) hits += stream.below(kN) % 3 == 0;
  CHECK(std::abs(hits - kDraws / 3.0) < 5.0 * std::sqrt(kDraws * (1.0 / 3.0) * (2.0 / 3.0)));
}

TEST_CASE("normal values have the moments of a standard normal", "[core][random]") {
  RandomStream stream(7, 1);
  constexpr int kDraws = 200000;
  double m1 = 0.0, m2 = 0.0, m4 = 0.0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.normal();
    REQUIRE(std::isfinite(x));
    m1 += x;
    m2 += x * x;
    m4 += x * x * x * x;
  }
  // Variances of x, x^2 and x^4 are 1, 2 and 96; five standard errors each.
  CHECK(std::abs(m1 / kDraws) < 5.0 * std::sqrt(1.0 / kDraws));
  CHECK(std::abs(m2 / kDraws - 1.0) < 5.0 * std::sqrt(2.0 / kDraws));
  CHECK(std::abs(m4 / kDraws - 3.0) < 5.0 * std::sqrt(96.0 / kDraws));
}

TEST_CASE("streams and seeds of different names differ", "[core][random]") {
  std::set<uint64_t> firsts;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    for (uint64_t id = 0; id < 30; ++id) firsts.insert(RandomStream(seed, id).next_u64());
  }
  CHECK(firsts.size() == 900);
  CHECK(derive_seed(1, "init") != derive_seed(1, "data"));
  CHECK(derive_seed(1, "init") != derive_seed(2, "init"));
}

TEST_CASE("the hash of a name never changes", "[core][random]") {
  // FNV-1a of "a" is the published 0xaf63dc4c8601ec8c; the finaliser is a bijection on top.
  STATIC_REQUIRE(hash_name("a") == mix64(0xaf63dc4c8601ec8cu));
  STATIC_REQUIRE(hash_name("") == mix64(0xcbf29ce484222325u));
  // The second output of splitmix64 seeded with 0 is mix64(2 * 0x9e3779b97f4a7c15).
  STATIC_REQUIRE(mix64(0x9e3779b97f4a7c15u) == 0xe220a8397b1dcdafu);
}

}  // namespace
}  // namespace ballast
