// Dropout whose mask is a pure function of the place in the run and in the whole batch.
#pragma once

#include <cstdint>

namespace ballast {

/// What decides a mask. `first_row` is the index in the whole batch of the kernel's first row, so
/// that splitting a batch into micro-batches changes no element's fate.
struct DropoutMask {
  uint64_t seed = 0;
  int64_t step = 0;
  uint64_t site = 0;  ///< which dropout of the model
  int64_t first_row = 0;
  double rate = 0.0;  ///< in [0, 1)
};

/// y (+)= x * keep / (1 - rate), where an element is kept with probability 1 - rate (to 2^-32).
/// x, y: (rows, C); y may be x.   The gradient is the same function of dy with the same mask.
/// A dropped NaN or infinity gives NaN: it must not vanish by chance.
/// Srivastava et al. 2014, scaled at training time.
template <class T>
void dropout(const DropoutMask& mask, const T* x, int64_t rows, int64_t C, T* y, bool accumulate);

}  // namespace ballast
