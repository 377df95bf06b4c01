#include "core/kernels/cross_entropy.h"

#include "tests/core/kernels/kernel_check.h"

namespace ballast {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Result {
  std::vector<double> ce, lse;
};

template <class T>
Result run(std::vector<T>& logits, const std::vector<int32_t>& targets, int64_t V, double z_loss,
           double scale, bool with_gradient) {
  const int64_t R = length(targets);
  Result result{poisoned(R), poisoned(R)};
  cross_entropy_rows<T>(logits.data(), targets.data(), R, V, static_cast<T>(z_loss),
                        static_cast<T>(scale), with_gradient, result.ce.data(), result.lse.data(),
                        nullptr);
  return result;
}

// One row whose target is `gap` above all others, which vary a little.
std::vector<float> confident_row(int64_t V, double gap) {
  RandomValues random(1);
  std::vector<float> logits;
  for (int64_t v = 0; v < V; ++v) {
    logits.push_back(static_cast<float>(v == 3 ? gap : random.uniform(-1.0, 0.0)));
  }
  return logits;
}

double zero_sum_defect(const std::vector<float>& gradient) {
  double sum = 0.0;
  double size = 0.0;
  for (const float value : gradient) {
    sum += static_cast<double>(value);
    size += std::fabs(static_cast<double>(value));
  }
  return std::fabs(sum) / size;
}

}  // namespace

TEST_CASE("Cross-entropy matches plain maths and its gradient finite differences",
          "[core][kernels][cross_entropy]") {
  const int64_t R = GENERATE(1, 5);
  const int64_t V = GENERATE(1, 2, 37, 300);
  const double z_loss = GENERATE(0.0, 0.1);
  CAPTURE(R, V, z_loss);
  RandomValues random(2);
  Values logits = random.normal_vector(R * V, 0.0, 3.0);
  std::vector<int32_t> targets = random.tokens(R, V);
  if (R > 1) targets[2] = -1;
  const double n_counted = R > 1 ? 4.0 : 1.0;

  const reference::Loss expected = reference::cross_entropy(logits, targets, V, z_loss);
  Values untouched = logits;
  const Result forward = run(untouched, targets, V, z_loss, 1.0 / n_counted, false);
  CHECK(untouched == logits);
  const LossSums sums = sum_loss_rows(targets.data(), forward.ce.data(), forward.lse.data(), R);
  CHECK(static_cast<double>(sums.count) == n_counted);
  CHECK(sums.ce / n_counted == Approx(expected.ce).epsilon(1e-14).margin(1e-14));
  CHECK(z_loss * sums.z / n_counted == Approx(expected.z).epsilon(1e-14).margin(1e-14));

  Values gradient = logits;
  const Result with_gradient = run(gradient, targets, V, z_loss, 1.0 / n_counted, true);
  CHECK(with_gradient.ce == forward.ce);
  CHECK(with_gradient.lse == forward.lse);
  const Values numeric = numeric_gradient(
      logits, [&] { return reference::cross_entropy(logits, targets, V, z_loss).total(); });
  CHECK(relative_error(gradient, numeric, 0.01) <= kGradientBound);
}

TEST_CASE("The cross-entropy gradient sums to zero however confident the model is",
          "[core][kernels][cross_entropy]") {
  const double gap = GENERATE(5.0, 17.0, 40.0, 80.0);
  const int64_t V = GENERATE(11, 256, 8192, 50257);
  CAPTURE(gap, V);
  const std::vector<float> logits = confident_row(V, gap);
  std::vector<float> gradient = logits;
  run(gradient, {3}, V, 0.0, 1.0, true);
  CHECK(gradient[3] < 0.0F);
  CHECK(zero_sum_defect(gradient) <= 1e-6);

  // p - onehot in float has lost the correct class's share from gaps of about 17 on.
  std::vector<float> naive;
  float total = 0.0F;
  for (const float z : logits) total += std::exp(z - static_cast<float>(gap));
  for (size_t v = 0; v < logits.size(); ++v) {
    const float p = std::exp(logits[v] - static_cast<float>(gap)) / total;
    naive.push_back(v == 3 ? p - 1.0F : p);
  }
  if (gap >= 40.0) CHECK(zero_sum_defect(naive) > 0.5);
  if (gap == 17.0 && V == 11) CHECK(zero_sum_defect(naive) > 1e-3);
}

