// Norms of the gradients, each parameter's and all together, in one pass over the slab.
#pragma once

#include <span>
#include <vector>

#include "core/parameter.h"
#include "optim/chunks.h"

namespace ballast {

class GradNorm {
 public:
  /// The store must be allocated with gradients and outlive this object.
  explicit GradNorm(const ParameterStore& store);

  /// Reads the gradients as they are now. Sums are formed in double, so a float gradient of any
  /// finite size has a finite norm. The bits do not depend on the number of threads.
  void measure();

  /// ||g||_2 of each parameter, in the order of declaration.
  std::span<const double> norms() const { return norms_; }
  /// ||g||_2 of all parameters together.
  double global() const { return global_; }
  /// The first parameter, in the order of declaration, with a NaN or an infinity; null if none.
  const Parameter* first_nonfinite() const;

 private:
  const ParameterStore& store_;
  Chunks chunks_;
  std::vector<double> chunk_sums_, sums_, norms_;
  double global_ = 0.0;
};

}  // namespace ballast
