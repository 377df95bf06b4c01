#include "core/kernels/norm.h"

#include "core/kernels/dyt.h"
#include "core/kernels/head_norm.h"
#include "tests/core/kernels/kernel_check.h"

namespace ballast {

namespace {

constexpr double kEps = 1e-5;

template <class T>
const T* or_null(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

// Inputs of one norm; an empty w or b is a norm without it.
struct Problem {
  int64_t rows, C;
  bool is_layer_norm;
  bool unit_offset;
  Values x, f, w, b, dy, ds;

  double gain_offset() const { return unit_offset ? 1.0 : 0.0; }

  // y of x, or of x + f, by plain maths.
  Values reference_y(bool adds) const {
    Values s = x;
    for (size_t i = 0; adds && i < s.size(); ++i) s[i] += f[i];
    return is_layer_norm ? reference::layer_norm(s, w, b, C, kEps, unit_offset)
                         : reference::rms_norm(s, w, C, kEps, unit_offset);
  }
};

Problem make_problem(RandomValues& random, RowShape shape, bool is_layer_norm, bool has_weight,
                     bool unit_offset) {
  const auto [rows, C] = shape;
  const int64_t n = rows * C;
  return {.rows = rows,
          .C = C,
          .is_layer_norm = is_layer_norm,
          .unit_offset = unit_offset,
          .x = random.normal_vector(n, 0.3),
          .f = random.normal_vector(n),
          .w = has_weight ? random.normal_vector(C, 1.0, 0.3) : Values{},
          .b = has_weight && is_layer_norm ? random.normal_vector(C) : Values{},
          .dy = random.normal_vector(n),
          .ds = random.normal_vector(n)};
}

template <class T>
struct Forward {
  std::vector<T> s, y, mean, rstd;
};

template <class T>
Forward<T> run_forward(const Problem& p, bool adds) {
  const auto x = cast<T>(p.x), f = cast<T>(p.f), w = cast<T>(p.w), b = cast<T>(p.b);
  const int64_t n = p.rows * p.C;
  Forward<T> out{poisoned<T>(n), poisoned<T>(n), poisoned<T>(p.rows), poisoned<T>(p.rows)};
  const T offset = static_cast<T>(p.gain_offset());
  const T eps = static_cast<T>(kEps);
  if (adds && p.is_layer_norm) {
    add_layer_norm_forward(x.data(), f.data(), or_null(w), or_null(b), offset, eps, p.rows, p.C,
                           out.s.data(), out.y.data(), out.mean.data(), out.rstd.data());
  } else if (adds) {
    add_rms_norm_forward(x.data(), f.data(), or_null(w), offset, eps, p.rows, p.C, out.s.data(),
                         out.y.data(), out.rstd.data());
  } else if (p.is_layer_norm) {
    layer_norm_forward(x.data(), or_null(w), or_null(b), offset, eps, p.rows, p.C, out.y.data(),
                       out.mean.data(), out.rstd.data());
  } else {
    rms_norm_forward(x.data(), or_null(w), offset, eps, p.rows, p.C, out.y.data(), out.rstd.data());
  }
  if (!adds) out.s = x;
  return out;
}

template <class T>
struct Backward {
  std::vector<T> dx, df, dw, db;
};

// Gradients are added to `start`, or overwrite what is there.
template <class T>
Backward<T> run_backward(const Problem& p, bool adds, Backward<T> out, bool accumulate) {
  const Forward<T> forward = run_forward<T>(p, adds);
  const auto dy = cast<T>(p.dy), ds = cast<T>(p.ds), w = cast<T>(p.w);
  const T offset = static_cast<T>(p.gain_offset());
  T* const dw = p.w.empty() ? nullptr : out.dw.data();
  T* const db = p.b.empty() ? nullptr : out.db.data();
  const T* const s = forward.s.data();
  const T* const mean = forward.mean.data();
  const T* const rstd = forward.rstd.data();
  const auto backward = [&](T* dx, bool accumulate_dx) {
    if (p.is_layer_norm) {
      layer_norm_backward(dy.data(), s, or_null(w), offset, mean, rstd, p.rows, p.C, dx,
                          accumulate_dx, dw, accumulate, db, accumulate);
    } else {
      rms_norm_backward(dy.data(), s, or_null(w), offset, rstd, p.rows, p.C, dx, accumulate_dx, dw,
                        accumulate);
    }
  };
  if (!adds) {
    backward(out.dx.data(), accumulate);
    return out;
  }
  // As the tape does it: the norm adds to what reaches the sum from elsewhere, and both addends get
  // it.
  std::vector<T> stream = ds;
  backward(stream.data(), true);
  for (std::vector<T>* addend : {&out.dx, &out.df}) {
    for (size_t i = 0; i < stream.size(); ++i) {
      (*addend)[i] = accumulate ? (*addend)[i] + stream[i] : stream[i];
    }
  }
  return out;
}

template <class T>
Backward<T> filled(const Problem& p, T value) {
  const auto n = static_cast<size_t>(p.rows * p.C);
  const auto C = static_cast<size_t>(p.C);
  return {std::vector<T>(n, value), std::vector<T>(n, value), std::vector<T>(C, value),
          std::vector<T>(C, value)};
}

template <class T>
Backward<T> overwritten(const Problem& p, bool adds) {
  return run_backward<T>(p, adds, filled(p, std::numeric_limits<T>::quiet_NaN()), false);
}

}  // namespace

TEST_CASE("Norms match plain maths and their gradients match finite differences",
          "[core][kernels][norm]") {
  const bool is_layer_norm = GENERATE(true, false);
  const bool adds = GENERATE(false, true);
  const bool has_weight = GENERATE(true, false);
  const bool unit_offset = GENERATE(false, true);
  const RowShape shape = generate_row_shape();
  RandomValues random(1);
  Problem p = make_problem(random, shape, is_layer_norm, has_weight, unit_offset);
  CAPTURE(is_layer_norm, adds, has_weight, unit_offset, p.rows, p.C);

  // Sums of C terms in another order.
  const double rounding = 1e-15 * static_cast<double>(p.C + 10);
  CHECK(relative_error(run_forward<double>(p, adds).y, p.reference_y(adds), 1.0) <= rounding);

  const auto loss = [&p, adds] {
    double sum = dot(p.dy, p.reference_y(adds));
    if (adds) sum += dot(p.ds, p.x) + dot(p.ds, p.f);
    return sum;
  };
  const Backward<double> actual = overwritten<double>(p, adds);
  const Values dx = numeric_gradient(p.x, loss);
  // A LayerNorm of one column has no gradient but rounding: measure against 1 % of dy's size.
  const double floor = 0.01 * std::max(1.0, largest(p.dy));
  CHECK(relative_error(actual.dx, dx, floor) <= kGradientBound);
  if (adds) CHECK(relative_error(actual.df, dx, floor) <= kGradientBound);
  if (has_weight)
    CHECK(relative_error(actual.dw, numeric_gradient(p.w, loss), floor) <= kGradientBound);
  if (!p.b.empty())
    CHECK(relative_error(actual.db, numeric_gradient(p.b, loss), floor) <= kGradientBound);
}

TEST_CASE("Norm gradients are added to what is there only when asked", "[core][kernels][norm]") {
  const bool is_layer_norm = GENERATE(true, false);
  const bool adds = GENERATE(false, true);
  RandomValues random(2);
  const Problem p = make_problem(random, {70, 5}, is_layer_norm, true, false);
  const Backward<double> fresh = overwritten<double>(p, adds);
  const Backward<double> added = run_backward(p, adds, filled(p, 2.0), true);
  const auto plus_two = [](Values values) {
    for (double& value : values) value += 2.0;
    return values;
  };
  CHECK(relative_error(added.dx, plus_two(fresh.dx)) <= 1e-15);
  CHECK(relative_error(added.dw, plus_two(fresh.dw)) <= 1e-14);
  if (adds) CHECK(relative_error(added.df, plus_two(fresh.df)) <= 1e-15);
  if (is_layer_norm) CHECK(relative_error(added.db, plus_two(fresh.db)) <= 1e-14);
}

TEST_CASE("Norms in float stay within rounding of double", "[core][kernels][norm]") {
  const bool is_layer_norm = GENERATE(true, false);
  const bool adds = GENERATE(false, true);
  RandomValues random(3);
  Problem p = make_problem(random, {90, 131}, is_layer_norm, true, false);
  // The same inputs in both types.
  for (Values* values : {&p.x, &p.f, &p.w, &p.b, &p.dy, &p.ds}) {
    for (double& value : *values) value = static_cast<double>(static_cast<float>(value));
  }
  // A sum of C terms of size 1 in float: at most C roundings, on values up to about 4.
  const double bound = 131.0 * kFloatRounding;
  CHECK(relative_error(run_forward<float>(p, adds).y, p.reference_y(adds)) <= bound);
  const Backward<double> exact = overwritten<double>(p, adds);
  const Backward<float> actual = overwritten<float>(p, adds);
  CHECK(relative_error(actual.dx, exact.dx) <= bound);
  CHECK(relative_error(actual.dw, exact.dw) <= bound);
  if (adds) CHECK(relative_error(actual.df, exact.df) <= bound);
  if (is_layer_norm) CHECK(relative_error(actual.db, exact.db) <= bound);
}

TEST_CASE("layer_norm keeps its digits when the mean is far above the deviation",
          "[core][kernels][norm]") {
  constexpr int64_t kC = 512;
  RandomValues random(4);
  std::vector<float> x;
  for (int64_t c = 0; c < kC; ++c) x.push_back(static_cast<float>(random.normal(30000.0)));
  std::vector<float> y = poisoned<float>(kC);
  float mean = 0.0F;
  float rstd = 0.0F;
  layer_norm_forward<float>(x.data(), nullptr, nullptr, 0.0F, 1e-5F, 1, kC, y.data(), &mean, &rstd);
  const Values expected =
      reference::layer_norm(Values(x.begin(), x.end()), {}, {}, kC, static_cast<double>(1e-5F));
  // Sums of C terms take C roundings, 3e-5. E[x^2] - mean^2 in float would be wrong by
  // 30000^2 * 2^-24 = 54 where the variance is 1, and a mean rounded to float shifts y by up to
  // 1e-3.
  CHECK(relative_error(y, expected) <= static_cast<double>(kC) * kFloatRounding);
}

TEST_CASE("rms_norm ignores the scale of its input when eps is 0", "[core][kernels][norm]") {
  RandomValues random(5);
  const auto x = random.normal_vector<float>(33);
  std::vector<float> large;
  for (const float value : x) large.push_back(value * 1024.0F);
  std::vector<float> y(33), y_large(33);
  float rstd = 0.0F;
  rms_norm_forward<float>(x.data(), nullptr, 0.0F, 0.0F, 1, 33, y.data(), &rstd);
  rms_norm_forward<float>(large.data(), nullptr, 0.0F, 0.0F, 1, 33, y_large.data(), &rstd);
  CHECK(y == y_large);
}

TEST_CASE("A norm of a row with a NaN is NaN in that row alone", "[core][kernels][norm]") {
  const bool is_layer_norm = GENERATE(true, false);
  RandomValues random(6);
  Problem p = make_problem(random, {3, 17}, is_layer_norm, true, false);
  p.x[20] = std::numeric_limits<double>::quiet_NaN();
  const auto y = run_forward<float>(p, false).y;
  for (size_t i = 0; i < y.size(); ++i) {
    CAPTURE(i);
    CHECK(std::isnan(y[i]) == (i / 17 == 1));
  }
}

TEST_CASE("Norms have the same bits for every number of threads", "[core][kernels][norm]") {
  const bool is_layer_norm = GENERATE(true, false);
  const bool adds = GENERATE(false, true);
  RandomValues random(8);
  const Problem p = make_problem(random, {601, 257}, is_layer_norm, true, false);
  CHECK(same_bits_for_all_threads([&] { return run_forward<float>(p, adds).y; }));
  CHECK(same_bits_for_all_threads([&] { return overwritten<float>(p, adds).dx; }));
  CHECK(same_bits_for_all_threads([&] { return overwritten<float>(p, adds).dw; }));
}

namespace {

// The kernels that have no statistics to check alone: what they make of one problem.
template <class T>
std::vector<T> run_scale_norm(const Problem& p, bool adds) {
  const auto x = cast<T>(p.x), f = cast<T>(p.f), dy = cast<T>(p.dy);
  const int64_t n = p.rows * p.C;
  auto s = poisoned<T>(n), y = poisoned<T>(n), inverse = poisoned<T>(p.rows), dx = poisoned<T>(n);
  const T g{3};
  const T eps = static_cast<T>(kEps);
  if (adds) {
    add_scale_norm_forward(x.data(), f.data(), g, eps, p.rows, p.C, s.data(), y.data(),
                           inverse.data());
  } else {
    s = x;
    scale_norm_forward(x.data(), g, eps, p.rows, p.C, y.data(), inverse.data());
  }
  T dg{0};
  scale_norm_backward(dy.data(), s.data(), g, eps, inverse.data(), p.rows, p.C, dx.data(), false,
                      &dg, false);
  y.insert(y.end(), dx.begin(), dx.end());
  y.push_back(dg);
  return y;
}

template <class T>
std::vector<T> run_dyt(const Problem& p, bool adds) {
  const auto x = cast<T>(p.x), f = cast<T>(p.f), w = cast<T>(p.w), b = cast<T>(p.b),
             dy = cast<T>(p.dy);
  const int64_t n = p.rows * p.C;
  auto s = poisoned<T>(n), y = poisoned<T>(n), dx = poisoned<T>(n), dw = poisoned<T>(p.C),
       db = poisoned<T>(p.C);
  const T alpha{0.5};
  if (adds) {
    add_dyt_forward(x.data(), f.data(), alpha, w.data(), b.data(), p.rows, p.C, s.data(), y.data());
  } else {
    s = x;
    dyt_forward(x.data(), alpha, w.data(), b.data(), p.rows, p.C, y.data());
  }
  T dalpha{0};
  dyt_backward(dy.data(), s.data(), alpha, w.data(), p.rows, p.C, dx.data(), false, &dalpha, false,
               dw.data(), false, db.data(), false);
  for (const auto* part : {&dx, &dw, &db}) y.insert(y.end(), part->begin(), part->end());
  y.push_back(dalpha);
  return y;
}

template <class T>
std::vector<T> run_head_norm(const Problem& p) {
  auto x = cast<T>(p.x), gain = cast<T>(p.w), shift = cast<T>(p.b), dy = cast<T>(p.dy);
  const std::vector<int64_t> bounds = {0, p.C / 3, p.C / 2, p.C - 1};  // the last column passes
  const HeadGroups groups{bounds.data(), 3, true};
  auto xhat = poisoned<T>(p.rows * (p.C - 1)), rstd = poisoned<T>(p.rows * 3);
  auto dgain = poisoned<T>(p.C - 1), dshift = poisoned<T>(p.C - 1);
  head_norm_forward(x.data(), p.rows, p.C, groups, gain.data(), shift.data(), static_cast<T>(kEps),
                    xhat.data(), rstd.data());
  head_norm_backward(dy.data(), p.rows, p.C, groups, gain.data(), xhat.data(), rstd.data(),
                     dgain.data(), dshift.data());
  for (const auto* part : {&dy, &dgain, &dshift}) x.insert(x.end(), part->begin(), part->end());
  return x;
}

}  // namespace

TEST_CASE("scale_norm and dyt match plain maths", "[core][kernels][norm]") {
  const bool adds = GENERATE(false, true);
  const RowShape shape = generate_row_shape();
  RandomValues random(11);
  const Problem p = make_problem(random, shape, true, true, false);
  Values s = p.x;
  for (size_t i = 0; adds && i < s.size(); ++i) s[i] += p.f[i];
  const double rounding = 1e-15 * static_cast<double>(p.C + 10);
  const auto first = [&p](Values all) {
    all.resize(p.x.size());
    return all;
  };
  CHECK(relative_error(first(run_scale_norm<double>(p, adds)),
                       reference::scale_norm(s, 3.0, p.C, kEps)) <= rounding);
  CHECK(relative_error(first(run_dyt<double>(p, adds)), reference::dyt(s, 0.5, p.w, p.b, p.C),
                       1.0) <= rounding);
}

TEST_CASE(
    "scale_norm, dyt and head norms in float stay within rounding of double, and have the "
    "same bits for every number of threads",
    "[core][kernels][norm]") {
  const bool adds = GENERATE(false, true);
  RandomValues random(12);
  Problem p = make_problem(random, {331, 131}, true, true, false);
  for (Values* values : {&p.x, &p.f, &p.w, &p.b, &p.dy}) {
    for (double& value : *values) value = static_cast<double>(static_cast<float>(value));
  }
  // Sums of up to 331 or 131 terms; relative to the largest entry of all outputs.
  const double bound = 131.0 * kFloatRounding;
  CHECK(relative_error(run_scale_norm<float>(p, adds), run_scale_norm<double>(p, adds)) <= bound);
  CHECK(relative_error(run_dyt<float>(p, adds), run_dyt<double>(p, adds)) <= bound);
  CHECK(relative_error(run_head_norm<float>(p), run_head_norm<double>(p)) <= bound);
  CHECK(same_bits_for_all_threads([&] { return run_scale_norm<float>(p, adds); }));
  CHECK(same_bits_for_all_threads([&] { return run_dyt<float>(p, adds); }));
  CHECK(same_bits_for_all_threads([&] { return run_head_norm<float>(p); }));
}

TEST_CASE("scale_norm, dyt and head norms keep a NaN in its row", "[core][kernels][norm]") {
  RandomValues random(13);
  Problem p = make_problem(random, {3, 17}, true, true, false);
  p.x[20] = std::numeric_limits<double>::quiet_NaN();
  const auto scaled = run_scale_norm<float>(p, false);
  const auto squashed = run_dyt<float>(p, false);
  for (size_t i = 0; i < p.x.size(); ++i) {
    CAPTURE(i);
    CHECK(std::isnan(scaled[i]) == (i / 17 == 1));
    CHECK(std::isnan(squashed[i]) == (i == 20));
  }
  CHECK(std::isnan(run_head_norm<float>(p)[20]));
}

}  // namespace ballast
