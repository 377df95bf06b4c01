// Softcap, distance bias, windows, chunks and sinks, alone and together.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/kernels/attention.h"
#include "core/scratch.h"
#include "tests/core/kernels/attention_case.h"
#include "tests/support/catch.h"

namespace ballast {

using namespace attention_test;

namespace {

struct Local {
  int64_t window;
  LocalKind kind = LocalKind::window;
};

std::vector<Modes> all_modes(const std::vector<Local>& locals) {
  std::vector<Modes> modes;
  for (const double cap : {0.0, 2.0}) {
    for (const Bias bias : {Bias::none, Bias::after_cap, Bias::before_cap}) {
      if (bias == Bias::before_cap && cap == 0.0) continue;
      for (const Local& local : locals) {
        for (const Sink sink : {Sink::none, Sink::zero, Sink::learned}) {
          modes.push_back({cap, bias, local.window, local.kind, sink});
        }
      }
    }
  }
  return modes;
}

const Modes kEverything{2.0, Bias::before_cap, 100, LocalKind::window, Sink::learned};
const std::vector<Modes> kSomeModes = {
    kEverything,
    {2.0, Bias::after_cap, 70, LocalKind::chunk, Sink::learned},
    {30.0, Bias::none, 0, LocalKind::window, Sink::none},
    {0.0, Bias::after_cap, 0, LocalKind::window, Sink::learned},
    {0.0, Bias::none, 33, LocalKind::window, Sink::zero},
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
bool all_finite(const std::vector<T>& x) {
  for (const T value : x) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

struct GradientBounds {
  std::vector<double> dq, dkv, dbias, dsink;
};

// First-order bounds of what float32 does to each gradient, from the exact values, in shares of
// e, the relative error of a probability, and hd u, that of a dot product:
//   dp = z do.v, D = do.o = sum_j p dp   one share of their absolute products |dp| and |D|
//   ds = slope p (dp - D)                two shares of p (|dp| + |D|); a third for the slope, which
//                                        is wrong by 2 / cap <= 1 times the error of the logit
//   dq, dk, dv, dbias, dsink             a fourth for their sums, since e has 2 T u
GradientBounds bounds_of(const Case<double>& c, double e) {
  const Sizes& s = c.sizes;
  const reference::AttentionModes modes = c.reference_modes();
  const int64_t n_distances = c.logits().n_distances;
  const double scale = c.shape.scale;
  GradientBounds bounds{std::vector<double>(c.q.size()), std::vector<double>(c.kv.size()),
                        std::vector<double>(c.bias.size()), std::vector<double>(c.sink.size())};
  std::vector<double> p(at(c.shape.Tk)), dp(p), kept(p);
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t h = 0; h < s.H; ++h) {
      const int64_t kv = h * s.K / s.H;
      for (int64_t i = 0; i < s.T; ++i) {
        const int64_t position = s.offset + i;
        const double lse = c.lse[at((b * s.H + h) * s.T + i)];
        double D = 0.0;
        for (int64_t j = 0; j <= position; ++j) {
          p[at(j)] = dp[at(j)] = 0.0;
          if (!modes.sees(position, j)) continue;
          const bool is_kept = c.dropout.rate == 0.0 || attention_keeps(c.dropout, s.H, b, h, i, j);
          kept[at(j)] = is_kept ? 1.0 / (1.0 - c.dropout.rate) : 0.0;
          double product = 0.0;
          for (int64_t d = 0; d < s.hd; ++d) {
            product += c.q[c.q_at(b, i, h, d)] * c.kv[c.k_at(b, j, kv, d)];
            dp[at(j)] +=
                kept[at(j)] * std::fabs(c.dout[c.o_at(b, i, h, d)] * c.kv[c.v_at(b, j, kv, d)]);
          }
          const double bias = c.bias.empty() ? 0.0 : c.bias[at(h * n_distances + position - j)];
          p[at(j)] = std::exp(reference::attention_logit(modes, scale * product, bias) - lse);
          D += p[at(j)] * dp[at(j)];
        }
        for (int64_t j = 0; j <= position; ++j) {
          if (p[at(j)] == 0.0) continue;
          const double ds = p[at(j)] * (dp[at(j)] + D);
          for (int64_t d = 0; d < s.hd; ++d) {
            const size_t q = c.q_at(b, i, h, d);
            const size_t k = c.k_at(b, j, kv, d);
            bounds.dq[q] += scale * ds * std::fabs(c.kv[k]);
            bounds.dkv[k] += scale * ds * std::fabs(c.q[q]);
            bounds.dkv[c.v_at(b, j, kv, d)] +=
                p[at(j)] * kept[at(j)] * std::fabs(c.dout[c.o_at(b, i, h, d)]);
          }
          if (!c.bias.empty()) bounds.dbias[at(h * n_distances + position - j)] += ds;
        }
        if (!c.sink.empty()) bounds.dsink[at(h)] += std::exp(c.sink[at(h)] - lse) * D;
      }
    }
  }
  const double shares = 4.0 * (e + static_cast<double>(s.hd) * 0x1p-24);
  for (auto* bound : {&bounds.dq, &bounds.dkv, &bounds.dbias, &bounds.dsink}) {
    for (double& value : *bound) value *= shares;
  }
  return bounds;
}

}  // namespace

TEMPLATE_TEST_CASE("attention equals the plain formula in every mode", "[core][attention]", float,
                   double) {
  const Sizes sizes = GENERATE(Sizes{2, 7, 2, 1, 5}, Sizes{1, 200, 2, 1, 8}, Sizes{1, 130, 3, 3, 3},
                               Sizes{1, 70, 2, 2, 16, 100}, Sizes{2, 1, 4, 2, 24, 300},
                               Sizes{1, 3, 5, 2, 9, 600}, Sizes{1, 40, 2, 1, 4, 31});
  INFO(sizes);
  const WithThreads one(1);
  const auto modes = all_modes({{0},
                                {1},
                                {3},
                                {37},
                                {64},
                                {100},
                                {128},
                                {1000},
                                {1, LocalKind::chunk},
                                {50, LocalKind::chunk},
                                {64, LocalKind::chunk},
                                {1000, LocalKind::chunk}});
  for (const Modes& mode : modes) {
    INFO(mode);
    Case<TestType> c(sizes, 31, 1.0, mode);
    c.forward();
    if (!(forward_error(c) <= 1.0)) FAIL("error " << forward_error(c));
    const auto want = c.exact().max_logit_BHT;
    const double allowed = bound_of(c).logit;
    for (int64_t head = 0; head < sizes.B * sizes.H; ++head) {
      const auto* rows = want.data() + head * sizes.T;
      const double most = *std::max_element(rows, rows + sizes.T);
      if (!(std::fabs(static_cast<double>(c.max_logit[at(head)]) - most) <= allowed)) {
        FAIL("max_logit " << c.max_logit[at(head)] << " expected " << most);
      }
    }
  }
}

TEST_CASE("attention gradients equal central differences in every mode in float64",
          "[core][attention]") {
  const Sizes sizes =
      GENERATE(Sizes{2, 9, 2, 1, 3}, Sizes{1, 150, 2, 1, 3}, Sizes{1, 70, 2, 2, 4, 90});
  const double rate = GENERATE(0.0, 0.25);
  INFO(sizes);
  CAPTURE(rate);
  const WithThreads one(1);  // thousands of tiny calls
  const Sizes& s = sizes;
  for (const Modes& mode : all_modes({{0}, {1}, {5}, {70}, {128}, {50, LocalKind::chunk}})) {
    INFO(mode);
    Case<double> c(sizes, 32, 1.0, mode);
    c.dropout = {rate, 99, 4};
    c.forward();
    c.backward();
    const auto loss = [&] {
      c.forward();
      double sum = 0.0;
      for (int64_t row = 0; row < s.B * s.T; ++row) {
        for (int64_t x = 0; x < s.H * s.hd; ++x) {
          sum += c.out[c.o_at(0, row, 0, x)] * c.dout[c.o_at(0, row, 0, x)];
        }
      }
      return sum;
    };
    // As in attention_test.cpp: rounding costs 1e-10 at h = 1e-4, and the fourth-order difference
    // leaves nothing of that size to the third derivative.
    const auto numeric = [&](double& x) {
      const double old = x;
      const auto slope = [&](double h) {
        x = old + h;
        const double up = loss();
        x = old - h;
        const double down = loss();
        x = old;
        return (up - down) / (2.0 * h);
      };
      const double h = 1e-4;
      return (4.0 * slope(h / 2.0) - slope(h)) / 3.0;
    };
    struct Entry {
      double analytic, numeric;
    };
    std::vector<Entry> tensors[5];
    RandomValues random(33);
    const auto draw = [&](std::vector<Entry>& entries, std::vector<double>& x,
                          const std::vector<double>& dx, size_t i) {
      entries.push_back({dx[i], numeric(x[i])});
    };
    for (int64_t n = 0; n < 6; ++n) {
      const int64_t b = random.integer(s.B);
      const int64_t j = random.integer(c.shape.Tk);
      const int64_t kv = random.integer(s.K);
      const int64_t d = random.integer(s.hd);
      draw(tensors[0], c.q, c.dq, c.q_at(b, random.integer(s.T), random.integer(s.H), d));
      draw(tensors[1], c.kv, c.dkv, c.k_at(b, j, kv, d));
      draw(tensors[2], c.kv, c.dkv, c.v_at(b, j, kv, d));
      const auto n_bias = static_cast<int64_t>(c.bias.size());
      if (n_bias > 0) draw(tensors[3], c.bias, c.dbias, at(random.integer(n_bias)));
    }
    for (size_t h = 0; h < c.sink.size(); ++h) draw(tensors[4], c.sink, c.dsink, h);
    double of_all = 0.0;
    for (const auto& tensor : tensors) {
      for (const Entry& e : tensor) of_all = std::max(of_all, std::fabs(e.numeric));
    }
    for (const auto& tensor : tensors) {
      double size = 0.01 * of_all;
      for (const Entry& e : tensor) size = std::max(size, std::fabs(e.numeric));
      for (const Entry& e : tensor) {
        if (!(std::fabs(e.analytic - e.numeric) / size <= 1e-7)) {
          FAIL("tensor " << &tensor - tensors << ": " << e.analytic << ", numeric " << e.numeric);
        }
      }
    }
  }
}

TEST_CASE("attention gradients of the modes in float32 are those of float64 to rounding",
          "[core][attention]") {
  const Sizes sizes =
      GENERATE(Sizes{2, 150, 4, 2, 16}, Sizes{1, 65, 2, 1, 33}, Sizes{1, 300, 2, 2, 8});
  const double rate = GENERATE(0.0, 0.2);
  const Modes mode = GENERATE(from_range(kSomeModes));
  INFO(sizes << ", " << mode << ", dropout " << rate);
  Case<float> c(sizes, 34, 1.0, mode);
  c.dropout = {rate, 7, 0};
  Case<double> exact = c.as<double>();
  c.forward();
  c.backward();
  exact.forward();
  exact.backward();
  const GradientBounds bounds = bounds_of(exact, bound_of(c).probability);
  const auto check_close = [](const char* what, const auto& got, const auto& want,
                              const auto& bound) {
    double worst = 0.0;
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::isnan(got[i]) && std::isnan(want[i])) continue;  // gaps
      const double error = std::fabs(static_cast<double>(got[i]) - want[i]);
      const double share = error == 0.0 ? 0.0 : error / bound[i];
      worst = share <= worst ? worst : share;
    }
    INFO(what);
    CHECK(worst <= 1.0);
    // A gradient that is left out, or wrong by a tenth, does not pass.
    if (!got.empty()) CHECK(largest(bound) <= 0.1 * largest(want));
  };
  check_close("dq", c.dq, exact.dq, bounds.dq);
  check_close("dk, dv", c.dkv, exact.dkv, bounds.dkv);
  check_close("dbias", c.dbias, exact.dbias, bounds.dbias);
  check_close("dsink", c.dsink, exact.dsink, bounds.dsink);
}

