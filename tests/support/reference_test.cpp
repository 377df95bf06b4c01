// The plain-maths twins against values known by hand: an oracle that is wrong convicts the
// innocent.
#include "tests/support/reference.h"

#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/random_tensor.h"

namespace ballast {

using reference::Values;

TEST_CASE("layer_norm's twin centres and scales by the biased variance", "[reference]") {
  // Row (1, 3): mean 2, biased variance 1. Row (0, 4): mean 2, variance 4.
  const Values y = reference::layer_norm({1, 3, 0, 4}, {2, 3}, {0.5, -0.5}, 2, 0.0);
  CHECK(y == Values{-1.5, 2.5, -1.5, 2.5});
  CHECK(reference::layer_norm({1, 3}, {2, 3}, {}, 2, 0.0, true) == Values{-3, 4});
  CHECK(reference::layer_norm({1, 3}, {}, {}, 2, 3.0) == Values{-0.5, 0.5});
}

TEST_CASE("rms_norm's twin keeps the mean", "[reference]") {
  // mean(x^2) = 4
  CHECK(reference::rms_norm({2, -2}, {3, 5}, 2, 0.0) == Values{3, -5});
  CHECK(reference::rms_norm({2, -2}, {3, 5}, 2, 0.0, true) == Values{4, -6});
  CHECK(reference::rms_norm({2, 2}, {}, 2, 12.0) == Values{0.5, 0.5});
}

TEST_CASE("scale_norm's twin divides by the length, but not by less than eps", "[reference]") {
  CHECK(reference::scale_norm({3, -4, 0.3, 0.4}, 10, 2, 1.0) == Values{6, -8, 3, 4});
}

TEST_CASE("dyt's twin squashes, scales and shifts", "[reference]") {
  const Values y = reference::dyt({1, -2}, 0.5, {2, 3}, {1, -1}, 2);
  CHECK(y[0] == Approx(2 * 0.46211715726000976 + 1).epsilon(1e-15));
  CHECK(y[1] == Approx(-3 * 0.7615941559557649 - 1).epsilon(1e-15));
  CHECK(reference::dyt({0}, 0.5, {}, {}, 1) == Values{0});
}

TEST_CASE("head_norm's twin leaves other columns alone", "[reference]") {
  // Two heads of two channels behind one column, one column after them.
  const Values x = {9, 2, -2, 3, 3, 8};
  CHECK(reference::head_norm(x, 6, 1, 2, 2, false, {1, 2}, {}, 0.0) == Values{9, 1, -2, 1, 2, 8});
  CHECK(reference::head_norm(x, 6, 1, 2, 2, false, {1, 2, 3, 4}, {}, 0.0) ==
        Values{9, 1, -2, 3, 4, 8});
  CHECK(reference::head_norm({1, 3}, 2, 0, 1, 2, true, {2, 2}, {1, 0}, 0.0) == Values{-1, 2});
}

TEST_CASE("T5's twin has the buckets of its paper's code", "[reference]") {
  // Their formula in float32, as the public code has it, for 32 buckets up to a distance of 128.
  const std::vector<std::pair<int64_t, int64_t>> known = {
      {0, 0},   {15, 15}, {16, 16}, {18, 16}, {19, 17},  {20, 17},  {21, 18},  {31, 21},
      {32, 21}, {46, 24}, {64, 26}, {90, 29}, {113, 31}, {128, 31}, {5000, 31}};
  for (const auto& [d, bucket] : known) {
    CAPTURE(d);
    CHECK(reference::t5_bucket(d, 32, 128) == bucket);
  }
}

TEST_CASE("activation twins take their known values", "[reference]") {
  CHECK(reference::activation(ActivationKind::relu, -2.0) == 0.0);
  CHECK(reference::activation(ActivationKind::relu, 2.0) == 2.0);
  // x Phi(x) with Phi(1) = 0.841344746068543, Phi(-1) = 0.158655253931457
  CHECK(reference::activation(ActivationKind::gelu, 1.0) ==
        Approx(0.841344746068543).epsilon(1e-14));
  CHECK(reference::activation(ActivationKind::gelu, -1.0) ==
        Approx(-0.158655253931457).epsilon(1e-14));
  // torch 2.13: F.gelu(±1, approximate="tanh") in float64
  CHECK(reference::activation(ActivationKind::gelu_tanh, 1.0) ==
        Approx(0.8411919906082768).epsilon(1e-14));
  CHECK(reference::activation(ActivationKind::gelu_tanh, -1.0) ==
        Approx(-0.1588080093917232).epsilon(1e-14));
  CHECK(reference::activation(ActivationKind::silu, 1.0) ==
        Approx(0.731058578630005).epsilon(1e-14));
  CHECK(reference::activation(ActivationKind::relu2, 3.0) == 9.0);
  CHECK(reference::activation(ActivationKind::relu2, -3.0) == 0.0);
  // 1/e - 1, times 1.0507009873554805 * 1.6732632423543772 for selu
  const auto takes = [](ActivationKind kind, double x, double y) {
    CHECK(reference::activation(kind, x) == Approx(y).epsilon(1e-14));
  };
  takes(ActivationKind::elu, -1.0, -0.632120558828557678);
  takes(ActivationKind::elu, 2.0, 2.0);
  takes(ActivationKind::selu, -1.0, -1.1113307378125625);
  takes(ActivationKind::selu, 2.0, 2.101401974710961);
  takes(ActivationKind::softplus, 1.0, 1.313261687518222834);
  takes(ActivationKind::softplus, 100.0, 100.0);
  takes(ActivationKind::sigmoid, 1.0, 0.731058578630004879);
  takes(ActivationKind::tanh, 1.0, 0.761594155955764888);
  // tanh(ln(1 + e)) = ((1 + e)^2 - 1) / ((1 + e)^2 + 1)
  takes(ActivationKind::mish, 1.0, 0.8650983882673103);
  takes(ActivationKind::softsign, -3.0, -0.75);
  takes(ActivationKind::identity, -3.0, -3.0);
  CHECK(reference::glu_joined(ActivationKind::relu, {1, -1, 5, 6}, 2) == Values{5, 0});
}

TEST_CASE("linear's twin multiplies by rows of the weight", "[reference]") {
  CHECK(reference::linear({1, 2}, {3, 4, 5, 6, 7, 8}, {0, 0, 1}, 2, 3) == Values{11, 17, 24});
  CHECK(reference::embedding({2, 0}, {0, 1, 2, 3, 4, 5}, 2) == Values{4, 5, 0, 1});
}

TEST_CASE("rope's twin rotates the pairs of its layout and leaves the rest", "[reference]") {
  const double c0 = std::cos(1.0), s0 = std::sin(1.0);    // pair 0: angle 1
  const double c1 = std::cos(0.01), s1 = std::sin(0.01);  // pair 1: 10000^(-2/4)
  const Values x = {1, 2, 3, 4, 9};
  const Values half = reference::rope(x, 1, 1, 1, 5, 4, 1e4, RopeLayout::half, 1);
  CHECK(half[0] == Approx(1 * c0 - 3 * s0).epsilon(1e-15));
  CHECK(half[2] == Approx(1 * s0 + 3 * c0).epsilon(1e-15));
  CHECK(half[1] == Approx(2 * c1 - 4 * s1).epsilon(1e-15));
  CHECK(half[3] == Approx(2 * s1 + 4 * c1).epsilon(1e-15));
  CHECK(half[4] == 9);
  const Values interleaved = reference::rope(x, 1, 1, 1, 5, 4, 1e4, RopeLayout::interleaved, 1);
  CHECK(interleaved[0] == Approx(1 * c0 - 2 * s0).epsilon(1e-15));
  CHECK(interleaved[1] == Approx(1 * s0 + 2 * c0).epsilon(1e-15));
  CHECK(interleaved[2] == Approx(3 * c1 - 4 * s1).epsilon(1e-15));
  CHECK(interleaved[3] == Approx(3 * s1 + 4 * c1).epsilon(1e-15));
}

TEST_CASE("attention's twin shares key heads by floor(h K / H) and sees no later key",
          "[reference]") {
  // Zero queries weigh all visible keys alike: o is the running mean of the head's values.
  const reference::AttentionSizes sizes{.B = 1, .T = 2, .H = 4, .K = 2, .D = 1};
  const auto result =
      reference::causal_attention(Values(8, 0.0), Values(4, 5.0), {1, 10, 3, 30}, sizes, 1.0);
  CHECK(result.o_BTHD == Values{1, 1, 10, 10, 2, 2, 20, 20});
  CHECK(result.lse_BHT[0] == 0.0);
  CHECK(result.lse_BHT[1] == Approx(std::log(2.0)).epsilon(1e-15));
}

TEST_CASE("attention's twin weighs keys by exp(scale q·k)", "[reference]") {
  const reference::AttentionSizes sizes{.B = 1, .T = 1, .H = 1, .K = 1, .D = 2, .offset = 1};
  const auto result = reference::causal_attention({1, 2}, {1, 0, 0, 1}, {1, 0, 0, 1}, sizes, 0.5);
  const double a = std::exp(0.5), b = std::exp(1.0);
  CHECK(result.o_BTHD[0] == Approx(a / (a + b)).epsilon(1e-15));
  CHECK(result.o_BTHD[1] == Approx(b / (a + b)).epsilon(1e-15));
  CHECK(result.lse_BHT[0] == Approx(std::log(a + b)).epsilon(1e-15));
}

TEST_CASE("cross_entropy's twin leaves rows with target -1 out of both means", "[reference]") {
  const Values logits = {0, std::log(3.0), 100, -100, 0, 0};
  const auto loss = reference::cross_entropy(logits, {1, -1, 0}, 2, 0.1);
  const double lse0 = std::log(4.0), lse2 = std::log(2.0);
  CHECK(loss.ce == Approx((lse0 - std::log(3.0) + lse2) / 2).epsilon(1e-15));
  CHECK(loss.z == Approx(0.1 * (lse0 * lse0 + lse2 * lse2) / 2).epsilon(1e-15));
  CHECK(reference::cross_entropy(logits, {-1, -1, -1}, 2, 0.1).total() == 0.0);
}

TEST_CASE("the schedules' twin passes through its corners", "[reference]") {
  OptimConfig config;
  config.lr = 1.0;
  config.schedule = {ScheduleKind::cosine, 4, 0.1, {}};
  CHECK(reference::schedule_lr(config, 24, 0) == 0.25);
  CHECK(reference::schedule_lr(config, 24, 3) == 1.0);
  CHECK(reference::schedule_lr(config, 24, 4) == 1.0);
  CHECK(reference::schedule_lr(config, 24, 14) == Approx(0.55).epsilon(1e-15));
  CHECK(reference::schedule_lr(config, 24, 24) == Approx(0.1).epsilon(1e-15));
  config.schedule.kind = ScheduleKind::linear;
  CHECK(reference::schedule_lr(config, 24, 9) == Approx(0.775).epsilon(1e-15));
  config.schedule.kind = ScheduleKind::wsd;  // the last 20 % of 20 steps: 16 … 19
  CHECK(reference::schedule_lr(config, 20, 16) == 1.0);
  CHECK(reference::schedule_lr(config, 20, 18) == Approx(0.55).epsilon(1e-15));
  config.schedule.kind = ScheduleKind::inv_sqrt;
  CHECK(reference::schedule_lr(config, 20, 15) == 0.5);
  config.schedule.kind = ScheduleKind::constant;
  CHECK(reference::schedule_lr(config, 20, 19) == 1.0);
}

TEST_CASE("AdamW's twin moves by lr at the first step, and decays in the form asked for",
          "[reference]") {
  OptimConfig config;
  config.lr = 0.5;
  config.eps = 0.0;
  config.weight_decay = 0.1;
  // m̂ / sqrt(v̂) of the first step is the gradient's sign, whatever the betas.
  reference::AdamWState coupled({2.0}), independent({2.0}), exempt({2.0});
  reference::adamw_step(coupled, {-3.0}, config, 0.25, 0, true);
  CHECK(coupled.w[0] == Approx(2.0 + 0.25 - 0.25 * 0.1 * 2.0).epsilon(1e-14));
  reference::adamw_step(exempt, {-3.0}, config, 0.25, 0, false);
  CHECK(exempt.w[0] == Approx(2.25).epsilon(1e-14));
  config.decay = DecayForm::independent;
  reference::adamw_step(independent, {-3.0}, config, 0.25, 0, true);
  CHECK(independent.w[0] == Approx(2.0 + 0.25 - 0.5 * 0.1 * 2.0).epsilon(1e-14));
}

TEST_CASE("seeded values repeat and have the moments asked for", "[support]") {
  RandomValues random(5), again(5);
  const auto values = random.normal_vector(20000, 1.0, 2.0);
  CHECK(values == again.normal_vector(20000, 1.0, 2.0));
  double mean = 0.0, square = 0.0;
  for (const double value : values) mean += value / 20000.0;
  for (const double value : values) square += (value - mean) * (value - mean) / 20000.0;
  CHECK(std::abs(mean - 1.0) < 4.0 * 2.0 / std::sqrt(20000.0));  // four standard errors
  CHECK(std::abs(square - 4.0) < 4.0 * 4.0 * std::sqrt(2.0 / 20000.0));
}

}  // namespace ballast
