#include "train/loop/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/kernels/reduce.h"

namespace ballast {

void validate(const SamplingOptions& options) {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) throw ConfigError(message);
  };
  require(std::isfinite(options.temperature) && options.temperature >= 0.0,
          concat("--temperature ", options.temperature, ": expected a number >= 0"));
  require(options.top_k >= 0, concat("--top-k ", options.top_k, ": expected 0 (all) or more"));
  require(options.top_p > 0.0 && options.top_p <= 1.0,
          concat("--top-p ", options.top_p, ": expected 0 < p <= 1"));
}

TokenSampler::TokenSampler(const SamplingOptions& options, uint64_t seed)
    : options_(options), random_(seed, hash_name("generate")) {}

int32_t TokenSampler::draw(std::span<const float> logits) {
  const auto more_likely = [&](int32_t a, int32_t b) {
    const float la = logits[static_cast<size_t>(a)];
    const float lb = logits[static_cast<size_t>(b)];
    return la > lb || (la == lb && a < b);
  };
  // A NaN has no place in an order: sorting it would be undefined.
  if (!all_finite(logits.data(), static_cast<int64_t>(logits.size()))) {
    throw StabilityError("the model's logits hold a NaN or an infinity; no token can be drawn");
  }
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  if (options_.temperature == 0.0)
    return *std::min_element(order_.begin(), order_.end(), more_likely);

  std::sort(order_.begin(), order_.end(), more_likely);
  const auto size = static_cast<int64_t>(order_.size());
  const int64_t k = options_.top_k == 0 ? size : std::min(options_.top_k, size);
  const auto largest = static_cast<double>(logits[static_cast<size_t>(order_[0])]);
  weights_.clear();
  double total = 0.0;
  for (int64_t i = 0; i < k; ++i) {
    const auto logit =
        static_cast<double>(logits[static_cast<size_t>(order_[static_cast<size_t>(i)])]);
    weights_.push_back(std::exp((logit - largest) / options_.temperature));
    total += weights_.back();
  }
  size_t kept = weights_.size();
  if (options_.top_p < 1.0) {
    double mass = 0.0;
    kept = 0;
    while (kept < weights_.size() && mass < options_.top_p * total) mass += weights_[kept++];
    total = mass;
  }
  double u = random_.uniform() * total;
  for (size_t i = 0; i + 1 < kept; ++i) {
    u -= weights_[i];
    if (u < 0.0) return order_[i];
  }
  return order_[kept - 1];
}

void generate(Model& model, Tape& tape, std::span<const int32_t> prompt, int64_t n_tokens,
              TokenSampler& sampler, const std::function<void(int32_t)>& emit) {
  check(!prompt.empty(), "[generate] the prompt is empty");
  tape.set_recording(false);
  const auto prompt_length = static_cast<int64_t>(prompt.size());
  // Learned positions end here, and no other kind was trained on anything beyond.
  const int64_t limit = *model.config().max_seq_len;
  const int64_t capacity = n_tokens < limit - prompt_length ? prompt_length + n_tokens : limit;
  KvCaches caches(model.config(), tape.dtype(), capacity);
  std::vector<int32_t> text(prompt.begin(), prompt.end());
  // What the model has not seen yet; a prompt longer than the context loses its beginning.
  std::vector<int32_t> unseen = text;
  if (prompt_length > limit) unseen.erase(unseen.begin(), unseen.end() - limit);

  for (int64_t i = 0; i < n_tokens; ++i) {
    if (caches.length() + static_cast<int64_t>(unseen.size()) > capacity) {
      const auto half = static_cast<std::ptrdiff_t>(std::max<int64_t>(1, capacity / 2));
      unseen.assign(text.end() - half, text.end());
      caches.clear();
    }
    ForwardContext context;
    context.caches = &caches.layers();
    context.position_offset = caches.length();
    tape.reset();
    const Tensor logits = tape.value(
        model.last_logits(tape, {unseen.data(), 1, static_cast<int64_t>(unseen.size())}, context));
    const int32_t token = sampler.draw({logits.data<float>(), static_cast<size_t>(logits.size())});
    text.push_back(token);
    unseen.assign(1, token);
    emit(token);
  }
}

}  // namespace ballast
