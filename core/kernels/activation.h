// Activation functions: one struct for each, with its value and its derivative.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>

#include "core/error.h"
#include "core/kernels/vec_math.h"

namespace ballast {

enum class ActivationKind { relu, gelu, gelu_tanh, silu };

/// f(x) and df(x) = f'(x) at once: they share their costly part. NaN gives NaN in f.
template <class T>
struct ValueAndSlope {
  T f;
  T df;
};

/// max(x, 0), with slope 0 at 0.
struct Relu {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    return {x < T{0} ? T{0} : x, x > T{0} ? T{1} : T{0}};
  }
};

/// x Phi(x) = x/2 (1 + erf(x / sqrt(2))), with slope Phi(x) + x phi(x).
/// Hendrycks & Gimpel 2016, arXiv 1606.08415.
struct Gelu {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    constexpr T kInvSqrt2 = T{1} / std::numbers::sqrt2_v<T>;
    constexpr T kInvSqrt2Pi = std::numbers::inv_sqrtpi_v<T> * kInvSqrt2;
    const T cdf = T{0.5} + T{0.5} * vec::erf(x * kInvSqrt2);
    const T density = kInvSqrt2Pi * vec::exp(T{-0.5} * x * x);
    return {x * cdf, cdf + x * density};
  }
};

/// x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). The second form is cheaper
/// and keeps its digits at negative x.   The same paper, section 2.
struct GeluTanh {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    constexpr T kTwoSqrt2OverPi = T{2} * std::numbers::sqrt2_v<T> * std::numbers::inv_sqrtpi_v<T>;
    constexpr T kCubic = static_cast<T>(0.044715);
    const T s = vec::sigmoid(kTwoSqrt2OverPi * x * (T{1} + kCubic * x * x));
    const T du = kTwoSqrt2OverPi * (T{1} + T{3} * kCubic * x * x);
    return {x * s, s + x * s * (T{1} - s) * du};
  }
};

/// x sigmoid(x), with slope s (1 + x (1 - s)).
/// Elfwing et al. 2017, arXiv 1702.03118.
struct Silu {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    const T s = vec::sigmoid(x);
    return {x * s, s * (T{1} + x * (T{1} - s))};
  }
};

/// The parts of an activation, for callers that need only one; the compiler drops the other.
template <class Activation, class T>
[[gnu::always_inline]] inline T value_of(T x) {
  return Activation::both(x).f;
}
template <class Activation, class T>
[[gnu::always_inline]] inline T slope_of(T x) {
  return Activation::both(x).df;
}

/// fn.template operator()<Relu, Gelu, …>(): the one switch over kinds.
template <class F>
decltype(auto) with_activation(ActivationKind kind, F&& fn) {
  switch (kind) {
    case ActivationKind::relu:
      return fn.template operator()<Relu>();
    case ActivationKind::gelu:
      return fn.template operator()<Gelu>();
    case ActivationKind::gelu_tanh:
      return fn.template operator()<GeluTanh>();
    case ActivationKind::silu:
      return fn.template operator()<Silu>();
  }
  throw InternalError("internal error: no such activation");
}

/// y = f(x) over n elements. y may be x.
template <class T>
void activation_forward(ActivationKind kind, const T* x, int64_t n, T* y);

/// dx = dy f'(x). dx may be dy.
template <class T>
void activation_backward(ActivationKind kind, const T* dy, const T* x, int64_t n, T* dx,
                         bool accumulate);

}  // namespace ballast
