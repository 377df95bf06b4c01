// Where a token stands: learned vectors on the embedding, or rotations of queries and keys.
#pragma once

#include "autograd/ops.h"
#include "core/memory.h"
#include "layers/model_config.h"

namespace ballast {

/// cos and sin for all positions asked for so far; shared by all layers.
class RopeTables {
 public:
  RopeTables(double theta, int64_t rotated_width) : theta_(theta), width_(rotated_width) {}

  /// Tables of at least n_positions rows. Earlier tables become invalid when they have to grow.
  const RopeTable& get(Dtype dtype, int64_t n_positions);

 private:
  double theta_;
  int64_t width_;
  AlignedBytes memory_;
  RopeTable table_;
};

}  // namespace ballast
