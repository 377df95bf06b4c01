#include "core/kernels/vec_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/catch.h"

namespace ballast {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kSmallestNormal = std::numeric_limits<float>::min();

// Errors are measured in the spacing of floats at the exact result, so rounding alone costs 0.5.
double ulp_error(float value, double exact) {
  if (static_cast<double>(value) == exact) return 0.0;
  const int exponent = std::max(std::ilogb(exact), std::numeric_limits<float>::min_exponent - 1);
  return std::fabs(static_cast<double>(value) - exact) / std::ldexp(1.0, exponent - 23);
}

// Every sign and exponent with thousands of mantissas: one bit pattern in 1009 (a prime).
std::vector<float> floats_of_all_sizes() {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 1009) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (!std::isnan(x)) values.push_back(x);
  }
  return values;
}

struct Worst {
  double ulp = 0.0;
  float at = 0.0F;
};

// The vectorised loop is what is tested: it is what the kernels run.
template <class F, class Exact>
Worst worst_error(F f, Exact exact, double smallest) {
  const std::vector<float> x = floats_of_all_sizes();
  std::vector<float> y(x.size());
#pragma omp simd
  for (size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
  Worst worst;
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = exact(static_cast<double>(x[i]));
    if (std::fabs(want) < smallest) {  // flushed to zero, or nearly
      if (std::fabs(static_cast<double>(y[i])) <= smallest) continue;
    } else if (std::isnan(want)) {
      if (std::isnan(y[i])) continue;
    } else if (std::fabs(want) > static_cast<double>(std::numeric_limits<float>::max())) {
      if (y[i] == (want > 0.0 ? kInfinity : -kInfinity)) continue;
    } else {
      const double ulp = ulp_error(y[i], want);
      if (ulp > worst.ulp) worst = {ulp, x[i]};
      continue;
    }
    return {std::numeric_limits<double>::infinity(), x[i]};
  }
  return worst;
}

}  // namespace

TEST_CASE("exp is within 1.1 ulp and flushes what is below the normal numbers",
          "[core][vec_math]") {
  const Worst worst =
      worst_error([](float x) { return vec::exp(x); }, [](double x) { return std::exp(x); },
                  static_cast<double>(kSmallestNormal));
  INFO("worst at " << worst.at);
  CHECK(worst.ulp <= 1.1);
  CHECK(vec::exp(0.0F) == 1.0F);
  CHECK(vec::exp(88.7228317F) < kInfinity);
  CHECK(vec::exp(88.7228394F) == kInfinity);
  CHECK(vec::exp(kInfinity) == kInfinity);
  CHECK(vec::exp(-87.3365402F) >= kSmallestNormal);
  CHECK(vec::exp(-87.3365479F) == 0.0F);
  CHECK(vec::exp(-kInfinity) == 0.0F);
  CHECK(std::isnan(vec::exp(kNan)));
}

TEST_CASE("exp is within 1.1 ulp where its results are finite", "[core][vec_math]") {
  double worst = 0.0;
  for (float x = -87.33F; x < 88.72F; x += 1.7e-5F) {
    worst = std::max(worst, ulp_error(vec::exp(x), std::exp(static_cast<double>(x))));
  }
  CHECK(worst <= 1.1);
}

TEST_CASE("log is within 1 ulp, denormal numbers included", "[core][vec_math]") {
  const Worst worst =
      worst_error([](float x) { return vec::log(x); }, [](double x) { return std::log(x); }, 0.0);
  INFO("worst at " << worst.at);
  CHECK(worst.ulp <= 1.0);
  CHECK(vec::log(1.0F) == 0.0F);
  CHECK(vec::log(0.0F) == -kInfinity);
  CHECK(vec::log(-0.0F) == -kInfinity);
  CHECK(vec::log(kInfinity) == kInfinity);
  CHECK(std::isnan(vec::log(-1.0F)));
  CHECK(std::isnan(vec::log(-kInfinity)));
  CHECK(std::isnan(vec::log(kNan)));
  CHECK(ulp_error(vec::log(std::numeric_limits<float>::denorm_min()), std::log(0x1p-149)) <= 1.0);
}

