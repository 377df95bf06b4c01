#include "layers/init.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/kernels/vec_math.h"
#include "core/parallel.h"
#include "core/random.h"

namespace ballast {

namespace {

// A block of random bits makes this many normal numbers.
constexpr int64_t kBlock = 4;

struct Pair {
  float first, second;
};

// Two standard normals from 64 bits. Box & Muller 1958. Free of branches: loops over it vectorise.
// The radius has 32 bits, so numbers up to 6.7 sigma occur; the angle is exact to 2^-32 turns.
[[gnu::always_inline]] inline Pair box_muller(uint32_t radius_bits, uint32_t angle_bits) {
  const float u = std::fma(static_cast<float>(radius_bits), 0x1p-32F, 0x1p-33F);  // in (0, 1]
  const float radius = std::sqrt(-2.0F * vec::log(u));
  // angle = quadrant * pi/2 + x with |x| <= pi/4, where these Taylor polynomials are exact to half
  // a unit of float: x^11/11! < 2e-9 and x^12/12! < 2e-10.
  const uint32_t quadrant = (angle_bits + (1U << 29)) >> 30;
  const auto rest = static_cast<int32_t>(angle_bits - (quadrant << 30));
  const float x = static_cast<float>(rest) * (std::numbers::pi_v<float> * 0x1p-31F);
  const float x2 = x * x;
  float p = 1.0F / 362880.0F;
  p = std::fma(p, x2, -1.0F / 5040.0F);
  p = std::fma(p, x2, 1.0F / 120.0F);
  p = std::fma(p, x2, -1.0F / 6.0F);
  const float sine = std::fma(p * x2, x, x);
  float q = -1.0F / 3628800.0F;
  q = std::fma(q, x2, 1.0F / 40320.0F);
  q = std::fma(q, x2, -1.0F / 720.0F);
  q = std::fma(q, x2, 1.0F / 24.0F);
  q = std::fma(q, x2, -0.5F);
  const float cosine = std::fma(q, x2, 1.0F);
  const bool is_odd = (quadrant & 1U) != 0;
  const float cos_part = is_odd ? sine : cosine;
  const float sin_part = is_odd ? cosine : sine;
  const bool cos_negative = ((quadrant + 1U) & 2U) != 0;
  const bool sin_negative = (quadrant & 2U) != 0;
  return {radius * (cos_negative ? -cos_part : cos_part),
          radius * (sin_negative ? -sin_part : sin_part)};
}

// Standard normals of blocks [first, first + n) of a stream.
void standard_normals(uint64_t seed, uint64_t stream, int64_t first, int64_t n, float* out) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const std::array<uint32_t, 4> bits =
        Philox::block(seed, stream, static_cast<uint64_t>(first + j));
    const Pair a = box_muller(bits[0], bits[1]);
    const Pair b = box_muller(bits[2], bits[3]);
    out[kBlock * j] = a.first;
    out[kBlock * j + 1] = a.second;
    out[kBlock * j + 2] = b.first;
    out[kBlock * j + 3] = b.second;
  }
}

// The first number within the bound among blocks that belong to element i alone.
float drawn_again(uint64_t seed, uint64_t stream, int64_t i, float bound) {
  // The counter's upper bits count the blocks; those of first draws have them 0.
  for (int64_t attempt = 1;; ++attempt) {
    float normals[kBlock];
    standard_normals(seed, stream, (attempt << 40) + i, 1, normals);
    for (const float z : normals) {
      if (std::abs(z) <= bound) return z;
    }
  }
}

template <class T>
void fill_normal(const Tensor& tensor, double std, float bound, uint64_t seed, uint64_t stream) {
  T* const values = tensor.data<T>();
  const int64_t size = tensor.size();
  constexpr int64_t kBatch = 256;  // blocks at a time: the numbers stay in the first-level cache
  parallel_ranges((size + kBlock - 1) / kBlock, kBatch, [&](int64_t first, int64_t last) {
    std::array<float, kBatch * kBlock> normals;
    for (int64_t block = first; block < last; block += kBatch) {
      standard_normals(seed, stream, block, std::min(kBatch, last - block), normals.data());
      const int64_t begin = block * kBlock;
      const int64_t n = std::min({size, last * kBlock, begin + kBatch * kBlock}) - begin;
      for (int64_t i = 0; i < n; ++i) {
        float& z = normals[static_cast<size_t>(i)];
        if (std::abs(z) > bound) z = drawn_again(seed, stream, begin + i, bound);
      }
      for (int64_t i = 0; i < n; ++i) {
        values[begin + i] =
            static_cast<T>(std * static_cast<double>(normals[static_cast<size_t>(i)]));
      }
    }
  });
}

double linear_std(const ModelConfig& config, const Shape& shape) {
  const auto fan_out = static_cast<double>(shape[0]);
  const auto fan_in = static_cast<double>(shape.back());
  switch (config.init.scheme) {
    case InitScheme::normal:
      return config.init.std;
    case InitScheme::fan_in:
      return 1.0 / std::sqrt(fan_in);
    case InitScheme::xavier:
      return std::sqrt(2.0 / (fan_in + fan_out));
    case InitScheme::small:
      return std::sqrt(2.0 / (5.0 * static_cast<double>(config.d_model)));
  }
  throw InternalError("internal error: linear_std met an unknown scheme");
}

}  // namespace

double initial_std(const ModelConfig& config, const Parameter& p) {
  switch (p.role) {
    case Role::embedding:
    case Role::position:
      return config.init.embedding_std.value_or(config.init.std);
    case Role::linear:
    case Role::head: {
      const bool is_scaled = p.ends_branch && config.init.depth_scale;
      const double branches = 2.0 * static_cast<double>(config.n_layers);
      return linear_std(config, p.shape) / (is_scaled ? std::sqrt(branches) : 1.0);
    }
    case Role::norm:
    case Role::offset:
    case Role::bias:
      return 0.0;
  }
  throw InternalError("internal error: initial_std met an unknown role");
}

void initialise(const ModelConfig& config, ParameterStore& store, uint64_t seed) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float bound = config.init.trunc ? static_cast<float>(*config.init.trunc) : kInfinity;
  check(bound >= 0.1F, "[initialise] trunc = ", bound, "; expected at least 0.1");
  for (Parameter& p : store.parameters()) {
    const double std = initial_std(config, p);
    dispatch(store.dtype(), [&]<class T>() {
      if (std > 0.0) {
        fill_normal<T>(p.value, std, bound, seed, hash_name(p.name));
      } else {
        std::fill_n(p.value.data<T>(), p.value.size(), static_cast<T>(p.initial));
      }
    });
  }
}

}  // namespace ballast
