// The skeleton of optimisers whose update of a weight needs that weight's own numbers alone: one
// pass over values, gradients and moments. What differs is a rule, one file each.
#pragma once

#include <array>
#include <cmath>
#include <string_view>
#include <vector>

#include "optim/chunks.h"
#include "optim/optimizer.h"

namespace ballast {

/// What the decoupled decay w -= … multiplies the weight by at the rate lr.
///   coupled: lr wd (Loshchilov & Hutter 2017, as PyTorch has it)
///   independent: (lr / peak lr) wd (Wortsman et al. 2023, as their code has it)
inline double decoupled_decay(const OptimConfig& config, double lr) {
  return config.weight_decay * (config.decay == DecayForm::coupled ? lr : lr / config.lr);
}

/// Rule<T> is the arithmetic of one update, in float or double:
///   Rule(const OptimConfig&, double lr, int64_t t)     before each update t = 1, 2, …
///   T decay                                            its factor for weights that decay
///   T operator()(T g, T w, T decay, T& m[, T& v])      what is subtracted from w
///   static constexpr OptimizerTraits kTraits
/// The skeleton scales g, passes a decay of 0 for parameters in `no_decay`, owns the moments and
/// measures what an update did.
template <template <class> class Rule>
class Elementwise final : public Optimizer {
 public:
  Elementwise(const OptimConfig& config, ParameterStore& store)
      : config_(config),
        store_(store),
        chunks_(store),
        update_sums_(chunks_.size()),
        weight_sums_(chunks_.size()),
        sums_(chunks_.n_parameters()) {
    check(store.has_gradients(), "[", name_of(config.kind),
          "] the parameters were allocated without gradients");
    for (Slab& slab : moments_) slab = store.make_slab();
    for (const Parameter& p : store.parameters()) decays_.push_back(decays(config, p.role));
  }

  void step(double lr, double grad_scale, UpdateNorms* norms) override {
    ++steps_;
    dispatch(store_.dtype(), [&]<class T>() {
      step_as(Rule<T>(config_, lr, steps_), static_cast<T>(grad_scale), norms != nullptr);
    });
    if (norms != nullptr) report(*norms);
  }

  std::vector<StateTensor> state() override {
    std::vector<StateTensor> tensors;
    for (size_t i = 0; i < kMoments; ++i) {
      for (const Parameter& p : store_.parameters())
        tensors.push_back({concat(kTraits.moments[i], ".", p.name), moments_[i].view(p)});
    }
    return tensors;
  }

 private:
  static constexpr OptimizerTraits kTraits = Rule<float>::kTraits;
  static constexpr size_t kMoments = kTraits.n_moments();

  template <class T>
  void step_as(const Rule<T>& rule, T grad_scale, bool with_norms) {
    T* const values = store_.values().data<T>();
    const T* const grads = store_.gradients().data<T>();
    T* const m = moments_.front().tensor().template data<T>();
    T* const v = moments_.back().tensor().template data<T>();
    chunks_.for_each([&](size_t i, const Chunk& chunk) {
      const int64_t at = chunk.begin;
      const T decay = decays_[chunk.parameter] != 0 ? rule.decay : T{0};
      const auto run = [&]<bool kRecord>(T* change) {
        update<kRecord>(rule, grad_scale, decay, chunk.size, values + at, grads + at, m + at,
                        v + at, change);
      };
      if (!with_norms) return run.template operator()<false>(nullptr);
      // The chunk stays in the second-level cache between its three visits.
      alignas(kAlignment) T change[kSumChunk];
      weight_sums_[i] = sum_of_squares(values + at, chunk.size);
      run.template operator()<true>(change);
      update_sums_[i] = sum_of_squares(change, chunk.size);
    });
  }

  // With kRecord also stores the change of each element in `change`. The rule comes by value: the
  // stores below could alias a reference.
  template <bool kRecord, class T>
  static void update(const Rule<T> rule, T grad_scale, T decay, int64_t n, T* __restrict w,
                     const T* __restrict g, T* __restrict m, [[maybe_unused]] T* __restrict v,
                     [[maybe_unused]] T* __restrict change) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const T grad = g[i] * grad_scale;
      const T before = w[i];
      T step;
      if constexpr (kMoments == 2) {
        step = rule(grad, before, decay, m[i], v[i]);
      } else {
        step = rule(grad, before, decay, m[i]);
      }
      const T after = before - step;
      w[i] = after;
      if constexpr (kRecord) change[i] = after - before;
    }
  }

  void report(UpdateNorms& norms) {
    norms.update.resize(sums_.size());
    norms.weight.resize(sums_.size());
    chunks_.sum_parameters(weight_sums_, sums_);
    for (size_t p = 0; p < sums_.size(); ++p) norms.weight[p] = std::sqrt(sums_[p]);
    chunks_.sum_parameters(update_sums_, sums_);
    for (size_t p = 0; p < sums_.size(); ++p) norms.update[p] = std::sqrt(sums_[p]);
    norms.global = std::sqrt(pairwise_sum(sums_));
  }

  OptimConfig config_;
  ParameterStore& store_;
  Chunks chunks_;
  std::vector<char> decays_;  // for each parameter
  std::array<Slab, kMoments> moments_;
  std::vector<double> update_sums_, weight_sums_;  // for each chunk
  std::vector<double> sums_;                       // for each parameter
};

}  // namespace ballast
