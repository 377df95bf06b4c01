// Counter-based random numbers: a value is a pure function of (seed, stream, position), so that any
// step can be replayed and the result cannot depend on threads or on what was drawn before.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace ballast {

/// Philox4x32-10. Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
struct Philox {
  /// 128 random bits. Counter words, lowest first: counter_lo, then counter_hi; key words likewise.
  static constexpr std::array<uint32_t, 4> block(uint64_t key, uint64_t counter_hi,
                                                 uint64_t counter_lo) {
    uint32_t c0 = low(counter_lo);
    uint32_t c1 = high(counter_lo);
    uint32_t c2 = low(counter_hi);
    uint32_t c3 = high(counter_hi);
    uint32_t k0 = low(key);
    uint32_t k1 = high(key);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
      c0 = high(p1) ^ c1 ^ k0;
      c1 = low(p1);
      c2 = high(p0) ^ c3 ^ k1;
      c3 = low(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
  }

 private:
  static constexpr uint32_t low(uint64_t x) { return static_cast<uint32_t>(x); }
  static constexpr uint32_t high(uint64_t x) { return static_cast<uint32_t>(x >> 32); }
};

/// The upper 24 bits as a float in [0, 1): every value is a multiple of 2^-24.
constexpr float unit_float(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

/// The upper 53 bits as a double in [0, 1): every value is a multiple of 2^-53.
constexpr double unit_double(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

/// A bijection of 64-bit words that scatters neighbours (the finaliser of splitmix64).
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// The same number for the same name in every version: names of parameters and of streams become
/// stream ids by it. FNV-1a, then mix64.
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return mix64(hash);
}

/// A seed for one purpose, derived from a run's seed.
constexpr uint64_t derive_seed(uint64_t seed, std::string_view purpose) {
  return mix64(seed ^ hash_name(purpose));
}

/// The numbers of one stream, in order. Costs nothing to make; copying it forks it at its position.
class RandomStream {
 public:
  constexpr RandomStream(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  constexpr uint32_t next_u32() {
    if (used_ == 4) {
      words_ = Philox::block(seed_, stream_, next_block_++);
      used_ = 0;
    }
    return words_[used_++];
  }

  constexpr uint64_t next_u64() {
    const uint64_t low = next_u32();
    return low | uint64_t{next_u32()} << 32;
  }

  constexpr float uniform_float() { return unit_float(next_u32()); }
  constexpr double uniform() { return unit_double(next_u64()); }

  /// Uniform in [0, n), without bias; n > 0. Lemire 2019, arXiv 1805.10941, algorithm 5.
  constexpr uint64_t below(uint64_t n) {
    Wide product = static_cast<Wide>(next_u64()) * n;
    if (static_cast<uint64_t>(product) < n) {
      const uint64_t rejected = (0 - n) % n;
      while (static_cast<uint64_t>(product) < rejected) {
        product = static_cast<Wide>(next_u64()) * n;
      }
    }
    return static_cast<uint64_t>(product >> 64);
  }

  /// Standard normal. Box & Muller 1958; one value of the pair is used, so that a stream has no
  /// state beside its position.
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  __extension__ using Wide = unsigned __int128;

  uint64_t seed_;
  uint64_t stream_;
  uint64_t next_block_ = 0;
  std::array<uint32_t, 4> words_{};
  uint32_t used_ = 4;
};

}  // namespace ballast