TEST_CASE("attention gives the same bits with 1, 2, 3 and 4 threads in every mode",
          "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{1, 300, 1, 1, 16}, Sizes{5, 129, 2, 1, 32},
                               Sizes{2, 1, 4, 2, 64, 999}, Sizes{1, 100, 3, 1, 8, 30});
  const Modes mode = GENERATE(from_range(kSomeModes));
  const double rate = GENERATE(0.0, 0.1);
  INFO(sizes << ", " << mode << ", dropout " << rate);
  Case<float> first(sizes, 35, 1.0, mode);
  first.dropout = {rate, 5, 0};
  {
    const WithThreads one(1);
    first.forward();
    first.backward();
  }
  for (int threads = 2; threads <= 4; ++threads) {
    CAPTURE(threads);
    Case<float> again = first;
    const WithThreads many(threads);
    again.forward();
    again.backward();
    CHECK(same_bits(first.out, again.out));
    CHECK(same_bits(first.lse, again.lse));
    CHECK(same_bits(first.max_logit, again.max_logit));
    CHECK(same_bits(first.dq, again.dq));
    CHECK(same_bits(first.dkv, again.dkv));
    CHECK(same_bits(first.dbias, again.dbias));
    CHECK(same_bits(first.dsink, again.dsink));
  }
}

