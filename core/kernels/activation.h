// Activation functions: one struct for each, with its value and its derivative.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>

#include "core/error.h"
#include "core/kernels/vec_math.h"

namespace ballast {

enum class ActivationKind {
  relu,
  relu2,
  gelu,
  gelu_tanh,
  silu,
  elu,
  selu,
  softplus,
  sigmoid,
  tanh,
  mish,
  softsign,
  identity
};

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

/// max(x, 0)^2, with slope 2 max(x, 0).
/// So et al. 2021 (Primer), arXiv 2109.08668.
struct Relu2 {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    const T r = x < T{0} ? T{0} : x;
    return {r * r, r + r};
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

/// scale (x > 0 ? x : alpha (exp(x) - 1)), with slope scale (x > 0 ? 1 : alpha exp(x)).
template <class T>
[[gnu::always_inline]] inline ValueAndSlope<T> exponential_linear(T x, T scale, T alpha) {
  const T negative = x > T{0} ? T{0} : x;
  const T f = x > T{0} ? x : alpha * vec::expm1(negative);
  const T df = x > T{0} ? T{1} : alpha * vec::exp(negative);
  return {scale * f, scale * df};
}

/// x > 0 ? x : exp(x) - 1.
/// Clevert et al. 2015, arXiv 1511.07289, with alpha 1.
struct Elu {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    return exponential_linear(x, T{1}, T{1});
  }
};

/// The same with the two constants that keep mean 0 and variance 1 of normal inputs.
/// Klambauer et al. 2017, arXiv 1706.02515, eq. 2 and 14.
struct Selu {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    return exponential_linear(x, static_cast<T>(1.0507009873554804934),
                              static_cast<T>(1.6732632423543772848));
  }
};

/// exp(-|x|) and the sigmoids of |x| and of x made of it: nothing overflows or cancels.
template <class T>
struct SigmoidParts {
  T e, of_magnitude, of_x;
};
template <class T>
[[gnu::always_inline]] inline SigmoidParts<T> sigmoid_parts(T x) {
  const T e = vec::exp(-std::fabs(x));
  const T s = T{1} / (T{1} + e);
  return {e, s, x < T{0} ? e * s : s};
}

/// log(1 + exp(x)), with slope sigmoid(x).
/// Dugas et al. 2000, "Incorporating second-order functional knowledge".
struct Softplus {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    return {vec::softplus(x), sigmoid_parts(x).of_x};
  }
};

/// 1 / (1 + exp(-x)), with slope sigmoid(x) sigmoid(-x).
/// Gated: GLU, Dauphin et al. 2016, arXiv 1612.08083.
struct Sigmoid {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    const auto [e, s, f] = sigmoid_parts(x);
    return {f, e * s * s};
  }
};

/// tanh(x), with slope 1 - tanh(x)^2 = q (2 - q), q = 1 - tanh|x|.
/// LeCun et al. 1998, "Efficient BackProp".
struct Tanh {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    const T q = T{2} / (vec::exp(T{2} * std::fabs(x)) + T{1});
    return {vec::tanh(x), q * (T{2} - q)};
  }
};

/// x t with t = tanh(softplus(x)), and slope t + x (1 - t^2) sigmoid(x).
/// With w = exp(x): t = n / (n + 2), n = w (w + 2); for x > 0 both are multiplied by exp(-2x).
/// Misra 2019, arXiv 1908.08681.
struct Mish {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    const auto [e, s, sigmoid] = sigmoid_parts(x);
    const T n = x < T{0} ? e * (e + T{2}) : T{1} + T{2} * e;
    const T two = x < T{0} ? T{2} : T{2} * e * e;
    const T inverse = T{1} / (n + two);
    const T t = n * inverse;
    return {x * t, t + x * (two * inverse) * (T{1} + t) * sigmoid};
  }
};

/// x / (1 + |x|), with slope 1 / (1 + |x|)^2.
/// Turian et al. 2009; Glorot & Bengio 2010.
struct Softsign {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    const T inverse = T{1} / (T{1} + std::fabs(x));
    return {x * inverse, inverse * inverse};
  }
};

/// x. Gated: the bilinear unit, Shazeer 2020, arXiv 2002.05202.
struct Identity {
  template <class T>
  [[gnu::always_inline]] static ValueAndSlope<T> both(T x) {
    return {x, T{1}};
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
    case ActivationKind::relu2:
      return fn.template operator()<Relu2>();
    case ActivationKind::gelu:
      return fn.template operator()<Gelu>();
    case ActivationKind::gelu_tanh:
      return fn.template operator()<GeluTanh>();
    case ActivationKind::silu:
      return fn.template operator()<Silu>();
    case ActivationKind::elu:
      return fn.template operator()<Elu>();
    case ActivationKind::selu:
      return fn.template operator()<Selu>();
    case ActivationKind::softplus:
      return fn.template operator()<Softplus>();
    case ActivationKind::sigmoid:
      return fn.template operator()<Sigmoid>();
    case ActivationKind::tanh:
      return fn.template operator()<Tanh>();
    case ActivationKind::mish:
      return fn.template operator()<Mish>();
    case ActivationKind::softsign:
      return fn.template operator()<Softsign>();
    case ActivationKind::identity:
      return fn.template operator()<Identity>();
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

/// The same over the first C columns of rows that begin `stride` apart; y: (rows, C) contiguous.
template <class T>
void activation_forward(ActivationKind kind, const T* x, int64_t rows, int64_t C, int64_t stride,
                        T* y);

/// dx and x: rows that begin `stride` apart   dy: (rows, C). Other columns of dx stay as they are.
template <class T>
void activation_backward(ActivationKind kind, const T* dy, const T* x, int64_t rows, int64_t C,
                         int64_t stride, T* dx, bool accumulate);

}  // namespace ballast
