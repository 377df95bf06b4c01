#include "optim/chunks.h"

#include <cmath>

namespace ballast {

Chunks::Chunks(const ParameterStore& store) {
  for (const Parameter& p : store.parameters()) {
    first_.push_back(chunks_.size());
    const size_t index = first_.size() - 1;
    for (int64_t i = 0; i < p.shape.size(); i += kSumChunk) {
      chunks_.push_back({p.begin + i, std::min(kSumChunk, p.shape.size() - i), index});
    }
  }
  first_.push_back(chunks_.size());
}

void Chunks::sum_parameters(std::span<double> chunk_sums, std::span<double> sums) const {
  for (size_t p = 0; p < n_parameters(); ++p) {
    sums[p] = pairwise_sum(chunk_sums.subspan(first_[p], first_[p + 1] - first_[p]));
  }
}

double pairwise_sum(std::span<double> terms) {
  for (size_t stride = 1; stride < terms.size(); stride *= 2) {
    for (size_t i = 0; i + stride < terms.size(); i += 2 * stride) terms[i] += terms[i + stride];
  }
  return terms.empty() ? 0.0 : terms[0];
}

template <class T>
double sum_of_squares(const T* x, int64_t n) {
  constexpr int64_t kLanes = 32;  // four vectors of AVX-512: enough to hide the latency of an add
  double lanes[kLanes] = {};
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
#pragma omp simd
    for (int64_t j = 0; j < kLanes; ++j) {
      const auto value = static_cast<double>(x[i + j]);
      lanes[j] += value * value;
    }
  }
  for (int64_t i = whole; i < n; ++i) {
    const auto value = static_cast<double>(x[i]);
    lanes[i - whole] += value * value;
  }
  return pairwise_sum(lanes);
}

template double sum_of_squares(const float* x, int64_t n);
template double sum_of_squares(const double* x, int64_t n);

}  // namespace ballast