TEST_CASE("a window or chunk that holds all keys changes no bit", "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{2, 200, 2, 1, 16}, Sizes{1, 1, 2, 2, 16, 500});
  const LocalKind kind = GENERATE(LocalKind::window, LocalKind::chunk);
  Case<float> plain(sizes, 36);
  Case<float> local = plain;
  local.shape.window = plain.shape.Tk;
  local.shape.local = kind;
  for (auto* c : {&plain, &local}) {
    c->forward();
    c->backward();
  }
  CHECK(same_bits(plain.out, local.out));
  CHECK(same_bits(plain.lse, local.lse));
  CHECK(same_bits(plain.dq, local.dq));
  CHECK(same_bits(plain.dkv, local.dkv));
}

TEST_CASE("a query of a local layer ignores keys before its window to the last bit",
          "[core][attention]") {
  const Local local =
      GENERATE(Local{1}, Local{40}, Local{64}, Local{100}, Local{70, LocalKind::chunk});
  const int64_t changed_keys = GENERATE(1, 63, 64, 65, 130);
  CAPTURE(local.window, changed_keys);
  const Sizes sizes{1, 300, 2, 2, 16};
  Case<float> c(sizes, 37, 1.0, {0.0, Bias::none, local.window, local.kind, Sink::none});
  Case<float> changed = c;
  for (int64_t j = 0; j < changed_keys; ++j) {
    for (int64_t x = 0; x < c.shape.k_stride; ++x) changed.kv[c.k_at(0, j, 0, x)] = -1e6F;
  }
  c.forward();
  changed.forward();
  for (int64_t i = 0; i < sizes.T; ++i) {
    bool same = true;
    for (int64_t x = 0; x < sizes.H * sizes.hd; ++x) {
      same = same && c.out[c.o_at(0, i, 0, x)] == changed.out[c.o_at(0, i, 0, x)];
    }
    if (same != (c.shape.first_key(i) >= changed_keys)) FAIL("query " << i);
  }
}

