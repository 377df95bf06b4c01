// Causal self-attention: one product for q, k and v, rotation, attention, output projection.
#pragma once

#include <string>

#include "layers/context.h"
#include "layers/position.h"
#include "layers/projection.h"

namespace ballast {

class Attention {
 public:
  /// Declares `name`.{wq,wk,wv,wo}. layer: index of the block, for its cache.
  Attention(const ModelConfig& config, ParameterStore& store, const std::string& name,
            int64_t layer);

  /// x: (B, T, D), returns (B, T, D). rope_table: null where positions are not rotated.
  Var operator()(Tape& tape, Var x, const RopeTable* rope_table,
                 const ForwardContext& context) const;

 private:
  int64_t layer_;
  int64_t n_heads_, n_kv_heads_, head_dim_;
  double scale_;
  RopeLayout layout_;
  double dropout_;
  uint64_t dropout_site_;
  Projection qkv_, out_;
};

}  // namespace ballast
