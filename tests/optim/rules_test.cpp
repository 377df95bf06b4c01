// Every optimiser against its textbook loop, and what all of them owe the training loop.
#include <algorithm>
#include <cmath>
#include <limits>

#include "optim/optimizer.h"
#include "tests/optim/support.h"
#include "tests/support/catch.h"

namespace ballast {

namespace {

using test::copy;
using test::fill;
using test::Scalar;
using test::ThreadCount;

// The formulas of the headers, element by element, as a textbook writes them.
struct Reference {
  double w, m = 0.0, v = 0.0;
  bool undecided = false;  // lion took the sign of a number that rounding could turn

  void step(const OptimConfig& c, int64_t t, double g, double lr, bool decays) {
    const double wd = decays ? c.weight_decay : 0.0;
    const double decoupled = c.decay == DecayForm::coupled ? lr * wd * w : lr / c.lr * wd * w;
    const auto [b1, b2] = c.betas;
    switch (c.kind) {
      case OptimizerKind::adamw:
        w -= lr * adam(c, t, g) + decoupled;
        return;
      case OptimizerKind::adam:
        w -= lr * adam(c, t, g + wd * w);
        return;
      case OptimizerKind::sgd:
        m = b1 * m + g + wd * w;
        w -= lr * m;
        return;
      case OptimizerKind::lion: {
        const double mean = b1 * m + (1 - b1) * g;
        m = b2 * m + (1 - b2) * g;
        undecided = undecided || std::abs(mean) < 1e-9;
        w -= lr * (mean == 0.0 ? 0.0 : std::copysign(1.0, mean)) + decoupled;
        return;
      }
    }
  }

