// Seeded values for tests. While the source lives, a failing assertion prints its seed.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace ballast {

class RandomValues {
 public:
  explicit RandomValues(uint64_t seed)
      : engine_(seed),
        seed_note_(Catch::MessageBuilder("INFO", CATCH_INTERNAL_LINEINFO, Catch::ResultWas::Info)
                   << "random values from seed " << seed) {}

  /// In [low, high). The standard's distributions may differ between libraries, the engine may not.
  double uniform(double low = 0.0, double high = 1.0) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53;
  }

  double normal(double mean = 0.0, double std = 1.0) {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return mean + std * radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

  /// In [0, n).
  int64_t integer(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }

  template <class T = double>
  std::vector<T> uniform_vector(int64_t n, double low = 0.0, double high = 1.0) {
    std::vector<T> values(static_cast<size_t>(n));
    for (T& value : values) value = static_cast<T>(uniform(low, high));
    return values;
  }

  template <class T = double>
  std::vector<T> normal_vector(int64_t n, double mean = 0.0, double std = 1.0) {
    std::vector<T> values(static_cast<size_t>(n));
    for (T& value : values) value = static_cast<T>(normal(mean, std));
    return values;
  }

  /// Token ids in [0, vocab_size).
  std::vector<int32_t> tokens(int64_t n, int64_t vocab_size) {
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& id : ids) id = static_cast<int32_t>(integer(vocab_size));
    return ids;
  }

 private:
  std::mt19937_64 engine_;
  Catch::ScopedMessage seed_note_;
};

}  // namespace ballast
