// What the tests of train/data share.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "core/random.h"
#include "tests/support/temporary_folder.h"
#include "train/data/batch.h"

namespace ballast {

class DataFolder : public TemporaryFolder {
 public:
  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& content) const {
    put_contents(path() / name, content);
    return (path() / name).string();
  }
};

inline std::string le16(const std::vector<uint16_t>& ids) {
  std::string bytes;
  for (const uint16_t id : ids) {
    bytes += static_cast<char>(id & 0xFF);
    bytes += static_cast<char>(id >> 8);
  }
  return bytes;
}

inline uint64_t hash_of(const Batch& batch) {
  uint64_t hash = 0;
  for (const int32_t token : batch.tokens) hash = mix64(hash ^ static_cast<uint64_t>(token));
  for (const int32_t token : batch.targets) hash = mix64(hash ^ static_cast<uint64_t>(token));
  return hash;
}

/// Mean of independent values and its standard error.
struct MeanAndError {
  double mean = 0.0;
  double error = 0.0;
  explicit MeanAndError(const std::vector<double>& values) {
    const auto n = static_cast<double>(values.size());
    for (const double v : values) mean += v / n;
    double variance = 0.0;
    for (const double v : values) variance += (v - mean) * (v - mean) / (n - 1.0);
    error = std::sqrt(variance / n);
  }
};

}  // namespace ballast