TEST_CASE("Cross-entropy keeps its digits when p rounds to 1", "[core][kernels][cross_entropy]") {
  const double gap = GENERATE(5.0, 17.0, 40.0, 80.0);
  CAPTURE(gap);
  std::vector<float> logits = confident_row(256, gap);
  double others = 0.0;
  for (size_t v = 0; v < logits.size(); ++v) {
    if (v != 3) others += std::exp(static_cast<double>(logits[v]) - gap);
  }
  const Result result = run(logits, {3}, 256, 0.0, 1.0, false);
  // The float difference of two logits is off by at most half an ulp of the gap, exp by 1.1 ulp.
  CHECK(result.ce[0] == Approx(std::log1p(others)).epsilon((gap + 8.0) * kFloatRounding));
}

TEST_CASE("Cross-entropy in float stays within rounding of double",
          "[core][kernels][cross_entropy]") {
  constexpr int64_t kR = 6;
  constexpr int64_t kV = 1000;
  RandomValues random(3);
  auto logits = random.normal_vector<float>(kR * kV, 0.0, 3.0);
  Values exact(logits.begin(), logits.end());
  const auto targets = random.tokens(kR, kV);
  const double z_loss = static_cast<double>(1e-4F);
  const Result actual = run(logits, targets, kV, z_loss, 0.25, true);
  const Result expected = run(exact, targets, kV, z_loss, 0.25, true);
  // exp's argument, up to 20, is rounded once; a block of 256 adds at most 32 terms to a lane.
  const double bound = (20.0 + 32.0) * kFloatRounding;
  CHECK(relative_error(actual.ce, expected.ce) <= bound);
  CHECK(relative_error(actual.lse, expected.lse) <= bound);
  CHECK(relative_error(logits, exact) <= bound);
}

TEST_CASE("Cross-entropy does not overflow, and passes NaN on", "[core][kernels][cross_entropy]") {
  SECTION("large logits") {
    std::vector<float> logits = {3e38F, -3e38F, 3e38F};
    std::vector<float> gradient = logits;
    const Result result = run(gradient, {0}, 3, 0.0, 1.0, true);
    CHECK(result.ce[0] == Approx(std::log(2.0)));
    CHECK(gradient == std::vector<float>{-0.5F, 0.0F, 0.5F});
  }
  SECTION("a masked logit") {
    std::vector<float> logits = {0.0F, -kInfinity, 0.0F};
    const Result result = run(logits, {0}, 3, 0.0, 1.0, true);
    CHECK(result.ce[0] == Approx(std::log(2.0)));
    CHECK(logits == std::vector<float>{-0.5F, 0.0F, 0.5F});
  }
  SECTION("NaN or infinity anywhere") {
    const float bad = GENERATE(kNan, kInfinity);
    const size_t at = GENERATE(size_t{0}, size_t{1});
    CAPTURE(bad, at);
    std::vector<float> logits = {1.0F, 2.0F, 3.0F};
    logits[at] = bad;
    const Result result = run(logits, {0}, 3, 0.0, 1.0, true);
    CHECK(std::isnan(result.ce[0]));
    for (const float value : logits) CHECK(std::isnan(value));
  }
}

