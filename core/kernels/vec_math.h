// Elementary functions without branches or calls in float, so that a loop over them vectorises
// (`#pragma omp simd`, AVX2 and AVX-512). Coefficients are minimax fits of the relative error on
// the reduced range. The double overloads are the standard library's: gradient checks use them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace ballast::vec {

#define BALLAST_VEC [[gnu::always_inline]] inline

/// At most 1.1 ulp. Above log(FLT_MAX) inf; results below the smallest normal number are 0 (a
/// denormal result costs hundreds of cycles on some CPUs, and masked logits would meet it all the
/// time).
BALLAST_VEC float exp(float x) {
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2Hi = 0.693359375F;  // few bits: k * kLn2Hi is exact
  constexpr float kLn2Lo = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr float kMax = 88.7228317F;    // the largest x with a finite exp(x)
  constexpr float kMin = -87.3365402F;   // the smallest x with a normal exp(x)
  const float shifted = std::fma(x, kLog2E, kRound);
  const float k = shifted - kRound;
  const float r = std::fma(k, -kLn2Lo, std::fma(k, -kLn2Hi, x));
  float q = 0.00138137536F;
  q = std::fma(q, r, 0.00836912356F);
  q = std::fma(q, r, 0.0416684262F);
  q = std::fma(q, r, 0.166665167F);
  q = std::fma(q, r, 0.49999994F);
  const float p = 1.0F + std::fma(r * r, q, r);
  // The low bits of `shifted` hold k: the shift moves them into the exponent's place.
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  const float scaled = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + exponent);
  const float bounded = x <= kMax ? scaled : x + std::numeric_limits<float>::infinity();  // or NaN
  return x < kMin ? 0.0F : bounded;
}

/// At most 1 ulp, denormal arguments included. log(0) = -inf, NaN below 0.
BALLAST_VEC float log(float x) {
  constexpr float kLn2Hi = 0.693359375F;
  constexpr float kLn2Lo = -2.12194440e-4F;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const bool is_small = x < std::numeric_limits<float>::min();
  const float normal = is_small ? x * 8388608.0F : x;  // 2^23
  // x = 2^k * m with sqrt(1/2) <= m < sqrt(2).
  constexpr int32_t kSqrtHalf = 0x3f3504f3;
  const auto bits = static_cast<int32_t>(std::bit_cast<uint32_t>(normal) - uint32_t{kSqrtHalf});
  const float k = static_cast<float>(bits >> 23) - (is_small ? 23.0F : 0.0F);
  const float f = std::bit_cast<float>((bits & 0x007fffff) + kSqrtHalf) - 1.0F;
  float q = 0.0674660131F;
  q = std::fma(q, f, -0.116756409F);
  q = std::fma(q, f, 0.118881747F);
  q = std::fma(q, f, -0.124055915F);
  q = std::fma(q, f, 0.142195508F);
  q = std::fma(q, f, -0.166679963F);
  q = std::fma(q, f, 0.200021192F);
  q = std::fma(q, f, -0.250000089F);
  q = std::fma(q, f, 0.333333135F);
  const float f2 = f * f;
  const float tail = std::fma(f2, std::fma(f, q, -0.5F), k * kLn2Lo);
  const float value = std::fma(k, kLn2Hi, f + tail);
  const float finite = x < kInfinity ? value : x;  // inf and NaN return themselves
  const float at_most_zero = x == 0.0F ? -kInfinity : std::numeric_limits<float>::quiet_NaN();
  return x <= 0.0F ? at_most_zero : finite;
}

/// exp(x) - 1 without cancellation: at most 2 ulp. Tiny arguments return themselves.
BALLAST_VEC float expm1(float x) {
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2Hi = 0.693359375F;
  constexpr float kLn2Lo = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;
  constexpr float kMax = 88.7228317F;
  constexpr float kMin = -17.5F;  // below it the result rounds to -1
  const float shifted = std::fma(x, kLog2E, kRound);
  const float k = shifted - kRound;
  const float r = std::fma(k, -kLn2Lo, std::fma(k, -kLn2Hi, x));
  float q = 0.00138137536F;
  q = std::fma(q, r, 0.00836912356F);
  q = std::fma(q, r, 0.0416684262F);
  q = std::fma(q, r, 0.166665167F);
  q = std::fma(q, r, 0.49999994F);
  const float p = std::fma(r * r, q, r);
  // 2^k (1 + p) - 1 = 2 (h p + (h - 1/2)) with h = 2^(k - 1), which is finite for every finite
  // result. k = 0 gives p itself.
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  const float h = std::bit_cast<float>(std::bit_cast<uint32_t>(0.5F) + exponent);
  const float value = 2.0F * std::fma(h, p, h - 0.5F);
  const float bounded = x <= kMax ? value : x + std::numeric_limits<float>::infinity();  // or NaN
  return x < kMin ? -1.0F : bounded;
}

