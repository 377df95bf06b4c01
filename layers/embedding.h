// Tokens to vectors, with learned positions and the norm and dropout that may follow.
#pragma once

#include <optional>

#include "layers/context.h"
#include "layers/norm.h"

namespace ballast {

class Embedding {
 public:
  /// Declares embedding.weight and, as configured, position.weight and embedding_norm.
  Embedding(const ModelConfig& config, ParameterStore& store);

  /// x0 = dropout(norm(scale * E[token] + position)): (B, T, D). absolute: (n, D) or undefined, for
  /// positions that are not learned.
  Var operator()(Tape& tape, TokenView tokens, Var absolute, const ForwardContext& context) const;

  /// The token table, also a tied head's weight.
  Parameter& table() const { return *table_; }

 private:
  const ParameterStore* store_;
  Parameter* table_;
  Parameter* position_ = nullptr;
  std::optional<Norm> norm_;
  double scale_;
  double dropout_;
};

}  // namespace ballast
