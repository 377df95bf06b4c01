#include "train/loop/generate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "layers/init.h"
#include "tests/support/catch.h"

namespace ballast {
namespace {

/// How often each token is drawn.
std::vector<double> counts(const SamplingOptions& options, const std::vector<float>& logits,
                           int n_draws) {
  std::vector<double> n(logits.size());
  TokenSampler sampler(options, 11);
  for (int i = 0; i < n_draws; ++i) n[static_cast<size_t>(sampler.draw(logits))] += 1.0;
  return n;
}

/// sum (observed - expected)^2 / expected over the tokens that can come; the others must not.
double chi_square(const std::vector<double>& n, const std::vector<double>& p, int n_draws) {
  double sum = 0.0;
  for (size_t i = 0; i < n.size(); ++i) {
    const double expected = p[i] * n_draws;
    if (expected == 0.0) {
      CHECK(n[i] == 0.0);
    } else {
      sum += (n[i] - expected) * (n[i] - expected) / expected;
    }
  }
  return sum;
}

ModelConfig tiny_model(PositionKind position) {
  ModelConfig c;
  c.d_model = 16;
  c.n_layers = 2;
  c.n_heads = 2;
  c.vocab_size = 20;
  c.max_seq_len = 8;
  c.position.kind = position;
  c.init.std = 0.5;  // far from uniform, so that a wrong position changes the choice
  return c;
}

struct TinyModel {
  ParameterStore store;
  Model model;
  Tape tape;
  explicit TinyModel(PositionKind position) : model(tiny_model(position), store) {
    store.allocate(Dtype::f32, false);
    initialise(model.config(), store, 3);
  }
  std::vector<int32_t> generate(std::vector<int32_t> prompt, int64_t n,
                                const SamplingOptions& options, uint64_t seed = 5) {
    std::vector<int32_t> out;
    TokenSampler sampler(options, seed);
    ballast::generate(model, tape, prompt, n, sampler, [&](int32_t t) { out.push_back(t); });
    return out;
  }
  /// The most likely token after `text`, by a forward pass without a cache.
  int32_t next(std::span<const int32_t> text) {
    tape.set_recording(false);
    tape.reset();
    const Tensor logits = tape.value(
        model.last_logits(tape, {text.data(), 1, static_cast<int64_t>(text.size())}, {}));
    const auto* row = logits.data<float>();
    return static_cast<int32_t>(std::max_element(row, row + logits.size()) - row);
  }
};

constexpr SamplingOptions kGreedy{.temperature = 0.0};

}  // namespace

TEST_CASE("tokens are drawn with the probabilities of their logits", "[train][generate]") {
  const std::vector<float> logits = {0.0F, 1.0F, -2.0F, 0.5F, 0.5F};
  constexpr int kDraws = 40000;
  // 99.99 % points of chi-square with 4, 4, 2 and 1 degrees of freedom.
  struct Case {
    SamplingOptions options;
    std::vector<int> kept;
    double bound;
  };
  const std::vector<Case> cases = {
      {{}, {0, 1, 2, 3, 4}, 23.5},
      {{.temperature = 0.5}, {0, 1, 2, 3, 4}, 23.5},
      {{.top_k = 3}, {1, 3, 4}, 18.4},
      // e^1 / 7.15 = 0.380, and 0.231 with each of the next: two hold 0.6.
      {{.top_p = 0.6}, {1, 3}, 15.1},
      {{.temperature = 2.0, .top_k = 2}, {1, 3}, 15.1},
  };
  for (const Case& c : cases) {
    CAPTURE(c.options.temperature, c.options.top_k, c.options.top_p);
    std::vector<double> p(logits.size());
    double total = 0.0;
    for (const int i : c.kept) {
      p[static_cast<size_t>(i)] =
          std::exp(double{logits[static_cast<size_t>(i)]} / c.options.temperature);
      total += p[static_cast<size_t>(i)];
    }
    for (double& x : p) x /= total;
    CHECK(chi_square(counts(c.options, logits, kDraws), p, kDraws) < c.bound);
  }
}

TEST_CASE("temperature 0, top_k 1 and a tiny top_p all take the most likely token",
          "[train][generate]") {
  const std::vector<float> logits = {0.1F, 2.0F, -1.0F, 2.0F, 1.9F};  // of equals, the first
  for (const SamplingOptions options :
       {kGreedy, SamplingOptions{.top_k = 1}, SamplingOptions{.top_p = 1e-9},
        SamplingOptions{.temperature = 1e-300, .top_k = 1}}) {
    CHECK(counts(options, logits, 50)[1] == 50.0);
  }
}

TEST_CASE("one seed gives one sequence of draws", "[train][generate]") {
  const std::vector<float> logits(100, 0.0F);
  TokenSampler a({}, 1), b({}, 1), c({}, 2);
  bool differs = false;
  for (int i = 0; i < 50; ++i) {
    const int32_t token = a.draw(logits);
    CHECK(b.draw(logits) == token);
    differs = differs || c.draw(logits) != token;
  }
  CHECK(differs);
}

TEST_CASE("logits that are not finite are refused instead of sorted", "[train][generate]") {
  const float bad =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  const SamplingOptions options = GENERATE(kGreedy, SamplingOptions{});
  TokenSampler sampler(options, 1);
  CHECK_THROWS_AS(sampler.draw(std::vector<float>{0.0F, bad, 1.0F}), StabilityError);
}

TEST_CASE("sampling options out of range are refused", "[train][generate]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const SamplingOptions options :
       {SamplingOptions{.temperature = -1.0}, SamplingOptions{.temperature = nan},
        SamplingOptions{.top_k = -1}, SamplingOptions{.top_p = 0.0}, SamplingOptions{.top_p = 1.5},
        SamplingOptions{.top_p = nan}}) {
    CHECK_THROWS_AS(validate(options), ConfigError);
  }
  CHECK_NOTHROW(validate(SamplingOptions{}));
}

