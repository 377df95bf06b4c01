#include "optim/grad_norm.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "optim/clip.h"
#include "tests/optim/support.h"
#include "tests/support/catch.h"

namespace ballast {

using test::fill;
using test::ThreadCount;

TEMPLATE_TEST_CASE("gradient norms agree with a sum in long double", "[optim][grad_norm]", float,
                   double) {
  ParameterStore store;
  test::declare(store, dtype_of<TestType>());
  for (const Parameter& p : store.parameters()) fill<TestType>(p.grad, 0.3, p.begin);
  GradNorm norm(store);
  norm.measure();
  long double total = 0.0L;
  for (size_t i = 0; i < store.parameters().size(); ++i) {
    long double sum = 0.0L;
    for (const TestType g : test::copy<TestType>(store.parameters()[i].grad)) {
      sum += static_cast<long double>(g) * g;
    }
    total += sum;
    // At most 128 + 5 + 5 double additions lie on a path from a term to its sum.
    CHECK(norm.norms()[i] == Approx(static_cast<double>(std::sqrt(sum))).epsilon(2e-14));
  }
  CHECK(norm.global() == Approx(static_cast<double>(std::sqrt(total))).epsilon(2e-14));
  CHECK(norm.first_nonfinite() == nullptr);
}

TEST_CASE("gradient norms have the same bits for every number of threads", "[optim][grad_norm]") {
  ParameterStore store;
  test::declare(store, Dtype::f32);
  for (const Parameter& p : store.parameters()) fill<float>(p.grad, 0.3, p.begin);
  GradNorm one(store);
  GradNorm many(store);
  {
    const ThreadCount count(1);
    one.measure();
  }
  const ThreadCount count(GENERATE(2, 3, 4));
  many.measure();
  CHECK(many.global() == one.global());
  CHECK(std::equal(many.norms().begin(), many.norms().end(), one.norms().begin()));
}

TEST_CASE("the largest finite gradients have a finite norm", "[optim][grad_norm]") {
  ParameterStore store;
  store.add("w", {10000}, Role::linear);
  store.allocate(Dtype::f32);
  const float largest = std::numeric_limits<float>::max();
  std::fill_n(store.parameters()[0].grad.data<float>(), 10000, largest);
  GradNorm norm(store);
  norm.measure();
  CHECK(norm.global() == Approx(100.0 * static_cast<double>(largest)).epsilon(1e-13));
  CHECK(norm.first_nonfinite() == nullptr);
}

TEST_CASE("the first parameter with a NaN or an infinity is named", "[optim][grad_norm]") {
  ParameterStore store;
  test::declare(store, Dtype::f32);
  GradNorm norm(store);
  const float bad =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
               -std::numeric_limits<float>::infinity());
  store.find("head.weight")->grad.data<float>()[0] = bad;
  norm.measure();
  REQUIRE(norm.first_nonfinite() != nullptr);
  CHECK(norm.first_nonfinite()->name == "head.weight");
  CHECK_FALSE(std::isfinite(norm.global()));
  // The last element of a matrix of many chunks, which ends in a short one.
  Tensor large = store.find("large.weight")->grad;
  large.data<float>()[large.size() - 1] = bad;
  norm.measure();
  CHECK(norm.first_nonfinite()->name == "large.weight");
  fill<float>(store.gradients(), 1.0, 0);
  norm.measure();
  CHECK(norm.first_nonfinite() == nullptr);
}

TEST_CASE("a gradient norm needs gradients", "[optim][grad_norm]") {
  ParameterStore store;
  store.add("w", {1}, Role::linear);
  store.allocate(Dtype::f32, false);
  CHECK_THROWS_WITH(GradNorm(store), "[grad_norm] the parameters were allocated without gradients");
}

TEST_CASE("global clipping scales a longer gradient to max_norm and leaves a shorter one",
          "[optim][clip]") {
  const ClipConfig global{ClipKind::global, 2.0};
  CHECK(clip_scale(global, 8.0) == Approx(0.25).epsilon(1e-6));
  CHECK(clip_scale(global, 8.0) == 2.0 / (8.0 + 1e-6));
  CHECK(clip_scale(global, 1.5) == 1.0);
  CHECK(clip_scale(global, 0.0) == 1.0);
  CHECK(clip_scale({ClipKind::none, 2.0}, 8.0) == 1.0);
}

}  // namespace ballast