TEST_CASE("Ignored rows count nowhere", "[core][kernels][cross_entropy]") {
  std::vector<float> logits = {1.0F, 2.0F, 5.0F, std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> row_max(2);
  std::vector<double> ce(2), lse(2);
  const std::vector<int32_t> targets = {0, -1};
  cross_entropy_rows<float>(logits.data(), targets.data(), 2, 2, 0.1F, 1.0F, true, ce.data(),
                            lse.data(), row_max.data());
  CHECK(logits[2] == 0.0F);
  CHECK(logits[3] == 0.0F);
  CHECK(row_max[0] == 2.0F);
  const LossSums sums = sum_loss_rows(targets.data(), ce.data(), lse.data(), 2);
  CHECK(sums.count == 1);
  CHECK(sums.ce == ce[0]);
  CHECK(sums.z == lse[0] * lse[0]);
}

TEST_CASE("Cross-entropy has the same bits for every number of threads",
          "[core][kernels][cross_entropy]") {
  constexpr int64_t kR = 37;
  constexpr int64_t kV = 5003;
  RandomValues random(4);
  const auto logits = random.normal_vector<float>(kR * kV);
  const auto targets = random.tokens(kR, kV);
  CHECK(same_bits_for_all_threads([&] {
    std::vector<float> gradient = logits;
    run(gradient, targets, kV, 1e-4, 1.0, true);
    return gradient;
  }));
}

TEST_CASE(
    "Scaled and capped logits give float gradients within rounding of double's, whose sum "
    "over a row before the cap is zero",
    "[core][kernels][cross_entropy]") {
  const LogitMap<double> map =
      GENERATE(LogitMap<double>{0.5, 0.0}, LogitMap<double>{1.0, 8.0}, LogitMap<double>{2.0, 8.0});
  constexpr int64_t kR = 9, kV = 1001;
  RandomValues random(21);
  const auto logits = random.normal_vector<float>(kR * kV, 0.0, 3.0);
  const auto targets = random.tokens(kR, kV);
  const auto gradient = [&]<class T>(T) {
    std::vector<T> z(logits.begin(), logits.end());
    Values ce(kR), lse(kR);
    cross_entropy_rows<T>(z.data(), targets.data(), kR, kV, T{0}, T{1}, true, ce.data(), lse.data(),
                          nullptr, {static_cast<T>(map.scale), static_cast<T>(map.cap)});
    return z;
  };
  const Values exact = gradient(double{});
  // exp's argument, up to 20, is rounded a few times.
  CHECK(relative_error(gradient(float{}), exact) <= 64.0 * kFloatRounding);
  CHECK(same_bits_for_all_threads([&] { return gradient(float{}); }));
  if (map.cap != 0.0) return;
  for (size_t row = 0; row < kR; ++row) {
    double sum = 0.0;
    for (size_t v = 0; v < kV; ++v) sum += exact[row * kV + v];
    CHECK(std::fabs(sum) <= 1e-14);
  }
}

TEST_CASE("The target's gradient under a cap is minus the sum of the others', times its slope",
          "[core][kernels][cross_entropy]") {
  // p of the target rounds to 1 in float: p - 1 would be 0.
  std::vector<float> z = {0.0F, 40.0F, 1.0F};
  const std::vector<float> in = z;
  double ce = 0.0, lse = 0.0;
  const std::vector<int32_t> target = {1};
  constexpr float kCap = 50.0F;
  cross_entropy_rows<float>(z.data(), target.data(), 1, 3, 0.0F, 1.0F, true, &ce, &lse, nullptr,
                            {1.0F, kCap});
  double others = 0.0;
  const auto slope = [](float x) {
    const double t = std::tanh(static_cast<double>(x) / static_cast<double>(kCap));
    return 1.0 - t * t;
  };
  for (const size_t v : {size_t{0}, size_t{2}}) others += static_cast<double>(z[v]) / slope(in[v]);
  CHECK(z[1] < 0.0F);
  CHECK(static_cast<double>(z[1]) == Approx(-others * slope(in[1])).epsilon(1e-5));
}

}  // namespace ballast
