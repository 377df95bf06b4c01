// Text from a trained model, one token at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/random.h"
#include "layers/model.h"

namespace ballast {

struct SamplingOptions {
  double temperature = 1.0;  ///< 0: always the most likely token
  int64_t top_k = 0;         ///< draw among the k most likely; 0 = all. Fan et al. 2018
  double top_p = 1.0;  ///< draw among the fewest that hold this probability. Holtzman et al. 2020
};

/// Throws ConfigError for values out of range.
void validate(const SamplingOptions& options);

/// Draws a token from one row of logits; equal logits rank by their token id.
class TokenSampler {
 public:
  TokenSampler(const SamplingOptions& options, uint64_t seed);
  /// Throws StabilityError unless all logits are finite.
  int32_t draw(std::span<const float> logits);

 private:
  SamplingOptions options_;
  RandomStream random_;
  std::vector<int32_t> order_;  // reused
  std::vector<double> weights_;
};

/// Continues `prompt` (at least one token) by n_tokens, calling emit(token) for each. Keys and
/// values of what was seen are kept, so that a token costs one pass over the weights. The context
/// is max_seq_len tokens: when it is full, its last half is read again as the new context.
void generate(Model& model, Tape& tape, std::span<const int32_t> prompt, int64_t n_tokens,
              TokenSampler& sampler, const std::function<void(int32_t)>& emit);

}  // namespace ballast
