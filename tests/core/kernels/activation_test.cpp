#include "core/kernels/activation.h"

#include <string>

#include "core/kernels/glu.h"
#include "tests/core/kernels/kernel_check.h"
#include "tests/support/activations.h"

namespace ballast {

namespace {

ActivationKind generate_kind() {
  return GENERATE(from_range(kAllActivations));
}

// Both sides of every function's bend, without the kinks of relu and selu at 0.
Values sample_inputs(RandomValues& random, int64_t n) {
  Values x = random.normal_vector(n, 0.0, 3.0);
  for (double& value : x) {
    if (std::fabs(value) < 1e-3) value = 0.5;
  }
  return x;
}

}  // namespace

TEST_CASE("Activations match plain maths and finite differences", "[core][kernels][activation]") {
  const ActivationKind kind = generate_kind();
  const int64_t n = GENERATE(1, 7, 333);
  RandomValues random(1);
  Values x = sample_inputs(random, n);
  const Values dy = random.normal_vector(n);
  CAPTURE(static_cast<int>(kind), n);

  Values y = poisoned(n);
  activation_forward(kind, x.data(), n, y.data());
  CHECK(relative_error(y, reference::activation(kind, x), 1.0) <= 1e-14);

  Values dx = poisoned(n);
  activation_backward(kind, dy.data(), x.data(), n, dx.data(), false);
  const Values expected =
      numeric_gradient(x, [&] { return dot(dy, reference::activation(kind, x)); });
  // silu and gelu vanish far below 0: a tensor of one such value is measured against dy.
  CHECK(relative_error(dx, expected, 0.01 * largest(dy)) <= kGradientBound);

  Values added(static_cast<size_t>(n), 3.0);
  activation_backward(kind, dy.data(), x.data(), n, added.data(), true);
  for (double& value : dx) value += 3.0;
  CHECK(relative_error(added, dx) <= 1e-15);
}

TEST_CASE("Activations in float stay within a few roundings of double",
          "[core][kernels][activation]") {
  const ActivationKind kind = generate_kind();
  CAPTURE(static_cast<int>(kind));
  std::vector<float> x;
  for (float value = -12.0F; value <= 12.0F; value += 0.0113F) x.push_back(value);
  const Values exact_x(x.begin(), x.end());
  const int64_t n = length(x);
  std::vector<float> y = poisoned<float>(n);
  activation_forward(kind, x.data(), n, y.data());
  const std::vector<float> dy(x.size(), 1.0F);
  const Values exact_dy(x.size(), 1.0);
  std::vector<float> dx = poisoned<float>(n);
  activation_backward(kind, dy.data(), x.data(), n, dx.data(), false);
  Values exact_dx = poisoned(n);
  activation_backward(kind, exact_dy.data(), exact_x.data(), n, exact_dx.data(), false);

  double value_error = 0.0;
  double slope_error = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact_y = reference::activation(kind, exact_x[i]);
    const double size = std::max({1.0, std::fabs(exact_x[i]), std::fabs(exact_y)});
    value_error = std::max(value_error, std::fabs(static_cast<double>(y[i]) - exact_y) / size);
    slope_error = std::max(slope_error, std::fabs(static_cast<double>(dx[i]) - exact_dx[i]) / size);
  }
  // Both are at most x times a function in [0, 1] that is right to 4 ulp, after an argument whose
  // rounding weighs at most as much; relu2 is rounded once.
  CHECK(value_error <= 8.0 * kFloatRounding);
  CHECK(slope_error <= 16.0 * kFloatRounding);
}

