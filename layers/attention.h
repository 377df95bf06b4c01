// Causal self-attention between the product that makes queries, keys and values and the branch's
// end: QK-norm, rotation, attention, output projection.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/context.h"
#include "layers/position.h"
#include "layers/projection.h"

namespace ballast {

/// wq, wk and wv, which read the branch's input.
std::vector<Projection::Part> attention_inputs(const ModelConfig& config, const std::string& name);

class Attention {
 public:
  /// Declares `name`.{q_norm,k_norm,v_norm,sink,wo} as configured. The maps of attention_inputs()
  /// are the caller's. layer: index of the block.
  Attention(const ModelConfig& config, ParameterStore& store, const std::string& name,
            int64_t layer);

  /// x: (B, T, W) with q | k | v in its first columns, which are normalised and rotated in place.
  /// Others may read the rest of the result, but nobody x.
  Var prepare(Tape& tape, Var x, const PositionInputs& positions,
              const ForwardContext& context) const;

  /// prepared: (B, T, W), returns (B, T, D).
  Var operator()(Tape& tape, Var prepared, const PositionInputs& positions,
                 const ForwardContext& context) const;

 private:
  struct HeadNorm {
    Parameter* weight = nullptr;
    Parameter* bias = nullptr;
  };
  HeadNorm head_norm(ParameterStore& store, const std::string& name, int64_t n_heads) const;
  GainAndShift on_tape(Tape& tape, const HeadNorm& norm) const;
  Var normed(Tape& tape, Var x) const;

  ModelConfig config_;
  const ParameterStore* store_;
  int64_t layer_;
  uint64_t dropout_site_;
  HeadNorm q_norm_, k_norm_, v_norm_;
  Parameter* sink_ = nullptr;
  std::optional<Projection> out_;
};

}  // namespace ballast
