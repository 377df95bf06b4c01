#include <cmath>
#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

namespace {
constexpr int32_t kTargets[] = {3, 0, -1, 6, 6, 2};
}

void add_loss_cases(GradcheckCases& cases) {
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