TEST_CASE("Activations at the ends of the line", "[core][kernels][activation]") {
  const ActivationKind kind = generate_kind();
  CAPTURE(static_cast<int>(kind));
  // 1e4 and -1e4 stand for all arguments at which exp overflows or vanishes.
  struct Ends {
    float value_at_0, slope_at_0, value_above, slope_above, value_below, slope_below;
  };
  const auto ends = [kind]() -> Ends {
    constexpr float kSelu = 1.05070098735548F;
    constexpr float kSeluFloor = -1.75809934084738F;
    switch (kind) {
      case ActivationKind::relu:
        return {0, 0, 1e4F, 1, 0, 0};
      case ActivationKind::relu2:
        return {0, 0, 1e8F, 2e4F, 0, 0};
      case ActivationKind::gelu:
      case ActivationKind::gelu_tanh:
      case ActivationKind::silu:
        return {0, 0.5F, 1e4F, 1, 0, 0};
      case ActivationKind::elu:
        return {0, 1, 1e4F, 1, -1, 0};
      case ActivationKind::selu:
        return {0, kSelu * 1.67326324235438F, kSelu * 1e4F, kSelu, kSeluFloor, 0};
      case ActivationKind::softplus:
        return {std::log(2.0F), 0.5F, 1e4F, 1, 0, 0};
      case ActivationKind::sigmoid:
        return {0.5F, 0.25F, 1, 0, 0, 0};
      case ActivationKind::tanh:
        return {0, 1, 1, 0, -1, 0};
      case ActivationKind::mish:
        return {0, 0.6F, 1e4F, 1, 0, 0};
      case ActivationKind::softsign:
        return {0, 1, 1e4F / 10001, 1.0F / 10001 / 10001, -1e4F / 10001, 1.0F / 10001 / 10001};
      case ActivationKind::identity:
        return {0, 1, 1e4F, 1, -1e4F, 1};
    }
    return {};
  }();
  const std::vector<float> x = {0.0F, 1e4F, -1e4F, std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> y(4), dx(4);
  const std::vector<float> dy(4, 1.0F);
  activation_forward(kind, x.data(), 4, y.data());
  activation_backward(kind, dy.data(), x.data(), 4, dx.data(), false);
  const auto near = [](float value) { return Approx(static_cast<double>(value)).epsilon(3e-7); };
  CHECK(y[0] == near(ends.value_at_0));
  CHECK(y[1] == near(ends.value_above));
  CHECK(y[2] == near(ends.value_below));
  CHECK(std::isnan(y[3]));
  CHECK(dx[0] == near(ends.slope_at_0));
  CHECK(dx[1] == near(ends.slope_above));
  CHECK(dx[2] == near(ends.slope_below));
}

TEST_CASE("Activations keep their relative digits in both tails", "[core][kernels][activation]") {
  // Those whose tails decay to a limit of 0 smoothly, or pass through 0 by expm1.
  const ActivationKind kind =
      GENERATE(ActivationKind::elu, ActivationKind::selu, ActivationKind::softplus,
               ActivationKind::sigmoid, ActivationKind::mish, ActivationKind::tanh);
  CAPTURE(static_cast<int>(kind));
  std::vector<float> x;
  for (float magnitude = 1e-6F; magnitude < 87.0F; magnitude *= 1.01F) {
    x.push_back(magnitude);
    x.push_back(-magnitude);
  }
  x.push_back(100.0F);
  const Values exact_x(x.begin(), x.end());
  const int64_t n = length(x);
  auto y = poisoned<float>(n), dx = poisoned<float>(n);
  Values exact_dx = poisoned(n);
  const std::vector<float> dy(x.size(), 1.0F);
  const Values exact_dy(x.size(), 1.0);
  activation_forward(kind, x.data(), n, y.data());
  activation_backward(kind, dy.data(), x.data(), n, dx.data(), false);
  activation_backward(kind, exact_dy.data(), exact_x.data(), n, exact_dx.data(), false);
  double value_error = 0.0;
  double slope_error = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact_y = reference::activation(kind, exact_x[i]);
    // Below the smallest normal number exp gives 0. The slope of mish crosses 0 at -1.19.
    const double smallest = static_cast<double>(std::numeric_limits<float>::min());
    if (std::fabs(exact_y) > smallest) {
      value_error = std::max(value_error,
                             std::fabs(static_cast<double>(y[i]) - exact_y) / std::fabs(exact_y));
    }
    if (std::fabs(exact_dx[i]) > smallest && std::fabs(exact_x[i] + 1.19) > 0.1) {
      slope_error = std::max(slope_error, std::fabs(static_cast<double>(dx[i]) - exact_dx[i]) /
                                              std::fabs(exact_dx[i]));
    }
  }
  // A handful of operations of 0.5 to 2 ulp each; one ulp is up to two roundings of kFloatRounding.
  CHECK(value_error <= 8.0 * kFloatRounding);
  // mish adds two terms of opposite sign there: near its zero digits cancel.
  CHECK(slope_error <= (kind == ActivationKind::mish ? 64.0 : 12.0) * kFloatRounding);
}