TEST_CASE("tiles that a window or chunk empties spoil no output and no gradient",
          "[core][attention]") {
  const Local local = GENERATE(Local{100}, Local{192, LocalKind::chunk});
  const int threads = GENERATE(1, 4);  // the gradients together, and apart
  const WithThreads scope(threads);
  Case<float> c({1, 384, 1, 1, 16}, 38, 1.0,
                {0.0, Bias::none, local.window, local.kind, Sink::none});
  for (int64_t j = 0; j < 64; ++j) {
    for (int64_t x = 0; x < c.shape.k_stride; ++x) {
      c.kv[c.k_at(0, j, 0, x)] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  c.forward();
  for (int64_t i = 192; i < 384; ++i) {
    for (int64_t x = 0; x < 16; ++x) {
      if (!std::isfinite(c.out[c.o_at(0, i, 0, x)])) FAIL("out of query " << i);
    }
  }
  // The queries that do see them are made harmless, so that only reading them could spoil a
  // gradient.
  for (int64_t i = 0; i < 192; ++i) {
    for (int64_t x = 0; x < 16; ++x) c.out[c.o_at(0, i, 0, x)] = c.dout[c.o_at(0, i, 0, x)] = 0.0F;
    c.lse[at(i)] = 0.0F;
  }
  c.backward();
  for (int64_t i = 192; i < 384; ++i) {
    for (int64_t x = 0; x < 16; ++x) {
      if (!std::isfinite(c.dq[c.q_at(0, i, 0, x)])) FAIL("dq of query " << i);
      if (!std::isfinite(c.dkv[c.k_at(0, i, 0, x)])) FAIL("dk of key " << i);
      if (!std::isfinite(c.dkv[c.v_at(0, i, 0, x)])) FAIL("dv of key " << i);
    }
  }
}

TEST_CASE("a NaN key reaches exactly the queries that see it", "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{1, 200, 2, 2, 16}, Sizes{1, 4, 2, 2, 16, 96});
  const Modes mode = GENERATE(Modes{0.0, Bias::none, 10, LocalKind::window, Sink::none},
                              Modes{2.0, Bias::after_cap, 70, LocalKind::window, Sink::learned},
                              Modes{2.0, Bias::before_cap, 0, LocalKind::window, Sink::zero},
                              Modes{0.0, Bias::none, 90, LocalKind::chunk, Sink::learned});
  INFO(sizes << ", " << mode);
  Case<float> c(sizes, 39, 1.0, mode);
  const int64_t bad = 89;
  c.kv[c.k_at(0, bad, 0, 3)] = std::numeric_limits<float>::quiet_NaN();
  c.forward();
  bool seen_by_any = false;
  for (int64_t i = 0; i < sizes.T; ++i) {
    const bool sees = c.reference_modes().sees(sizes.offset + i, bad);
    seen_by_any = seen_by_any || sees;
    CHECK(std::isnan(c.out[c.o_at(0, i, 0, 0)]) == sees);
    CHECK(std::isnan(c.lse[at(i)]) == sees);
    CHECK(std::isfinite(c.out[c.o_at(0, i, 1, 0)]));
  }
  CHECK(std::isnan(c.max_logit[0]) == seen_by_any);
  CHECK(std::isfinite(c.max_logit[1]));
}

TEST_CASE("a NaN in a bias or a sink reaches the outputs", "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{1, 80, 2, 1, 8}, Sizes{1, 1, 2, 1, 8, 79});
  Case<float> c(sizes, 40, 1.0, kEverything);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Case<float> of_bias = c;
  of_bias.bias[at(static_cast<int64_t>(c.bias.size()) / 2)] = nan;  // distance 0 of head 1
  of_bias.forward();
  CHECK(std::isfinite(of_bias.out[c.o_at(0, 0, 0, 0)]));
  CHECK(std::isnan(of_bias.out[c.o_at(0, 0, 1, 0)]));
  CHECK(std::isnan(of_bias.max_logit[1]));
  Case<float> of_sink = c;
  of_sink.sink[1] = nan;
  of_sink.forward();
  CHECK(std::isfinite(of_sink.out[c.o_at(0, 0, 0, 0)]));
  CHECK(std::isnan(of_sink.out[c.o_at(0, 0, 1, 0)]));
  CHECK(std::isfinite(of_sink.max_logit[1]));
}

TEST_CASE("a sink takes its share of the probability and no more", "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{1, 80, 1, 1, 8}, Sizes{1, 1, 1, 1, 8, 79});
  Case<double> plain(sizes, 41);
  Case<double> c(sizes, 41, 1.0, {0.0, Bias::none, 0, LocalKind::window, Sink::learned});
  plain.forward();
  SECTION("equal to all keys together it takes half") {
    c.sink[0] = plain.lse[0];
    c.forward();
    CHECK(c.out[0] == Approx(0.5 * plain.out[0]).epsilon(1e-13));
    CHECK(c.lse[0] == Approx(plain.lse[0] + std::log(2.0)).epsilon(1e-13));
  }
  SECTION("far above the logits it takes all, without overflow") {
    c.sink[0] = 1e4;
    c.forward();
    c.backward();
    CHECK(c.out[0] == 0.0);
    CHECK(c.lse[0] == 1e4);
    CHECK(c.max_logit[0] == plain.max_logit[0]);
    CHECK(c.dsink[0] == 0.0);
    CHECK(all_finite(c.dsink));
  }
  SECTION("far below them it takes nothing") {
    c.sink[0] = -1e4;
    c.forward();
    c.backward();
    CHECK(c.out[0] == plain.out[0]);
    CHECK(c.lse[0] == plain.lse[0]);
    CHECK(c.dsink[0] == 0.0);
  }
}

TEST_CASE("softcapped logits of any size stay within the cap", "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{1, 80, 2, 1, 16}, Sizes{1, 1, 2, 1, 16, 79});
  Case<float> c(sizes, 42, 1e4, {50.0, Bias::none, 0, LocalKind::window, Sink::none});
  c.forward();
  CHECK(c.max_logit[0] > 49.0F);
  CHECK(c.max_logit[0] <= 50.0F);
  CHECK(forward_error(c) <= 1.0);
  c.backward();
  for (int64_t i = 0; i < sizes.T; ++i) CHECK(std::isfinite(c.dq[c.q_at(0, i, 0, 0)]));
}

TEST_CASE("a saturated softcap keeps the digits of its small slope", "[core][attention]") {
  // Two keys with equal logits share the probability; the slope is all that varies.
  const float ratio = GENERATE(0.5F, 3.0F, 5.0F, 7.0F, 9.5F, 12.0F);  // of logit to cap
  CAPTURE(ratio);
  Case<float> c({1, 2, 1, 1, 1}, 45, 1.0, {2.0, Bias::none, 0, LocalKind::window, Sink::none});
  c.q[c.q_at(0, 1, 0, 0)] = 2.0F * ratio;
  for (int64_t j = 0; j < 2; ++j) c.kv[c.k_at(0, j, 0, 0)] = 1.0F;
  Case<double> exact = c.as<double>();
  c.forward();
  c.backward();
  exact.forward();
  exact.backward();
  // The slope changes by 2 |x| u for a rounding of its argument x, which has three.
  const size_t k = c.k_at(0, 1, 0, 0);
  CHECK(exact.dkv[k] != 0.0);
  CHECK(c.dkv[k] == Approx(exact.dkv[k]).epsilon(100.0 * 0x1p-24));
}

TEST_CASE("the gradient of a distance bias takes memory that grows with T, not with its square",
          "[core][attention]") {
  // One sum for each pair of a key tile and a distance would be 17 MB.
  const Sizes sizes{1, 8192, 2, 2, 4};
  Case<float> c(sizes, 46, 1.0, {0.0, Bias::after_cap, 0, LocalKind::window, Sink::none});
  c.forward();
  Case<float> alone = c;
  {
    const WithThreads many(4);
    const int64_t before = scratch_bytes();
    c.backward();
    CHECK(scratch_bytes() - before <= 10 << 20);
  }
  const WithThreads one(1);
  alone.backward();
  CHECK(all_finite(c.dbias));
  CHECK(same_bits(alone.dbias, c.dbias));
}

TEST_CASE("the gradients of bias and sink are written or added to, as asked", "[core][attention]") {
  Case<double> c({2, 70, 2, 1, 4}, 43, 1.0, kEverything);
  c.forward();
  c.backward();
  const Case<double> once = c;
  AttentionTableGradients<double> tables{c.dbias.data(), c.dsink.data(), true, true};
  attention_backward(c.shape, c.q.data(), c.kv.data(), c.kv.data() + c.v_column(), c.out.data(),
                     c.lse.data(), c.dout.data(), c.dq.data(), c.dkv.data(),
                     c.dkv.data() + c.v_column(), c.logits(), {}, tables);
  for (size_t i = 0; i < c.dbias.size(); ++i) CHECK(c.dbias[i] == 2.0 * once.dbias[i]);
  for (size_t h = 0; h < c.dsink.size(); ++h) CHECK(c.dsink[h] == 2.0 * once.dsink[h]);
  CHECK(largest(once.dbias) > 0.01);
  CHECK(largest(once.dsink) > 0.01);
}

TEST_CASE("attention over a ring equals attention over rows in order", "[core][attention]") {
  const Local local = GENERATE(Local{300}, Local{70}, Local{1}, Local{300, LocalKind::chunk},
                               Local{7, LocalKind::chunk});
  const int64_t room = GENERATE(0, 5);  // rows beyond the window
  CAPTURE(local.window, room);
  for (const int64_t offset : {0, 6, 299, 300, 511, 640, 1199}) {
    CAPTURE(offset);
    Case<float> c({2, 1, 20, 1, 16, offset}, 44, 1.0,
                  {20.0, Bias::after_cap, local.window, local.kind, Sink::learned});
    Case<float> ring = c;
    ring.shape.ring = local.window + room;
    ring.kv.assign(at(2 * ring.shape.ring * c.shape.k_stride),
                   std::numeric_limits<float>::quiet_NaN());
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t j = std::max<int64_t>(0, offset + 1 - ring.shape.ring); j <= offset; ++j) {
        std::copy_n(
            c.kv.begin() + static_cast<std::ptrdiff_t>(c.k_at(b, j, 0, 0)), c.shape.k_stride,
            ring.kv.begin() + static_cast<std::ptrdiff_t>(
                                  (b * ring.shape.ring + j % ring.shape.ring) * c.shape.k_stride));
      }
    }
    c.forward();
    ring.forward();
    const double allowed = 2.0 * bound_of(c).probability * largest_of(c.kv);
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t x = 0; x < 20 * 16; ++x) {
        const size_t i = c.o_at(b, 0, 0, x);
        if (!(std::fabs(static_cast<double>(c.out[i] - ring.out[i])) <= allowed))
          FAIL("column " << x);
      }
    }
  }
}

