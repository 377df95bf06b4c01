// Rotary position embedding (Su et al. 2021, arXiv 2104.09864) on rows of heads.
#pragma once

#include <cstdint>

namespace ballast {

/// Which channels of a head form a rotated pair.
enum class RopeLayout {
  half,         ///< (i, i + d_rot/2): GPT-NeoX, LLaMA
  interleaved,  ///< (2i, 2i + 1): the paper, GPT-J
};

}  // namespace ballast
