#include <cmath>
#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"
#include "tests/support/reference.h"

namespace ballast::test {

namespace {
constexpr int32_t kTargets[] = {3, 0, -1, 6, 6, 2};
}

namespace {
void add_mapped_loss_cases(GradcheckCases& cases);
}

void add_loss_cases(GradcheckCases& cases) {
  add_mapped_loss_cases(cases);
  for (const double z_loss : {0.0, 0.1}) {
    for (const bool has_bias : {false, true}) {
      cases.push_back({concat("lm_head_loss z_loss ", z_loss, has_bias ? " with bias" : ""),
                       [=](ParameterStore& s) {
                         s.add("h", Shape{2, 3, 4}, Role::linear);
                         s.add("weight", Shape{7, 4}, Role::head);
                         if (has_bias) s.add("bias", Shape{7}, Role::bias);
                       },
                       [=](Tape& tape, ParameterStore& s) {
                         // Something below the head, so that dh is handed over to a node.
                         const Var h =
                             activation(tape, parameter(tape, s, "h"), ActivationKind::silu);
                         return lm_head_loss(tape, h, parameter(tape, s, "weight"),
                                             has_bias ? parameter(tape, s, "bias") : Var{},
                                             kTargets, {.z_loss = z_loss, .denominator = 5})
                             .total;
                       }});
    }
  }
}

namespace {

// The three ways a logit is changed, each with and without the z-loss.
void add_mapped_loss_cases(GradcheckCases& cases) {
  const struct { double scale, cap; } maps[] = {{0.7, 0.0}, {1.0, 2.0}, {1.5, 2.0}};
  for (const auto& [scale, cap] : maps) {
    for (const double z_loss : {0.0, 0.1}) {
      cases.push_back(
          {concat("lm_head_loss scale ", scale, " cap ", cap, " z_loss ", z_loss),
           [](ParameterStore& s) {
             s.add("h", Shape{2, 3, 4}, Role::linear);
             s.add("weight", Shape{7, 4}, Role::head);
             s.add("bias", Shape{7}, Role::bias);
           },
           [=, scale = scale, cap = cap](Tape& tape, ParameterStore& s) {
             return lm_head_loss(
                        tape, parameter(tape, s, "h"), parameter(tape, s, "weight"),
                        parameter(tape, s, "bias"), kTargets,
                        {.z_loss = z_loss, .denominator = 5, .logit_scale = scale, .softcap = cap})
                 .total;
           }});
    }
  }
}

}  // namespace

TEST_CASE("the loss of scaled and capped logits is that of the logits made step by step",
          "[autograd][lm_head_loss]") {
  const double scale = GENERATE(1.0, 0.25, 3.0);
  const double cap = GENERATE(0.0, 1.5);
  ParameterStore store;
  store.add("h", Shape{2, 3, 4}, Role::linear);
  store.add("weight", Shape{7, 4}, Role::head);
  store.add("bias", Shape{7}, Role::bias);
  store.allocate(Dtype::f64);
  fill_normal(store, 9);
  const auto values = [&](const char* name) {
    const Tensor v = store.find(name)->value;
    return reference::Values(v.data<double>(), v.data<double>() + v.size());
  };
  const reference::Values logits = reference::softcap(
      reference::linear(values("h"), values("weight"), values("bias"), 4, 7), cap, scale);
  const reference::Loss expected =
      reference::cross_entropy(logits, {kTargets, kTargets + 6}, 7, 0.1);
  Tape tape(Dtype::f64);
  tape.set_recording(GENERATE(false, true));
  const LmLoss loss =
      lm_head_loss(tape, parameter(tape, store, "h"), parameter(tape, store, "weight"),
                   parameter(tape, store, "bias"), kTargets,
                   {.z_loss = 0.1, .denominator = 5, .logit_scale = scale, .softcap = cap});
  CHECK(loss.stats->ce == Approx(expected.ce).epsilon(1e-13));
  CHECK(loss.stats->z == Approx(expected.z).epsilon(1e-13));
  double largest = -1e30, lse = 0.0;
  for (int64_t row = 0; row < 6; ++row) {
    if (kTargets[row] < 0) continue;
    lse += expected.lse_N[static_cast<size_t>(row)] / 5.0;
    for (int64_t v = 0; v < 7; ++v)
      largest = std::max(largest, logits[static_cast<size_t>(row * 7 + v)]);
  }
  CHECK(loss.stats->max_logit == Approx(largest).epsilon(1e-14));
  CHECK(loss.stats->lse_mean == Approx(lse).epsilon(1e-13));
}

TEST_CASE("the loss refuses a negative softcap", "[autograd][lm_head_loss]") {
  ParameterStore store;
  Parameter& w = store.add("w", Shape{7, 4}, Role::head);
  store.allocate(Dtype::f32);
  std::vector<float> h(24, 1.0F);
  Tape tape;
  CHECK_THROWS_WITH(
      lm_head_loss(tape, tape.constant({h.data(), Shape{2, 3, 4}, Dtype::f32}),
                   tape.parameter(store, w), {}, kTargets, {.denominator = 5, .softcap = -1.0}),
      ContainsSubstring("[lm_head_loss] softcap is -1"));
}

TEST_CASE("the loss of equal logits is ln V, and z is the mean square of lse",
          "[autograd][lm_head_loss]") {
  ParameterStore store;
  Parameter& w = store.add("w", Shape{7, 4}, Role::head);
  store.allocate(Dtype::f64);
  std::vector<double> h(24, 1.0);
  Tape tape(Dtype::f64);
  const LmLoss loss =
      lm_head_loss(tape, tape.constant({h.data(), Shape{2, 3, 4}, Dtype::f64}),
                   tape.parameter(store, w), {}, kTargets, {.z_loss = 0.5, .denominator = 5});
  CHECK(loss.stats->ce == Approx(std::log(7.0)));
  CHECK(loss.stats->z == Approx(0.5 * std::log(7.0) * std::log(7.0)));
  CHECK(loss.stats->n_targets == 5);
  CHECK(*tape.value(loss.total).data<double>() == Approx(loss.stats->ce + loss.stats->z));
}

TEST_CASE("many chunks of logits give the sums of one", "[autograd][lm_head_loss]") {
  // 200 rows of 20000 float64 logits are 32 MB: several chunks; each part alone is one.
  constexpr int64_t kRows = 200, kV = 20000, kC = 3;
  ParameterStore store;
  Parameter& w = store.add("w", Shape{kV, kC}, Role::head);
  store.allocate(Dtype::f64);
  fill_normal(store, 5);
  std::vector<double> h(kRows * kC);
  std::vector<int32_t> targets(kRows);
  RandomStream random(1, 2);
  for (double& v : h) v = random.normal();
  for (int32_t& t : targets) t = static_cast<int32_t>(random.below(kV));
  const auto run_rows = [&](int64_t begin, int64_t n) {
    Tape tape(Dtype::f64);
    const LmLoss loss =
        lm_head_loss(tape, tape.constant({h.data() + begin * kC, Shape{1, n, kC}, Dtype::f64}),
                     tape.parameter(store, w), {}, targets.data() + begin, {.denominator = kRows});
    tape.backward(loss.total);
    return loss.stats->ce;
  };
  store.begin_gradients();
  double parts = 0.0;
  for (int64_t i = 0; i < kRows; i += 40) parts += run_rows(i, 40);
  const std::vector<double> sum(w.grad.data<double>(), w.grad.data<double>() + kV * kC);
  store.begin_gradients();
  CHECK(run_rows(0, kRows) == Approx(parts).epsilon(1e-12));
  double worst = 0.0;
  for (size_t i = 0; i < sum.size(); ++i)
    worst = std::max(worst, std::abs(sum[i] - w.grad.data<double>()[i]));
  CHECK(worst < 1e-14);
}

TEST_CASE("the loss refuses a target outside the vocabulary", "[autograd][lm_head_loss]") {
  ParameterStore store;
  Parameter& w = store.add("w", Shape{5, 4}, Role::head);
  store.allocate(Dtype::f32);
  std::vector<float> h(24, 1.0F);
  Tape tape;
  CHECK_THROWS_WITH(lm_head_loss(tape, tape.constant({h.data(), Shape{2, 3, 4}, Dtype::f32}),
                                 tape.parameter(store, w), {}, kTargets, {.denominator = 5}),
                    ContainsSubstring("target 6 at row 3"));
}

TEST_CASE("the loss refuses what its gradients, computed ahead, cannot answer",
          "[autograd][lm_head_loss]") {
  ParameterStore store;
  store.add("h", Shape{1, 2, 3}, Role::linear);
  store.add("w", Shape{5, 3}, Role::head);
  store.allocate(Dtype::f64);
  fill_normal(store, 4);
  const int32_t targets[] = {1, 4};
  Tape tape(Dtype::f64);
  const auto loss = [&] {
    tape.reset();
    return lm_head_loss(tape, parameter(tape, store, "h"), parameter(tape, store, "w"), {}, targets,
                        {.denominator = 2})
        .total;
  };
  const double half = 0.5;
  CHECK_THROWS_WITH(tape.backward(weighted_sum(tape, loss(), &half)),
                    ContainsSubstring("[lm_head_loss] is differentiated with weight 0.5"));
  const Var once = loss();
  tape.backward(once);
  CHECK_THROWS_WITH(tape.backward(once),
                    ContainsSubstring("[lm_head_loss] is differentiated twice"));
}

}  // namespace ballast::test