TEST_CASE("generation with a cache chooses what full passes choose", "[train][generate]") {
  const PositionKind position = GENERATE(PositionKind::rope, PositionKind::learned);
  TinyModel m(position);
  const std::vector<int32_t> prompt = {4, 9};
  std::vector<int32_t> text = prompt;
  const int64_t n = 6;  // fills the context
  for (int64_t i = 0; i < n; ++i) text.push_back(m.next(text));
  text.erase(text.begin(), text.begin() + 2);
  CHECK(m.generate(prompt, n, kGreedy) == text);
  CHECK(std::set<int32_t>(text.begin(), text.end()).size() > 1);
}

TEST_CASE("a full context goes on with the last half of its text", "[train][generate]") {
  TinyModel m(GENERATE(PositionKind::rope, PositionKind::learned));
  std::vector<int32_t> text = {1, 2, 3};
  std::vector<int32_t> context = text;
  for (int i = 0; i < 20; ++i) {
    if (context.size() > 8) context.assign(text.end() - 4, text.end());
    text.push_back(m.next(context));
    context.push_back(text.back());
  }
  CHECK(m.generate({1, 2, 3}, 20, kGreedy) == std::vector<int32_t>(text.begin() + 3, text.end()));
}

TEST_CASE("a prompt longer than the context loses its beginning", "[train][generate]") {
  TinyModel m(GENERATE(PositionKind::rope, PositionKind::learned));
  std::vector<int32_t> prompt = {7, 7, 7, 1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> cut(prompt.end() - 8, prompt.end());
  CHECK(m.generate(prompt, 9, kGreedy) == m.generate(cut, 9, kGreedy));
}

TEST_CASE("nothing is generated for no tokens, and a prompt is needed", "[train][generate]") {
  TinyModel m(PositionKind::rope);
  CHECK(m.generate({1}, 0, kGreedy).empty());
  CHECK_THROWS_AS(m.generate({}, 1, kGreedy), std::invalid_argument);
}

}  // namespace ballast
