#include "optim/adamw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/optim/support.h"
#include "tests/support/catch.h"

namespace ballast {

namespace {

using test::copy;
using test::fill;
using test::ThreadCount;

// One weight, to compare with arithmetic by hand.
struct Scalar {
  explicit Scalar(OptimConfig c, Role role = Role::linear) {
    store.add("w", {1}, role);
    store.allocate(Dtype::f64);
    optimizer = make_optimizer(c, store);
  }
  double step(double gradient, double lr, double scale = 1.0) {
    store.gradients().data<double>()[0] = gradient;
    optimizer->step(lr, scale);
    return w();
  }
  double& w() { return store.values().data<double>()[0]; }

  ParameterStore store;
  std::unique_ptr<Optimizer> optimizer;
};

// The formulas of the header, element by element, as a textbook writes them.
struct Reference {
  double w, m = 0.0, v = 0.0;
  void step(const OptimConfig& c, int64_t t, double g, double lr, bool decays) {
    m = c.betas[0] * m + (1 - c.betas[0]) * g;
    v = c.betas[1] * v + (1 - c.betas[1]) * g * g;
    const double m_hat = m / (1 - std::pow(c.betas[0], static_cast<double>(t)));
    const double v_hat = v / (1 - std::pow(c.betas[1], static_cast<double>(t)));
    const double direction = m_hat / (std::sqrt(v_hat) + c.eps);
    const double wd = decays ? c.weight_decay : 0.0;
    if (c.decay == DecayForm::coupled) {
      w -= lr * (direction + wd * w);
    } else {
      w -= lr / c.lr * (c.lr * direction + wd * w);
    }
  }
};

struct Run {
  std::vector<float> values, m, v;
  std::vector<double> updates, weights;
  double global;
};

Run run_with(int threads) {
  const ThreadCount count(threads);
  ParameterStore store;
  test::declare(store, Dtype::f32);
  AdamW optimizer(OptimConfig{}, store);
  for (const Parameter& p : store.parameters()) fill<float>(p.value, 0.02, p.begin);
  UpdateNorms norms;
  for (int64_t s = 0; s < 3; ++s) {
    for (const Parameter& p : store.parameters()) fill<float>(p.grad, 1e-3, p.begin + s + 1);
    optimizer.step(1e-3, 0.7, &norms);
  }
  Run run{copy<float>(store.values()), {}, {}, norms.update, norms.weight, norms.global};
  for (const StateTensor& s : optimizer.state()) {
    const std::vector<float> values = copy<float>(s.value);
    std::vector<float>& all = s.name[0] == 'm' ? run.m : run.v;
    all.insert(all.end(), values.begin(), values.end());
  }
  return run;
}

}  // namespace

TEST_CASE("the first update of adamw is lr * sign(g), whatever the size of g", "[optim][adamw]") {
  OptimConfig c;
  c.weight_decay = 0.0;
  c.eps = 1e-30;
  const double g = GENERATE(1e-6, 0.5, -3.0, 1e6);
  Scalar one(c);
  one.w() = 0.25;
  // m_hat = g, v_hat = g^2: the quotient is the sign.
  CHECK(one.step(g, 0.01) == Approx(0.25 - std::copysign(0.01, g)).epsilon(1e-14));
}

TEST_CASE("adamw's first two updates agree with arithmetic by hand", "[optim][adamw]") {
  OptimConfig c;
  c.betas = {0.5, 0.75};
  c.eps = 1.0;
  c.weight_decay = 0.1;
  Scalar one(c);
  one.w() = 2.0;
  // t=1: m = 2, v = 4; m_hat = 4, v_hat = 16; d = 4/5.            w = 2 - 0.5 (0.8 + 0.2) = 1.5
  CHECK(one.step(4.0, 0.5) == Approx(1.5).epsilon(1e-15));
  // t=2, g=0: m = 1, v = 3; m_hat = 4/3, v_hat = 48/7.
  const double direction = (4.0 / 3.0) / (std::sqrt(48.0 / 7.0) + 1.0);
  CHECK(one.step(0.0, 0.5) == Approx(1.5 - 0.5 * (direction + 0.15)).epsilon(1e-15));
  CHECK(one.optimizer->steps() == 2);
}

TEST_CASE("independent decay does not shrink with the peak learning rate", "[optim][adamw]") {
  OptimConfig c;
  c.decay = DecayForm::independent;
  c.lr = 1e-3;
  c.weight_decay = 0.25;
  Scalar independent(c);
  independent.w() = 1.0;
  // lr_t = lr / 2, so s_t = 1/2; the gradient is 0.
  CHECK(independent.step(0.0, 5e-4) == Approx(1.0 - 0.5 * 0.25).epsilon(1e-15));
  c.decay = DecayForm::coupled;
  Scalar coupled(c);
  coupled.w() = 1.0;
  CHECK(coupled.step(0.0, 5e-4) == Approx(1.0 - 5e-4 * 0.25).epsilon(1e-15));
}

TEST_CASE("independent decay equals coupled decay of weight_decay / lr", "[optim][adamw]") {
  OptimConfig c;
  c.lr = 2e-3;
  c.weight_decay = 0.01;
  c.decay = DecayForm::independent;
  Scalar independent(c);
  c.decay = DecayForm::coupled;
  c.weight_decay = 0.01 / c.lr;
  Scalar coupled(c);
  independent.w() = coupled.w() = 0.7;
  for (int64_t s = 0; s < 20; ++s) {
    const double g = test::scattered(s);
    const double lr = c.lr * static_cast<double>(s + 1) / 20.0;
    const double expected = coupled.step(g, lr);
    CHECK(independent.step(g, lr) == Approx(expected).epsilon(1e-13));
  }
}

TEMPLATE_TEST_CASE("adamw follows the textbook's loop over every parameter", "[optim][adamw]",
                   float, double) {
  OptimConfig c;
  c.decay = GENERATE(DecayForm::coupled, DecayForm::independent);
  c.lr = 1e-2;
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
  for (size_t i = 0; i < references.size(); ++i) {
    const std::vector<TestType> values = copy<TestType>(store.parameters()[i].value);
    for (size_t k = 0; k < values.size(); ++k) {
      worst = std::max(worst, std::abs(static_cast<double>(values[k]) - references[i][k].w));
    }
  }
  CHECK(worst < tolerance);
}

TEST_CASE("adamw and its norms have the same bits for every number of threads", "[optim][adamw]") {
  const Run one = run_with(1);
  const int threads = GENERATE(2, 3, 4);
  const Run many = run_with(threads);
  CHECK(many.values == one.values);
  CHECK(many.m == one.m);
  CHECK(many.v == one.v);
  CHECK(many.updates == one.updates);
  CHECK(many.weights == one.weights);
  CHECK(many.global == one.global);
}

TEMPLATE_TEST_CASE("adamw reports the norms of what it changed", "[optim][adamw]", float, double) {
  ParameterStore store;
  test::declare(store, dtype_of<TestType>());
  const std::unique_ptr<Optimizer> optimizer = make_optimizer(OptimConfig{}, store);
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

TEST_CASE("measuring norms does not change the update", "[optim][adamw]") {
  std::vector<float> results[2];
  for (const bool measured : {false, true}) {
    ParameterStore store;
    test::declare(store, Dtype::f32);
    AdamW optimizer(OptimConfig{}, store);
    UpdateNorms norms;
    for (int64_t s = 0; s < 2; ++s) {
      for (const Parameter& p : store.parameters()) fill<float>(p.grad, 0.1, p.begin + s);
      optimizer.step(1e-3, 0.5, measured ? &norms : nullptr);
    }
    results[measured ? 1 : 0] = copy<float>(store.values());
  }
  CHECK(results[0] == results[1]);
}

TEST_CASE("update_ratio is 0 without an update and infinite from nothing", "[optim]") {
  CHECK(update_ratio(0.5, 2.0) == 0.25);
  CHECK(update_ratio(0.0, 0.0) == 0.0);
  CHECK(std::isinf(update_ratio(0.5, 0.0)));
}

TEST_CASE("each role belongs to its group of no_decay", "[optim][adamw]") {
  struct Case {
    Role role;
    std::set<DecayGroup> groups;
  };
  const auto [role, groups] = GENERATE(values<Case>({
      {Role::linear, {}},
      {Role::head, {DecayGroup::head}},
      {Role::embedding, {DecayGroup::embedding}},
      {Role::position, {DecayGroup::embedding}},
      {Role::norm, {DecayGroup::norm}},
      {Role::offset, {DecayGroup::norm}},
      {Role::bias, {DecayGroup::bias}},
  }));
  for (const auto& row : variant_rows<DecayGroup>()) {
    CAPTURE(row.name);
    OptimConfig c;
    c.weight_decay = 0.5;
    c.no_decay = {row.kind};
    Scalar one(c, role);
    one.w() = 1.0;
    const bool exempt = groups.count(row.kind) == 1;
    CHECK(one.step(0.0, 0.1) == Approx(exempt ? 1.0 : 0.95).epsilon(1e-15));
  }
}

TEST_CASE("adamw restarted from its state and step count makes the same updates",
          "[optim][adamw]") {
  const auto make = [](ParameterStore& store) {
    test::declare(store, Dtype::f32);
    for (const Parameter& p : store.parameters()) fill<float>(p.value, 0.02, p.begin);
    return make_optimizer(OptimConfig{}, store);
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
  REQUIRE(from.size() == 2 * first_store.parameters().size());
  CHECK(from.front().name == "m.embedding.weight");
  CHECK(from.back().name == "v.head.weight");
  for (size_t i = 0; i < from.size(); ++i) {
    CHECK(to[i].name == from[i].name);
    CHECK(to[i].value.shape == first_store.find(from[i].name.substr(2))->shape);
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

TEST_CASE("a gradient that grows tenfold overshoots less with a short memory", "[optim][adamw]") {
  // At a steady gradient the update is lr. After 2000 of them g rises from 1 to 10 over 20 steps.
  // The peaks were computed from the formulas by another program.
  const auto peak = [](double beta2) {
    OptimConfig c;
    c.betas = {0.9, beta2};
    c.weight_decay = 0.0;
    Scalar one(c);
    double largest = 0.0;
    for (int64_t s = 0; s < 2260; ++s) {
      const double before = one.w();
      const double rise = std::clamp(static_cast<double>(s - 1999) / 20.0, 0.0, 1.0);
      largest = std::max(largest, before - one.step(std::pow(10.0, rise), 1.0));
    }
    return largest;
  };
  CHECK(peak(0.999) == Approx(5.08838).epsilon(1e-5));
  CHECK(peak(0.95) == Approx(1.14751).epsilon(1e-5));
}

TEST_CASE("an optimiser needs gradients", "[optim][adamw]") {
  ParameterStore store;
  store.add("w", {1}, Role::linear);
  store.allocate(Dtype::f32, false);
  CHECK_THROWS_WITH(make_optimizer(OptimConfig{}, store),
                    "[adamw] the parameters were allocated without gradients");
}

}  // namespace ballast
