#include "optim/grad_norm.h"

#include <cmath>

namespace ballast {

GradNorm::GradNorm(const ParameterStore& store)
    : store_(store),
      chunks_(store),
      chunk_sums_(chunks_.size()),
      sums_(chunks_.n_parameters()),
      norms_(chunks_.n_parameters()) {
  check(store.has_gradients(), "[grad_norm] the parameters were allocated without gradients");
}

void GradNorm::measure() {
  dispatch(store_.dtype(), [&]<class T>() {
    const T* grads = store_.gradients().data<T>();
    chunks_.for_each([&](size_t i, const Chunk& chunk) {
      chunk_sums_[i] = sum_of_squares(grads + chunk.begin, chunk.size);
    });
  });
  chunks_.sum_parameters(chunk_sums_, sums_);
  for (size_t p = 0; p < sums_.size(); ++p) norms_[p] = std::sqrt(sums_[p]);
  global_ = std::sqrt(pairwise_sum(sums_));
}

const Parameter* GradNorm::first_nonfinite() const {
  for (size_t p = 0; p < norms_.size(); ++p) {
    if (!std::isfinite(norms_[p])) return &store_.parameters()[p];
  }
  return nullptr;
}

}  // namespace ballast
