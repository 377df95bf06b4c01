// What a model costs, from its description alone: parameters, operations, memory.
#pragma once

#include <cstdint>

#include "layers/model_config.h"

namespace ballast {

/// Numbers of parameters by what they are for.
struct ParameterCounts {
  int64_t embedding = 0;  ///< tokens, learned positions, T5's table
  int64_t attention = 0;
  int64_t ffn = 0;
  int64_t norm = 0;  ///< and learned scales of the branches
  int64_t head = 0;  ///< 0 when tied
  int64_t total = 0;
  int64_t in_products =
      0;  ///< weights that multiply every token; a tied head counts, an embedding does not
};
ParameterCounts count_parameters(const ModelConfig& config);

/// Keys that a query of this layer sees, on average over a sequence of `seq_len` tokens; causal
/// attention counts half, as is the custom: T/2 without a window w, w - w^2/(2T) with one, and half
/// a chunk in a chunked layer.
double mean_keys(const ModelConfig& config, int64_t layer, int64_t seq_len);

/// Model FLOPs of one token in one training step: 6 * parameters in products + 12 * H * head_dim *
/// mean_keys of each layer. The forward pass alone is a third of it.
double train_flops_per_token(const ModelConfig& config, int64_t seq_len);

/// Bytes of the values that a step keeps for its backward pass, for `tokens` tokens in a
/// micro-batch.
int64_t activation_bytes(const ModelConfig& config, int64_t tokens);

/// Bytes of keys and values that generation keeps for so many positions: local layers keep at most
/// attention.window of them.
int64_t kv_cache_bytes(const ModelConfig& config, int64_t positions);

/// What one class of layers has and does. FLOPs are of one token, and of matrix products alone.
struct ClassCost {
  int64_t parameters = 0;
  double forward_flops = 0.0;
  double backward_flops = 0.0;
  int64_t activation_bytes = 0;
};
struct ModelCost {
  ClassCost embedding, attention, ffn, norm, head;
  ClassCost total() const;
};
/// By class; the totals are those of the functions above.
ModelCost model_cost(const ModelConfig& config, int64_t seq_len, int64_t tokens);

// Operations for each number moved by the attention layers, constants dropped, with d = d_model, h
// heads of k channels, g of them with keys, n positions, b sequences. Shazeer 2019, arXiv
// 1911.02150, and Ainslie et al. 2023, arXiv 2305.13245; a window bounds n in its layers.

/// Training, and reading a prompt: 1 / (1/d + n/(d k) + 1/(b n)).
double training_intensity(const ModelConfig& config, int64_t batch, int64_t positions);
/// Generating: 1 / (1/d + g n/(d h) + 1/b). MHA: g = h; MQA: g = 1.
double decoding_intensity(const ModelConfig& config, int64_t batch, int64_t positions);

}  // namespace ballast