/// log(1 + x) for 0 <= x <= 1, without losing the digits of a small x: at most 1.5 ulp.
BALLAST_VEC float log1p_unit(float x) {
  constexpr float kLn2 = 0.693147181F;
  const bool is_above = x > 0.414213562F;  // then 1 + x = 2 (1 + (x - 1) / 2)
  const float f = is_above ? 0.5F * (x - 1.0F) : x;
  float q = 0.0674660131F;  // as in log
  q = std::fma(q, f, -0.116756409F);
  q = std::fma(q, f, 0.118881747F);
  q = std::fma(q, f, -0.124055915F);
  q = std::fma(q, f, 0.142195508F);
  q = std::fma(q, f, -0.166679963F);
  q = std::fma(q, f, 0.200021192F);
  q = std::fma(q, f, -0.250000089F);
  q = std::fma(q, f, 0.333333135F);
  const float value = f + f * f * std::fma(f, q, -0.5F);
  return is_above ? kLn2 + value : value;
}

/// At most 2 ulp; tiny arguments return themselves.
BALLAST_VEC float tanh(float x) {
  const float a = std::fabs(x);
  const float s = x * x;
  float q = -0.00570497848F;
  q = std::fma(q, s, 0.0206390787F);
  q = std::fma(q, s, -0.0537397116F);
  q = std::fma(q, s, 0.133314416F);
  q = std::fma(q, s, -0.333332807F);
  const float near_zero = std::fma(a * s, q, a);
  const float far = 1.0F - 2.0F / (exp(2.0F * a) + 1.0F);
  return std::copysign(a < 0.625F ? near_zero : far, x);
}

/// At most 2 ulp.
BALLAST_VEC float erf(float x) {
  const float a = std::fabs(x);
  const float s = x * x;
  float q = 8.1850907e-05F;
  q = std::fma(q, s, -0.000809770252F);
  q = std::fma(q, s, 0.0051969518F);
  q = std::fma(q, s, -0.0268577058F);
  q = std::fma(q, s, 0.112836637F);
  q = std::fma(q, s, -0.376126319F);
  q = std::fma(q, s, 0.128379166F);
  const float near_zero = std::fma(a, q, a);
  const float b = a > 4.0F ? 4.0F : a;  // erf(4) rounds to 1
  float g = 0.000193607702F;            // log(erfc(b)), 0.94 <= b <= 4
  g = std::fma(g, b, -0.00302026374F);
  g = std::fma(g, b, 0.0221349765F);
  g = std::fma(g, b, -0.103739858F);
  g = std::fma(g, b, -0.637401938F);
  g = std::fma(g, b, -1.1275444F);
  g = std::fma(g, b, -0.000227647222F);
  const float far = 1.0F - exp(g);
  return std::copysign(a < 0.95F ? near_zero : far, x);
}

/// 1 / (1 + exp(-x)), at most 4 ulp where it is a normal number.
BALLAST_VEC float sigmoid(float x) {
  return 1.0F / (1.0F + exp(-x));
}

inline double exp(double x) {
  return std::exp(x);
}
inline double log(double x) {
  return std::log(x);
}
inline double expm1(double x) {
  return std::expm1(x);
}
inline double log1p_unit(double x) {
  return std::log1p(x);
}
inline double tanh(double x) {
  return std::tanh(x);
}
inline double erf(double x) {
  return std::erf(x);
}
inline double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

/// log(1 + exp(x)). The exponential is of -|x|: nothing overflows, and both tails keep their
/// digits.
template <class T>
BALLAST_VEC T softplus(T x) {
  return (x > T{0} ? x : T{0}) + log1p_unit(exp(-std::fabs(x)));
}

#undef BALLAST_VEC

}  // namespace ballast::vec
