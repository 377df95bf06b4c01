#include "core/kernels/dropout.h"

#include "core/random.h"
#include "tests/core/kernels/kernel_check.h"

namespace ballast {

namespace {

std::vector<float> mask_of(const DropoutMask& mask, int64_t rows, int64_t C) {
  const std::vector<float> ones(static_cast<size_t>(rows * C), 1.0F);
  auto y = poisoned<float>(rows * C);
  dropout(mask, ones.data(), rows, C, y.data(), false);
  return y;
}

}  // namespace

TEST_CASE("Dropout keeps the share it should and keeps the mean", "[core][kernels][dropout]") {
  const double rate = GENERATE(0.1, 0.5, 0.9);
  constexpr int64_t kN = 1000000;
  const auto y = mask_of({.seed = 1, .rate = rate}, 1000, 1000);
  double kept = 0.0;
  for (const float value : y) {
    if (value == 0.0F) continue;
    REQUIRE(value == static_cast<float>(1.0 / (1.0 - rate)));
    kept += 1.0;
  }
  // Five standard deviations of a binomial.
  const double deviation = std::sqrt(rate * (1.0 - rate) / kN);
  CHECK(std::fabs(kept / kN - (1.0 - rate)) <= 5.0 * deviation);
}

TEST_CASE("Each element reads its own word of Philox", "[core][kernels][dropout]") {
  const DropoutMask mask{.seed = 7, .step = 11, .site = 3, .first_row = 5, .rate = 0.3};
  constexpr int64_t kC = 37;
  const auto y = mask_of(mask, 40, kC);
  const uint64_t key = mix64(mask.seed ^ mix64(mask.site));
  int64_t wrong = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const uint64_t element = static_cast<uint64_t>(mask.first_row * kC) + i;
    const uint64_t block = element / 256 * 64 + element % 64;
    const uint32_t word = Philox::block(key, 11, block)[element % 256 / 64];
    if ((y[i] != 0.0F) != (word >= static_cast<uint32_t>(0.3 * 0x1p32))) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Splitting a batch changes no element's fate", "[core][kernels][dropout]") {
  const int64_t C = GENERATE(1, 3, 64, 257);
  CAPTURE(C);
  DropoutMask mask{.seed = 2, .step = 9, .site = 4, .first_row = 0, .rate = 0.4};
  const auto whole = mask_of(mask, 20, C);
  mask.first_row = 13;
  const auto rest = mask_of(mask, 7, C);
  CHECK(std::vector<float>(whole.begin() + 13 * C, whole.end()) == rest);
}

TEST_CASE("Seed, step and site each change the mask", "[core][kernels][dropout]") {
  const DropoutMask base{.seed = 1, .step = 1, .site = 1, .first_row = 0, .rate = 0.5};
  DropoutMask seed = base, step = base, site = base;
  seed.seed = 2;
  step.step = 2;
  site.site = 2;
  const auto expected = mask_of(base, 10, 100);
  CHECK(mask_of(base, 10, 100) == expected);
  for (const DropoutMask& other : {seed, step, site}) {
    const auto y = mask_of(other, 10, 100);
    int64_t equal = 0;
    for (size_t i = 0; i < y.size(); ++i) equal += y[i] == expected[i] ? 1 : 0;
    CHECK(equal > 400);  // independent masks agree on half of the elements
    CHECK(equal < 600);
  }
}

TEST_CASE("Dropout accumulates, keeps NaN, and rate 0 is the identity",
          "[core][kernels][dropout]") {
  RandomValues random(1);
  const auto x = random.normal_vector<float>(100);
  std::vector<float> y = poisoned<float>(100);
  dropout({.seed = 1, .rate = 0.0}, x.data(), 10, 10, y.data(), false);
  CHECK(y == x);

  const DropoutMask mask{.seed = 1, .rate = 0.5};
  dropout(mask, x.data(), 10, 10, y.data(), false);
  std::vector<float> added(100, 2.0F);
  dropout(mask, x.data(), 10, 10, added.data(), true);
  CHECK(relative_error(added, [&y] {
          Values expected(y.begin(), y.end());
          for (double& value : expected) value += 2.0;
          return expected;
        }()) <= kFloatRounding);

  const auto bad = poisoned<float>(100);
  dropout(mask, bad.data(), 10, 10, y.data(), false);
  for (const float value : y) CHECK(std::isnan(value));
}

TEST_CASE("Dropout in double uses the same mask as in float", "[core][kernels][dropout]") {
  const DropoutMask mask{.seed = 3, .step = 2, .site = 1, .first_row = 1, .rate = 0.25};
  const Values ones(300, 1.0);
  Values y = poisoned(300);
  dropout(mask, ones.data(), 3, 100, y.data(), false);
  const auto y32 = mask_of(mask, 3, 100);
  for (size_t i = 0; i < y.size(); ++i) CHECK((y[i] == 0.0) == (y32[i] == 0.0F));
}

TEST_CASE("Dropout has the same bits for every number of threads", "[core][kernels][dropout]") {
  CHECK(same_bits_for_all_threads(
      [] { return mask_of({.seed = 5, .first_row = 3, .rate = 0.1}, 333, 301); }));
}

}  // namespace ballast