 private:
  double adam(const OptimConfig& c, int64_t t, double g) {
    m = c.betas[0] * m + (1 - c.betas[0]) * g;
    v = c.betas[1] * v + (1 - c.betas[1]) * g * g;
    const double m_hat = m / (1 - std::pow(c.betas[0], static_cast<double>(t)));
    const double v_hat = v / (1 - std::pow(c.betas[1], static_cast<double>(t)));
    return m_hat / (std::sqrt(v_hat) + c.eps);
  }
};

OptimConfig config_of(OptimizerKind kind) {
  OptimConfig c;
  c.kind = kind;
  return c;
}

// A kind of the table; the test case runs once for each.
OptimizerKind any_kind() {
  const auto rows = variant_rows<OptimizerKind>();
  const size_t i = GENERATE_COPY(range(size_t{0}, rows.size()));
  UNSCOPED_INFO("optim.kind: " << std::string(rows[i].name));
  return rows[i].kind;
}

struct Run {
  std::vector<float> values, state;
  std::vector<double> updates, weights;
  double global;
};

Run run_with(OptimizerKind kind, int threads) {
  const ThreadCount count(threads);
  ParameterStore store;
  test::declare(store, Dtype::f32);
  const auto optimizer = make_optimizer(config_of(kind), store);
  for (const Parameter& p : store.parameters()) fill<float>(p.value, 0.02, p.begin);
  UpdateNorms norms;
  for (int64_t s = 0; s < 3; ++s) {
    for (const Parameter& p : store.parameters()) fill<float>(p.grad, 1e-3, p.begin + s + 1);
    optimizer->step(1e-3, 0.7, &norms);
  }
  Run run{copy<float>(store.values()), {}, norms.update, norms.weight, norms.global};
  for (const StateTensor& s : optimizer->state()) {
    const std::vector<float> values = copy<float>(s.value);
    run.state.insert(run.state.end(), values.begin(), values.end());
  }
  return run;
}

}  // namespace

TEST_CASE("adam adds the decay to the gradient, as PyTorch does", "[optim][adam]") {
  OptimConfig c = config_of(OptimizerKind::adam);
  c.betas = {0.5, 0.75};
  c.eps = 1.0;
  c.weight_decay = 0.5;
  Scalar one(c);
  one.w() = 2.0;
  // t=1: g = 3 + 1 = 4; m = 2, v = 4; m_hat = 4, v_hat = 16; d = 4/5.      w = 2 - 0.5 * 0.8 = 1.6
  CHECK(one.step(3.0, 0.5) == Approx(1.6).epsilon(1e-15));
  // t=2: g = -0.8 + 0.8 = 0: the decay has gone through the moments.  m = 1, v = 3.
  const double d = (4.0 / 3.0) / (std::sqrt(48.0 / 7.0) + 1.0);
  CHECK(one.step(-0.8, 0.5) == Approx(1.6 - 0.5 * d).epsilon(1e-15));
}

TEST_CASE("adam without decay is adamw without decay, to the bit", "[optim][adam]") {
  OptimConfig c;
  c.weight_decay = 0.0;
  Scalar adamw(c);
  c.kind = OptimizerKind::adam;
  Scalar adam(c);
  adamw.w() = adam.w() = 0.7;
  for (int64_t s = 0; s < 20; ++s) {
    const double g = test::scattered(s);
    CHECK(adam.step(g, 1e-2) == adamw.step(g, 1e-2));
  }
}

TEST_CASE("sgd's momentum is a sum whose first term is the gradient", "[optim][sgd]") {
  OptimConfig c = config_of(OptimizerKind::sgd);
  c.betas[0] = 0.5;
  c.weight_decay = 0.25;
  Scalar one(c);
  one.w() = 2.0;
  CHECK(one.step(3.5, 0.25) == 1.0);     // m = 3.5 + 0.5 = 4
  CHECK(one.step(-0.25, 0.25) == 0.5);   // m = 2 - 0.25 + 0.25
  CHECK(one.step(-1.125, 0.25) == 0.5);  // m = 1 - 1.125 + 0.125
  OptimConfig plain = config_of(OptimizerKind::sgd);
  plain.betas[0] = 0.0;
  plain.weight_decay = 0.0;
  Scalar without(plain);
  CHECK(without.step(3.0, 0.5) == -1.5);
  CHECK(without.step(1.0, 0.5) == -2.0);  // nothing is remembered
}

TEST_CASE("lion moves by lr whatever the gradient's size, and not at all at 0", "[optim][lion]") {
  OptimConfig c = config_of(OptimizerKind::lion);
  c.betas = {0.5, 0.75};
  c.weight_decay = 0.5;
  Scalar one(c);
  one.w() = 2.0;
  CHECK(one.step(1e-9, 0.25) == 1.5);     // sign 1: 2 - 0.25 (1 + 0.5 * 2)
  CHECK(one.step(-4e6, 0.25) == 1.5625);  // sign -1: 1.5 - 0.25 (-1 + 0.75)
  Scalar still(c);
  still.w() = 1.0;
  CHECK(still.step(0.0, 0.25) == 0.875);  // decay alone
}

TEST_CASE("lion decides by betas[0] and remembers by betas[1]", "[optim][lion]") {
  OptimConfig c = config_of(OptimizerKind::lion);
  c.betas = {0.5, 0.75};
  c.weight_decay = 0.0;
  Scalar one(c);
  CHECK(one.step(4.0, 1.0) == -1.0);   // m = 1
  CHECK(one.step(-2.0, 1.0) == 0.0);   // 0.5 - 1 < 0; m = 0.75 - 0.5 = 0.25
  CHECK(one.step(-0.2, 1.0) == -1.0);  // 0.125 - 0.1 > 0
  c.betas = {0.9, 0.75};
  Scalar other(c);
  CHECK(other.step(4.0, 1.0) == -1.0);
  CHECK(other.step(-2.0, 1.0) == -2.0);  // 0.9 - 0.2 > 0
}

TEST_CASE("independent decay reaches the decoupled kinds and no other", "[optim]") {
  const OptimizerKind kind = any_kind();
  OptimConfig c = config_of(kind);
  c.lr = 1e-3;
  c.weight_decay = 0.25;
  Scalar coupled(c);
  c.decay = DecayForm::independent;
  Scalar independent(c);
  coupled.w() = independent.w() = 1.0;
  coupled.step(0.0, 5e-4);
  independent.step(0.0, 5e-4);
  if (traits_of(kind).decoupled_decay) {
    CHECK(coupled.w() == Approx(1.0 - 5e-4 * 0.25).epsilon(1e-15));
    CHECK(independent.w() == Approx(1.0 - 0.5 * 0.25).epsilon(1e-15));
  } else {
    CHECK(coupled.w() < 1.0);
    CHECK(coupled.w() == independent.w());
  }
}

TEMPLATE_TEST_CASE("each optimiser follows the textbook's loop over every parameter", "[optim]",
                   float, double) {
  OptimConfig c = config_of(any_kind());
  c.decay = GENERATE(DecayForm::coupled, DecayForm::independent);
  c.lr = 1e-2;
  // Where g + wd w cancels, adam with a small eps would divide rounding by rounding.
  c.eps = 1e-4;
  c.no_decay = {DecayGroup::norm, DecayGroup::embedding};
  ParameterStore store;
  test::declare(store, dtype_of<TestType>());
  const std::unique_ptr<Optimizer> optimizer = make_optimizer(c, store);
  std::vector<std::vector<Reference>> references;
  for (const Parameter& p : store.parameters()) {
    fill<TestType>(p.value, 0.02, p.begin);
    std::vector<Reference>& reference = references.emplace_back();
    for (const TestType w : copy<TestType>(p.value)) reference.push_back({static_cast<double>(w)});
  }
  const double scale = 0.37;
  for (int64_t t = 1; t <= 10; ++t) {
    const double lr = c.lr * static_cast<double>(t) / 10.0;
    for (size_t i = 0; i < references.size(); ++i) {
      const Parameter& p = store.parameters()[i];
      fill<TestType>(p.grad, 1e-3, p.begin + t);
      const bool decays = p.role == Role::linear || p.role == Role::head || p.role == Role::bias;
      const TestType* g = p.grad.data<TestType>();
      for (Reference& r : references[i]) {
        r.step(c, t, scale * static_cast<double>(*g++), lr, decays);
      }
    }
    optimizer->step(lr, scale);
  }
  // Each of ten steps rounds the weight (at most 0.09 in size) and an update of at most about
  // 3 lr = 0.03 built from a dozen roundings: 10 (0.09 / 2 + 12 * 0.03) ulp, at most 5 units.
  const double tolerance = 5.0 * static_cast<double>(std::numeric_limits<TestType>::epsilon());
  double worst = 0.0;
  int64_t n_undecided = 0;
  for (size_t i = 0; i < references.size(); ++i) {
    const std::vector<TestType> values = copy<TestType>(store.parameters()[i].value);
    for (size_t k = 0; k < values.size(); ++k) {
      const Reference& r = references[i][k];
      n_undecided += r.undecided ? 1 : 0;
      if (r.undecided) continue;
      worst = std::max(worst, std::abs(static_cast<double>(values[k]) - r.w));
    }
  }
  CHECK(worst < tolerance);
  CHECK(n_undecided < 100);  // of 10^6 signs; numbers are about 10^-4 in size
}

TEST_CASE("updates and their norms have the same bits for every number of threads", "[optim]") {
  const OptimizerKind kind = any_kind();
  const Run one = run_with(kind, 1);
  for (const int threads : {2, 3, 4}) {
    const Run many = run_with(kind, threads);
    CHECK(many.values == one.values);
    CHECK(many.state == one.state);
    CHECK(many.updates == one.updates);
    CHECK(many.weights == one.weights);
    CHECK(many.global == one.global);
  }
}

TEMPLATE_TEST_CASE("each optimiser reports the norms of what it changed", "[optim]", float,
                   double) {
  const OptimConfig c = config_of(any_kind());
  ParameterStore store;
  test::declare(store, dtype_of<TestType>());
  const std::unique_ptr<Optimizer> optimizer = make_optimizer(c, store);
  for (const Parameter& p : store.parameters()) {
    fill<TestType>(p.value, 0.02, p.begin);
    fill<TestType>(p.grad, 1.0, p.begin + 1);
  }
  const std::vector<TestType> before = copy<TestType>(store.values());
  UpdateNorms norms;
  optimizer->step(3e-3, 1.0, &norms);
  const std::vector<TestType> after = copy<TestType>(store.values());
  long double global = 0.0L;
  for (size_t i = 0; i < store.parameters().size(); ++i) {
    const Parameter& p = store.parameters()[i];
    CAPTURE(p.name);
    long double update = 0.0L;
    long double weight = 0.0L;
    for (auto k = static_cast<size_t>(p.begin); k < static_cast<size_t>(p.begin + p.shape.size());
         ++k) {
      const long double change = static_cast<long double>(after[k]) - before[k];
      update += change * change;
      weight += static_cast<long double>(before[k]) * before[k];
    }
    global += update;
    // The change is formed in TestType, which rounds it by half a unit of its own at the most.
    const double epsilon = static_cast<double>(std::numeric_limits<TestType>::epsilon()) + 1e-13;
    CHECK(norms.update[i] == Approx(static_cast<double>(std::sqrt(update))).epsilon(epsilon));
    CHECK(norms.weight[i] == Approx(static_cast<double>(std::sqrt(weight))).epsilon(1e-13));
  }
  CHECK(norms.global == Approx(static_cast<double>(std::sqrt(global))).epsilon(1e-7));
}

TEST_CASE("measuring norms does not change the update", "[optim]") {
  const OptimConfig c = config_of(any_kind());
  std::vector<float> results[2];
  for (const bool measured : {false, true}) {
    ParameterStore store;
    test::declare(store, Dtype::f32);
    const auto optimizer = make_optimizer(c, store);
    UpdateNorms norms;
    for (int64_t s = 0; s < 2; ++s) {
      for (const Parameter& p : store.parameters()) fill<float>(p.grad, 0.1, p.begin + s);
      optimizer->step(1e-3, 0.5, measured ? &norms : nullptr);
    }
    results[measured ? 1 : 0] = copy<float>(store.values());
  }
  CHECK(results[0] == results[1]);
}

TEST_CASE("an optimiser restarted from its state and step count makes the same updates",
          "[optim]") {
  const OptimConfig c = config_of(any_kind());
  const auto make = [&](ParameterStore& store) {
    test::declare(store, Dtype::f32);
    for (const Parameter& p : store.parameters()) fill<float>(p.value, 0.02, p.begin);
    return make_optimizer(c, store);
  };
  const auto step = [](ParameterStore& store, Optimizer& optimizer, int64_t s) {
    for (const Parameter& p : store.parameters()) fill<float>(p.grad, 0.1, p.begin + s);
    optimizer.step(1e-3);
  };
  ParameterStore straight_store, first_store, second_store;
  const auto straight = make(straight_store);
  const auto first = make(first_store);
  const auto second = make(second_store);
  for (int64_t s = 0; s < 6; ++s) step(straight_store, *straight, s);
  for (int64_t s = 0; s < 3; ++s) step(first_store, *first, s);
  const std::vector<StateTensor> from = first->state();
  const std::vector<StateTensor> to = second->state();
  const size_t n_moments = traits_of(c.kind).n_moments();
  REQUIRE(from.size() == n_moments * first_store.parameters().size());
  const bool is_sgd =
      c.kind == OptimizerKind::sgd;  // a sum, which none of the means can go on from
  CHECK(from.front().name == concat(is_sgd ? "momentum" : "m", ".embedding.weight"));
  CHECK(from.back().name == (n_moments == 2 ? "v.head.weight"
                             : is_sgd       ? "momentum.head.weight"
                                            : "m.head.weight"));
  for (size_t i = 0; i < from.size(); ++i) {
    CHECK(to[i].name == from[i].name);
    CHECK(to[i].value.shape ==
          first_store.find(from[i].name.substr(from[i].name.find('.') + 1))->shape);
    std::copy_n(from[i].value.data<float>(), from[i].value.size(), to[i].value.data<float>());
  }
  for (size_t i = 0; i < first_store.parameters().size(); ++i) {
    const Tensor& value = first_store.parameters()[i].value;
    std::copy_n(value.data<float>(), value.size(),
                second_store.parameters()[i].value.data<float>());
  }
  second->set_steps(first->steps());
  for (int64_t s = 3; s < 6; ++s) step(second_store, *second, s);
  CHECK(copy<float>(second_store.values()) == copy<float>(straight_store.values()));
}

TEST_CASE("an optimiser needs gradients", "[optim]") {
  const OptimConfig c = config_of(any_kind());
  ParameterStore store;
  store.add("w", {1}, Role::linear);
  store.allocate(Dtype::f32, false);
  CHECK_THROWS_WITH(
      make_optimizer(c, store),
      concat("[", name_of(c.kind), "] the parameters were allocated without gradients"));
}

}  // namespace ballast
