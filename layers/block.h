// One transformer block: an attention branch and a feed-forward branch around the residual stream.
#pragma once

#include <string>

#include "layers/attention.h"
#include "layers/mlp.h"
#include "layers/norm.h"

namespace ballast {

class Block {
 public:
  /// Declares everything under "blocks.<layer>.".
  Block(const ModelConfig& config, ParameterStore& store, int64_t layer);

  /// x: (B, T, D), returns (B, T, D).
  Var operator()(Tape& tape, Var x, const RopeTable* rope_table,
                 const ForwardContext& context) const;

 private:
  std::string name_;
  NormPlacement placement_;
  double dropout_;
  uint64_t attn_site_, ffn_site_;
  Norm attn_norm_;
  Attention attn_;
  Norm ffn_norm_;
  Mlp ffn_;
};

}  // namespace ballast
