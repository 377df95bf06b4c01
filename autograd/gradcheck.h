// Compares what backward() computes with central differences, in float64.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "autograd/tape.h"
#include "core/parameter.h"

namespace ballast {

struct GradcheckOptions {
  double tolerance = 1e-7;  ///< largest error that passes, by the measure below
  /// Entries checked of each parameter, 0 = all: that of the largest gradient, and drawn ones.
  int64_t entries_per_tensor = 64;
  uint64_t seed = 1;
};

struct GradcheckReport {
  double error = 0.0;  ///< the largest error of all tensors
  std::string tensor;  ///< where it is
  int64_t entry = 0;
  double analytic = 0.0, numeric = 0.0;  ///< the two gradients there
  int64_t n_checked = 0;
  int64_t n_redrawn = 0;  ///< entries left out because they lie at a kink
  bool passed = false;
};

/// Differentiates the scalar that `loss` records with respect to every parameter of the store.
/// The error of a tensor is max|analytic - numeric| / max(largest |numeric| of the tensor, 1 % of
/// the largest of all tensors). Numeric: central differences at h and h/2, extrapolated
/// (Richardson). h is 2e-5 to 1e-3 times max(1, |x|), whichever pair has the smallest error, by
/// what it disagrees by and by the rounding of the loss over h. An entry whose two estimates
/// disagree at every h lies at a kink and is redrawn. How small an error ends the search for h, and
/// how large a disagreement is a kink, is relative to the largest analytic gradient of the tensor
/// (or 1 % of the largest of all). Passes if no error exceeds the tolerance and at most 0.1 % of
/// the entries (but always one is allowed) were redrawn.
/// Throws std::invalid_argument unless the store holds float64 with gradients.
GradcheckReport gradcheck(ParameterStore& store, const std::function<Var(Tape&)>& loss,
                          const GradcheckOptions& options = {});

}  // namespace ballast
