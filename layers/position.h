// Where a token stands: vectors on the embedding, rotations of queries and keys, or a bias of the
// logits by distance.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "autograd/ops.h"
#include "core/memory.h"
#include "layers/model_config.h"

namespace ballast {

/// Memory with a row or column for each position asked for so far. What it grew out of stays valid:
/// a recorded step may still refer to it.
class PositionMemory {
 public:
  /// Bytes for n positions or more. `n_positions` becomes the number there is room for; returns
  /// null when the memory of the last call serves.
  std::byte* grow(Dtype dtype, int64_t& n_positions, int64_t elements_per_position);

 private:
  std::vector<AlignedBytes> memory_;
  int64_t n_positions_ = 0;
  Dtype dtype_ = Dtype::f32;
};

/// cos and sin of t * theta^(-2i/d_rot) for all positions asked for so far.
class RopeTables {
 public:
  RopeTables(double theta, int64_t rotated_width) : theta_(theta), width_(rotated_width) {}

  /// Tables of at least n_positions rows.
  const RopeTable& get(Dtype dtype, int64_t n_positions);

 private:
  double theta_;
  int64_t width_;
  PositionMemory memory_;
  RopeTable table_;
};

/// (n, D): sin(t / 10000^(2i/D)) on channel 2i, the cosine on 2i + 1.
/// Vaswani et al. 2017, arXiv 1706.03762, section 3.5.
void sinusoidal_table(int64_t n_positions, int64_t d_model, const Tensor& out);

/// 2^(-8h/H), h = 1 … H. Where H is no power of 2: those of the power P below, then every second
/// one of 2P. Press et al. 2021, arXiv 2108.12409.
std::vector<double> alibi_slopes(int64_t n_heads);

/// What one forward pass needs to know of positions; each layer takes what applies to it.
struct PositionInputs {
  Var absolute;                           ///< (n, D), added to the embedding
  const RopeTable* rope = nullptr;        ///< of full layers
  const RopeTable* rope_local = nullptr;  ///< of local layers
  Var distance_bias;                      ///< (H, n): ALiBi or T5, by i - j
  std::span<const double> query_factors;  ///< (n): of layers without rope; empty: 1
};

class Positions {
 public:
  /// Declares position.t5_bias where it is asked for. (position.weight belongs to the embedding.)
  Positions(const ModelConfig& config, ParameterStore& store);

  PositionInputs inputs(Tape& tape, int64_t n_positions);

 private:
  ModelConfig config_;
  const ParameterStore* store_;
  Parameter* t5_table_ = nullptr;
  std::vector<int32_t> t5_buckets_;  // of the distances
  RopeTables rope_, rope_local_;
  PositionMemory memory_;  // of sinusoidal or ALiBi
  Tensor table_;
  PositionMemory query_memory_;
  std::span<const double> query_factors_;
};

}  // namespace ballast
