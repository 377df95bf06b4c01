// What must hold for every model that a configuration can describe.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "autograd/gradcheck.h"
#include "tests/layers/support.h"
#include "tests/support/catch.h"
#include "train/config/run_config.h"

namespace ballast::test {

/// Float64 gradients of the whole model against central differences, dropout and z-loss included.
inline void check_gradients(const RunConfig& config, int64_t entries_per_tensor) {
  const TokenBatch batch = random_batch(2, 7, *config.model.vocab_size, 8);
  TestModel m(config.model, Dtype::f64);
  ForwardContext context;
  context.training = true;
  context.dropout_seed = 5;
  context.step = 3;
  GradcheckOptions options;
  options.entries_per_tensor = entries_per_tensor;
  const GradcheckReport report = gradcheck(
      m.store,
      [&](Tape& tape) {
        return m.model
            .loss(tape, batch.view(), batch.targets.data(),
                  {.z_loss = config.loss.z_loss, .denominator = batch.size()}, context)
            .total;
      },
      options);
  INFO("error " << report.error << " in " << report.tensor << "[" << report.entry << "], analytic "
                << report.analytic << ", numeric " << report.numeric << ", redrawn "
                << report.n_redrawn << " of " << report.n_checked);
  CHECK(report.error <= 1e-7);
  CHECK(report.passed);
}

inline std::vector<float> logits_of(TestModel& m, const TokenView& tokens,
                                    const ForwardContext& context) {
  Tape tape;
  tape.set_recording(false);
  const Tensor y = tape.value(m.model.logits(tape, tokens, context));
  return {y.data<float>(), y.data<float>() + y.size()};
}

inline int64_t best_of(const float* logits, int64_t n) {
  return std::max_element(logits, logits + n) - logits;
}

/// Logits of a sequence that passes through caches in the parts of each split, against those of one
/// full forward: within 1e-5 of the largest, and the same greedy token where it is not a tie.
inline void check_cache(const RunConfig& config, const std::vector<std::vector<int64_t>>& splits) {
  const int64_t length = std::accumulate(splits.front().begin(), splits.front().end(), int64_t{0});
  TestModel m(config.model, Dtype::f32);
  const int64_t v = *config.model.vocab_size;
  const TokenBatch sequence = random_batch(1, length, v, 4);
  const std::vector<float> full = logits_of(m, sequence.view(), {});
  double largest = 0.0;
  for (const float x : full) largest = std::max(largest, std::abs(static_cast<double>(x)));
  const double tolerance = 1e-5 * largest;

  for (const auto& split : splits) {
    KvCaches caches(config.model, Dtype::f32, length);
    ForwardContext context;
    context.caches = &caches.layers();
    std::vector<float> cached;
    for (const int64_t n : split) {
      context.position_offset = caches.length();
      const auto part = logits_of(m, {sequence.tokens.data() + caches.length(), 1, n}, context);
      cached.insert(cached.end(), part.begin(), part.end());
    }
    REQUIRE(cached.size() == full.size());
    double worst = 0.0;
    for (int64_t t = 0; t < length; ++t) {
      const float* a = full.data() + t * v;
      const float* b = cached.data() + t * v;
      for (int64_t i = 0; i < v; ++i) {
        const double error = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
        if (std::isnan(error)) FAIL("a logit is not a number");
        worst = std::max(worst, error);
      }
      std::vector<float> ranked(a, a + v);
      std::nth_element(ranked.begin(), ranked.begin() + 1, ranked.end(), std::greater<>());
      if (static_cast<double>(a[best_of(a, v)] - ranked[1]) > 2.0 * tolerance) {
        CHECK(best_of(b, v) == best_of(a, v));
      }
    }
    CAPTURE(split, largest);
    CHECK(worst <= tolerance);
  }
}

}  // namespace ballast::test