TEST_CASE("Gated units match plain maths and finite differences", "[core][kernels][glu]") {
  const ActivationKind kind = generate_kind();
  const RowShape shape = generate_row_shape();
  const auto [rows, F] = shape;
  CAPTURE(static_cast<int>(kind), rows, F);
  RandomValues random(2);
  Values gate_up = sample_inputs(random, rows * 2 * F);
  const Values dy = random.normal_vector(rows * F);

  Values y = poisoned(rows * F);
  glu_forward(kind, gate_up.data(), rows, F, 2 * F, y.data());
  CHECK(relative_error(y, reference::glu_joined(kind, gate_up, F), 1.0) <= 1e-14);

  Values dgate_up = poisoned(rows * 2 * F);
  glu_backward(kind, dy.data(), gate_up.data(), rows, F, 2 * F, dgate_up.data(), false);
  const Values expected = numeric_gradient(
      gate_up, [&, n = F] { return dot(dy, reference::glu_joined(kind, gate_up, n)); });
  CHECK(relative_error(dgate_up, expected, 0.01 * largest(dy)) <= kGradientBound);

  Values added(dgate_up.size(), 3.0);
  glu_backward(kind, dy.data(), gate_up.data(), rows, F, 2 * F, added.data(), true);
  Values in_place = gate_up;
  glu_backward(kind, dy.data(), in_place.data(), rows, F, 2 * F, in_place.data(), false);
  CHECK(in_place == dgate_up);
  for (double& value : dgate_up) value += 3.0;
  CHECK(relative_error(added, dgate_up) <= 1e-15);
}

TEST_CASE("Gated units in float stay within a few roundings of double", "[core][kernels][glu]") {
  const ActivationKind kind = generate_kind();
  constexpr int64_t kRows = 9;
  constexpr int64_t kF = 131;
  RandomValues random(3);
  const auto gate_up = random.normal_vector<float>(kRows * 2 * kF);
  const auto dy = random.normal_vector<float>(kRows * kF);
  const Values exact_in(gate_up.begin(), gate_up.end());
  const Values exact_dy(dy.begin(), dy.end());

  auto y = poisoned<float>(kRows * kF);
  glu_forward(kind, gate_up.data(), kRows, kF, 2 * kF, y.data());
  CHECK(relative_error(y, reference::glu_joined(kind, exact_in, kF)) <= 16.0 * kFloatRounding);
  auto actual = poisoned<float>(kRows * 2 * kF);
  glu_backward(kind, dy.data(), gate_up.data(), kRows, kF, 2 * kF, actual.data(), false);
  Values expected = poisoned(kRows * 2 * kF);
  glu_backward(kind, exact_dy.data(), exact_in.data(), kRows, kF, 2 * kF, expected.data(), false);
  CHECK(relative_error(actual, expected) <= 32.0 * kFloatRounding);
}

TEST_CASE("Activations have the same bits for every number of threads",
          "[core][kernels][activation]") {
  const ActivationKind kind = generate_kind();
  constexpr int64_t kRows = 331;
  constexpr int64_t kF = 301;
  RandomValues random(4);
  const auto gate_up = random.normal_vector<float>(kRows * 2 * kF);
  const auto dy = random.normal_vector<float>(kRows * kF);
  CHECK(same_bits_for_all_threads([&] {
    auto y = poisoned<float>(kRows * 2 * kF);
    activation_forward(kind, gate_up.data(), length(gate_up), y.data());
    return y;
  }));
  CHECK(same_bits_for_all_threads([&] {
    auto dx = poisoned<float>(kRows * kF);
    activation_backward(kind, dy.data(), gate_up.data(), length(dy), dx.data(), false);
    return dx;
  }));
  CHECK(same_bits_for_all_threads([&] {
    auto dx = poisoned<float>(kRows * 2 * kF);
    glu_backward(kind, dy.data(), gate_up.data(), kRows, kF, 2 * kF, dx.data(), false);
    return dx;
  }));
}

}  // namespace ballast
