#include "optim/adamw.h"

#include <cmath>

namespace ballast {

namespace {

// What is the same for every element of a step, in the arithmetic of the store.
template <class T>
struct Factors {
  T grad_scale;
  T one_minus_beta1, one_minus_beta2;
  T step_size;        // lr_t / (1 - b1^t)
  T root_correction;  // 1 / sqrt(1 - b2^t)
  T eps;
};

// Reads and writes n elements; with kRecord also stores the change of each in `change`.
template <bool kRecord, class T>
void update(const Factors<T>& f, T decay, int64_t n, T* __restrict w, const T* __restrict g,
            T* __restrict m, T* __restrict v, T* __restrict change) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T grad = g[i] * f.grad_scale;
    m[i] += f.one_minus_beta1 * (grad - m[i]);
    v[i] += f.one_minus_beta2 * (grad * grad - v[i]);
    const T direction = m[i] / (std::sqrt(v[i]) * f.root_correction + f.eps);
    const T before = w[i];
    const T after = before - (f.step_size * direction + decay * before);
    w[i] = after;
    if constexpr (kRecord) change[i] = after - before;
  }
}

}  // namespace

AdamW::AdamW(const OptimConfig& config, ParameterStore& store)
    : config_(config),
      store_(store),
      chunks_(store),
      m_(store.make_slab()),
      v_(store.make_slab()),
      update_sums_(chunks_.size()),
      weight_sums_(chunks_.size()),
      sums_(chunks_.n_parameters()) {
  check(store.has_gradients(), "[adamw] the parameters were allocated without gradients");
  for (const Parameter& p : store.parameters()) decays_.push_back(decays(config, p.role));
}

template <class T>
void AdamW::step_as(double lr, double grad_scale, bool with_norms) {
  const double correction1 = 1.0 - std::pow(config_.betas[0], static_cast<double>(steps_));
  const double correction2 = 1.0 - std::pow(config_.betas[1], static_cast<double>(steps_));
  const Factors<T> factors{
      .grad_scale = static_cast<T>(grad_scale),
      .one_minus_beta1 = static_cast<T>(1.0 - config_.betas[0]),
      .one_minus_beta2 = static_cast<T>(1.0 - config_.betas[1]),
      .step_size = static_cast<T>(lr / correction1),
      .root_correction = static_cast<T>(1.0 / std::sqrt(correction2)),
      .eps = static_cast<T>(config_.eps),
  };
  const double rate = config_.decay == DecayForm::coupled ? lr : lr / config_.lr;
  const T decay = static_cast<T>(rate * config_.weight_decay);

  T* const values = store_.values().data<T>();
  const T* const grads = store_.gradients().data<T>();
  T* const m = m_.tensor().data<T>();
  T* const v = v_.tensor().data<T>();
  chunks_.for_each([&](size_t i, const Chunk& chunk) {
    const int64_t at = chunk.begin;
    const T chunk_decay = decays_[chunk.parameter] != 0 ? decay : T{0};
    T* const w = values + at;
    if (!with_norms) {
      update<false, T>(factors, chunk_decay, chunk.size, w, grads + at, m + at, v + at, nullptr);
      return;
    }
    // The chunk stays in the second-level cache between its three visits.
    alignas(kAlignment) T change[kSumChunk];
    weight_sums_[i] = sum_of_squares(w, chunk.size);
    update<true, T>(factors, chunk_decay, chunk.size, w, grads + at, m + at, v + at, change);
    update_sums_[i] = sum_of_squares(change, chunk.size);
  });
}

void AdamW::step(double lr, double grad_scale, UpdateNorms* norms) {
  ++steps_;
  dispatch(store_.dtype(), [&]<class T>() { step_as<T>(lr, grad_scale, norms != nullptr); });
  if (norms == nullptr) return;
  norms->update.resize(sums_.size());
  norms->weight.resize(sums_.size());
  chunks_.sum_parameters(weight_sums_, sums_);
  for (size_t p = 0; p < sums_.size(); ++p) norms->weight[p] = std::sqrt(sums_[p]);
  chunks_.sum_parameters(update_sums_, sums_);
  for (size_t p = 0; p < sums_.size(); ++p) norms->update[p] = std::sqrt(sums_[p]);
  norms->global = std::sqrt(pairwise_sum(sums_));
}

std::vector<StateTensor> AdamW::state() {
  std::vector<StateTensor> tensors;
  for (const Parameter& p : store_.parameters()) tensors.push_back({"m." + p.name, m_.view(p)});
  for (const Parameter& p : store_.parameters()) tensors.push_back({"v." + p.name, v_.view(p)});
  return tensors;
}

}  // namespace ballast
