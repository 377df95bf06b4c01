#include "core/kernels/reduce.h"

#include "tests/core/kernels/kernel_check.h"

namespace ballast {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("sum_of_squares is formed in double", "[core][kernels][reduce]") {
  const int64_t n = GENERATE(0, 1, 7, 4097, 1000003);
  RandomValues random(1);
  const auto x = random.normal_vector<float>(n, 1000.0);
  double expected = 0.0;
  for (const float value : x) expected += static_cast<double>(value) * static_cast<double>(value);
  CHECK(sum_of_squares(x.data(), n) == Approx(expected).epsilon(1e-12));
  // Squares beyond the range of float are no overflow.
  const std::vector<float> large = {1e30F, 1e30F};
  CHECK(sum_of_squares(large.data(), 2) == Approx(2e60).epsilon(1e-6));
}

TEST_CASE("max_abs finds the largest and does not hide NaN", "[core][kernels][reduce]") {
  const int64_t n = GENERATE(1, 7, 100003);
  std::vector<float> x(static_cast<size_t>(n), 0.5F);
  const auto at = static_cast<size_t>(n / 2);
  CHECK(max_abs(x.data(), n) == 0.5F);
  x[at] = -3.0F;
  CHECK(max_abs(x.data(), n) == 3.0F);
  x.back() = -kInfinity;
  CHECK(max_abs(x.data(), n) == kInfinity);
  x[0] = -kNan;
  CHECK(std::isnan(max_abs(x.data(), n)));
  CHECK(max_abs(x.data(), 0) == 0.0F);
}

TEST_CASE("Values that are not finite are counted and located", "[core][kernels][reduce]") {
  const int64_t n = GENERATE(1, 5, 4096, 4097, 200001);
  std::vector<float> x(static_cast<size_t>(n), std::numeric_limits<float>::max());
  CHECK(all_finite(x.data(), n));
  CHECK(first_nonfinite(x.data(), n) == -1);
  const float bad = GENERATE(kInfinity, -kInfinity, kNan, -kNan);
  x.back() = bad;
  CHECK(count_nonfinite(x.data(), n) == 1);
  CHECK(first_nonfinite(x.data(), n) == n - 1);
  x[static_cast<size_t>(n / 3)] = bad;
  CHECK(first_nonfinite(x.data(), n) == n / 3);
  CHECK(count_nonfinite(x.data(), n) == (n == 1 ? 1 : 2));
  CHECK_FALSE(all_finite(x.data(), n));
}

TEST_CASE("Reductions of doubles see what floats cannot hold", "[core][kernels][reduce]") {
  const Values x = {1e300, -2e300, 1e-300};
  CHECK(all_finite(x.data(), 3));
  CHECK(max_abs(x.data(), 3) == 2e300);
}

TEST_CASE("sum_of_squares has the same bits for every number of threads",
          "[core][kernels][reduce]") {
  RandomValues random(2);
  const auto x = random.normal_vector<float>(2000001);
  CHECK(same_bits_for_all_threads(
      [&x] { return std::vector<double>{sum_of_squares(x.data(), length(x))}; }));
}

}  // namespace ballast
