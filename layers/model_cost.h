// What a model costs, from its description alone: parameters, operations, memory.
#pragma once

#include <cstdint>

#include "layers/model_config.h"

namespace ballast {

/// Numbers of parameters by what they are for.
struct ParameterCounts {
  int64_t embedding = 0;  ///< tokens and learned positions
  int64_t attention = 0;
  int64_t ffn = 0;
  int64_t norm = 0;
  int64_t head = 0;  ///< 0 when tied
  int64_t total = 0;
  int64_t in_products =
      0;  ///< weights that multiply every token; a tied head counts, an embedding does not
};
ParameterCounts count_parameters(const ModelConfig& config);

/// Model FLOPs of one token in one training step: 6 * parameters in products + 6 * L * H * head_dim
/// * T, causal attention counted at half. The forward pass alone is a third of it.
double train_flops_per_token(const ModelConfig& config, int64_t seq_len);

/// Bytes of the values that a step keeps for its backward pass, for `tokens` tokens in a
/// micro-batch.
int64_t activation_bytes(const ModelConfig& config, int64_t tokens);

/// Bytes of keys and values that generation keeps for one token.
int64_t kv_cache_bytes_per_token(const ModelConfig& config);

}  // namespace ballast
