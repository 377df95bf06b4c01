// One transformer block: an attention branch and a feed-forward branch around the residual stream.
#pragma once

#include <optional>
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
  Var operator()(Tape& tape, Var x, const PositionInputs& positions,
                 const ForwardContext& context) const;

 private:
  struct Pass;  // one forward pass: the tape, positions and context

  Var serial(const Pass& pass, Var x) const;
  Var parallel(const Pass& pass, Var x) const;
  // The branches, from their input and from what the products of their input gave.
  Var attn(const Pass& pass, Var x) const;
  Var ffn(const Pass& pass, Var x) const;
  Var attn_of(const Pass& pass, Var prepared) const;
  Var ffn_of(const Pass& pass, Var hidden, Columns columns = {}) const;
  // Post-norm, scales and dropout of a branch.
  Var ended(const Pass& pass, Var branch, const std::optional<Norm>& norm, Parameter* scale,
            uint64_t dropout_site) const;

  std::string name_;
  NormPlacement placement_;
  BlockTopology topology_;
  double residual_scale_;
  double dropout_;
  uint64_t attn_site_, ffn_site_;
  int64_t qkv_width_;
  const ParameterStore* store_;
  // Which of the norms exist follows from placement and topology.
  std::optional<Norm> attn_norm_, attn_post_norm_, ffn_norm_, ffn_post_norm_;
  std::optional<Projection> attn_in_;  // of both branches where they read the same value
  std::optional<Projection> ffn_in_;
  std::optional<Attention> attn_;
  std::optional<Mlp> ffn_;
  Parameter* attn_scale_ = nullptr;
  Parameter* ffn_scale_ = nullptr;
};

}  // namespace ballast