TEST_CASE("expm1 is within 2 ulp and returns tiny arguments", "[core][vec_math]") {
  const Worst worst = worst_error([](float x) { return vec::expm1(x); },
                                  [](double x) { return std::expm1(x); }, 0.0);
  INFO("worst at " << worst.at);
  CHECK(worst.ulp <= 2.0);
  double ulp = 0.0;
  for (float x = -20.0F; x < 88.72F; x += 1.7e-5F) {
    ulp = std::max(ulp, ulp_error(vec::expm1(x), std::expm1(static_cast<double>(x))));
  }
  CHECK(ulp <= 2.0);
  CHECK(vec::expm1(0.0F) == 0.0F);
  CHECK(vec::expm1(1e-30F) == 1e-30F);
  CHECK(vec::expm1(88.7228317F) < kInfinity);
  CHECK(vec::expm1(kInfinity) == kInfinity);
  CHECK(vec::expm1(-kInfinity) == -1.0F);
  CHECK(std::isnan(vec::expm1(kNan)));
}

TEST_CASE("log1p_unit is within 1.5 ulp from 0 to 1", "[core][vec_math]") {
  double worst = 0.0;
  const auto last = std::bit_cast<uint32_t>(1.0F);
  for (uint32_t bits = 0; bits <= last; bits += 251) {
    const auto x = std::bit_cast<float>(bits);
    worst = std::max(worst, ulp_error(vec::log1p_unit(x), std::log1p(static_cast<double>(x))));
  }
  CHECK(worst <= 1.5);
  CHECK(vec::log1p_unit(0.0F) == 0.0F);
  CHECK(vec::log1p_unit(1e-30F) == 1e-30F);
  CHECK(vec::log1p_unit(1.0F) == std::log(2.0F));
  CHECK(std::isnan(vec::log1p_unit(kNan)));
}

TEST_CASE("softplus is within 2 ulp and never overflows", "[core][vec_math]") {
  const Worst worst = worst_error(
      [](float x) { return vec::softplus(x); },
      [](double x) { return x > 0.0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); },
      static_cast<double>(kSmallestNormal));
  INFO("worst at " << worst.at);
  CHECK(worst.ulp <= 2.0);
  CHECK(vec::softplus(100.0F) == 100.0F);
  CHECK(vec::softplus(-100.0F) == 0.0F);
  CHECK(vec::softplus(kInfinity) == kInfinity);
  CHECK(vec::softplus(-kInfinity) == 0.0F);
  CHECK(std::isnan(vec::softplus(kNan)));
}

TEST_CASE("tanh is within 2 ulp and returns tiny arguments", "[core][vec_math]") {
  const Worst worst =
      worst_error([](float x) { return vec::tanh(x); }, [](double x) { return std::tanh(x); }, 0.0);
  INFO("worst at " << worst.at);
  CHECK(worst.ulp <= 2.0);
  CHECK(vec::tanh(1e-30F) == 1e-30F);
  CHECK(std::signbit(vec::tanh(-0.0F)));
  CHECK(vec::tanh(kInfinity) == 1.0F);
  CHECK(vec::tanh(-kInfinity) == -1.0F);
  CHECK(std::isnan(vec::tanh(kNan)));
}

TEST_CASE("erf is within 2 ulp", "[core][vec_math]") {
  const Worst worst =
      worst_error([](float x) { return vec::erf(x); }, [](double x) { return std::erf(x); }, 0.0);
  INFO("worst at " << worst.at);
  CHECK(worst.ulp <= 2.0);
  CHECK(vec::erf(kInfinity) == 1.0F);
  CHECK(vec::erf(-kInfinity) == -1.0F);
  CHECK(std::isnan(vec::erf(kNan)));
}

TEST_CASE("sigmoid is within 4 ulp and saturates", "[core][vec_math]") {
  const Worst worst = worst_error([](float x) { return vec::sigmoid(x); },
                                  [](double x) { return 1.0 / (1.0 + std::exp(-x)); },
                                  static_cast<double>(kSmallestNormal));
  INFO("worst at " << worst.at);
  CHECK(worst.ulp <= 4.0);
  CHECK(vec::sigmoid(0.0F) == 0.5F);
  CHECK(vec::sigmoid(kInfinity) == 1.0F);
  CHECK(vec::sigmoid(-kInfinity) == 0.0F);
  CHECK(std::isnan(vec::sigmoid(kNan)));
}

}  // namespace ballast
