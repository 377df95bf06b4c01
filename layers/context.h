// What a forward pass needs to know beyond the tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/ops.h"
#include "core/random.h"

namespace ballast {

struct ForwardContext {
  bool training = false;  ///< dropout is applied
  uint64_t dropout_seed = 0;
  int64_t step = 0;
  int64_t first_row = 0;                   ///< of this micro-batch in the whole batch, in sequences
  std::vector<KvCache>* caches = nullptr;  ///< generation: one for each layer
  int64_t position_offset = 0;             ///< generation: positions seen already

  /// The key of one dropout site, named by a hash_name(); its rate is 0 outside training.
  DropoutKey dropout(double rate, uint64_t site) const {
    return {training ? rate : 0.0, dropout_seed, step, site, first_row};
  }
};

}  // namespace ballast
