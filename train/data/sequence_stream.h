// The random numbers behind one sequence of a generator.
#pragma once

#include "core/random.h"
#include "train/data/data_source.h"

namespace ballast {

/// Sequences of the two splits never share numbers, nor do two sequences of a split.
inline RandomStream sequence_stream(uint64_t data_seed, Split split, int64_t index) {
  return {derive_seed(data_seed, split == Split::train ? "data.train" : "data.val"),
          static_cast<uint64_t>(index)};
}

}  // namespace ballast