TEST_CASE("attention's scratch memory stops growing after one step in every mode",
          "[core][attention]") {
  Case<float> c({2, 200, 4, 2, 32}, 45, 1.0, kEverything);
  const WithThreads threads(1);  // which thread meets which task is left to chance
  c.forward();
  c.backward();
  const int64_t bytes = scratch_bytes();
  c.forward();
  c.backward();
  CHECK(scratch_bytes() == bytes);
}

TEST_CASE("attention refuses modes that contradict its sizes", "[core][attention]") {
  Case<float> c({1, 4, 2, 2, 8}, 46, 1.0, kEverything);
  SECTION("a bias that is too short") {
    c.bias.resize(6);
    CHECK_THROWS_WITH(c.forward(), "[causal_attention] a bias of 3 distances for 4");
  }
  SECTION("a negative window") {
    c.shape.window = -1;
    CHECK_THROWS_WITH(c.forward(), ContainsSubstring("the window is -1"));
  }
  SECTION("a negative cap") {
    c.modes.softcap = -1.0;
    CHECK_THROWS_WITH(c.forward(), ContainsSubstring("softcap is -1"));
  }
  SECTION("a ring that does not hold what is seen") {
    c.shape.ring = 3;
    CHECK_THROWS_WITH(c.forward(), "[causal_attention] a ring of 3 rows for 4 keys");
  }
  SECTION("a backward over a ring") {
    c.forward();
    c.shape.ring = 4;
    CHECK_THROWS_WITH(c.backward(), ContainsSubstring("a ring has no backward"));
  }
}

}  // namespace ballast
