// Element types of tensors.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>

#include "core/error.h"

namespace ballast {

enum class Dtype { f32, bf16, f64 };

/// bfloat16 as a storage type: the upper half of a float. Arithmetic happens in float.
struct bf16 {
  uint16_t bits = 0;

  bf16() = default;
  /// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
  explicit bf16(float x) {
    const auto u = std::bit_cast<uint32_t>(x);
    const bool is_nan = (u & 0x7fffffffU) > 0x7f800000U;
    const uint32_t rounded = u + 0x7fffU + ((u >> 16) & 1U);
    bits = static_cast<uint16_t>(is_nan ? (u >> 16) | 0x40U : rounded >> 16);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

template <class T>
constexpr Dtype dtype_of();
template <>
constexpr Dtype dtype_of<float>() {
  return Dtype::f32;
}
template <>
constexpr Dtype dtype_of<bf16>() {
  return Dtype::bf16;
}
template <>
constexpr Dtype dtype_of<double>() {
  return Dtype::f64;
}

/// Bytes of one element.
constexpr int64_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return 4;
    case Dtype::bf16:
      return 2;
    case Dtype::f64:
      return 8;
  }
  return 0;
}

constexpr const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return "f32";
    case Dtype::bf16:
      return "bf16";
    case Dtype::f64:
      return "f64";
  }
  return "?";
}

/// Calls fn.template operator()<T>() with the type that computes for `dtype`: float or double.
template <class F>
decltype(auto) dispatch(Dtype dtype, F&& fn) {
  switch (dtype) {
    case Dtype::f32:
      return fn.template operator()<float>();
    case Dtype::f64:
      return fn.template operator()<double>();
    case Dtype::bf16:
      break;
  }
  throw InternalError("internal error: no kernel computes in bf16");
}

}  // namespace ballast
