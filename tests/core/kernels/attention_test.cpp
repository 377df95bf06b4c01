#include "core/kernels/attention.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/scratch.h"
#include "tests/core/kernels/attention_case.h"
#include "tests/support/catch.h"

namespace ballast {

using namespace attention_test;

namespace {

const std::vector<Sizes> kManySizes = {
    {1, 1, 1, 1, 1},       {2, 1, 4, 4, 64},      {1, 2, 2, 1, 3},       {2, 15, 2, 2, 24},
    {1, 17, 1, 1, 7},      {1, 63, 2, 2, 16},     {2, 64, 2, 1, 32},     {1, 65, 3, 3, 33},
    {1, 130, 2, 2, 80},    {1, 129, 4, 1, 20},    {1, 200, 6, 2, 5},     {2, 70, 5, 2, 9},
    {1, 66, 1, 1, 128},    {1, 257, 1, 1, 64},    {1, 300, 2, 1, 8},     {1, 40, 1, 1, 256},
    {1, 1, 4, 2, 64, 5},   {2, 1, 3, 1, 24, 64},  {1, 3, 2, 2, 17, 63},  {1, 8, 2, 1, 64, 300},
    {1, 1, 20, 1, 8, 9},   {1, 30, 2, 1, 9, 1},   {1, 65, 1, 1, 12, 20}, {1, 70, 2, 2, 16, 100},
    {2, 64, 1, 1, 40, 64}, {1, 1, 2, 2, 64, 1000}};

}  // namespace

TEMPLATE_TEST_CASE("attention equals the plain formula", "[core][attention]", float, double) {
  const Sizes sizes = GENERATE(from_range(kManySizes));
  INFO(sizes);
  Case<TestType> c(sizes, 11);
  c.forward();
  CHECK(forward_error(c) <= 1.0);
}

TEMPLATE_TEST_CASE("attention of logits in the tens of thousands neither overflows nor makes NaN",
                   "[core][attention]", float, double) {
  const Sizes sizes = GENERATE(Sizes{1, 70, 2, 1, 16}, Sizes{2, 1, 2, 2, 16, 600});
  INFO(sizes);
  Case<TestType> c(sizes, 12, 1e4);
  c.forward();
  CHECK(largest_of(c.max_logit) > 1e4);
  CHECK(forward_error(c) <= 1.0);
  c.backward();
  for (int64_t b = 0; b < sizes.B; ++b) {
    for (int64_t i = 0; i < sizes.T; ++i) {
      for (int64_t x = 0; x < sizes.H * sizes.hd; ++x) {
        if (!std::isfinite(c.dq[c.q_at(b, i, 0, x)])) FAIL("dq is not finite at row " << i);
      }
    }
    for (int64_t j = 0; j < c.shape.Tk; ++j) {
      for (int64_t x = 0; x < sizes.K * sizes.hd; ++x) {
        if (!std::isfinite(c.dkv[c.k_at(b, j, 0, x)])) FAIL("dk is not finite at row " << j);
        if (!std::isfinite(c.dkv[c.v_at(b, j, 0, x)])) FAIL("dv is not finite at row " << j);
      }
    }
  }
}

TEST_CASE("attention gradients equal central differences in float64", "[core][attention]") {
  const Sizes sizes =
      GENERATE(Sizes{1, 1, 1, 1, 4}, Sizes{2, 2, 2, 1, 3}, Sizes{1, 17, 2, 2, 5},
               Sizes{1, 65, 2, 1, 4}, Sizes{1, 64, 3, 1, 16}, Sizes{2, 130, 2, 2, 3},
               Sizes{1, 70, 5, 2, 6}, Sizes{1, 40, 2, 1, 7, 50}, Sizes{1, 3, 2, 2, 9, 130});
  const double rate = GENERATE(0.0, 0.3);
  CAPTURE(rate);
  INFO(sizes);
  const WithThreads one(1);  // thousands of tiny calls
  Case<double> c(sizes, 13);
  c.dropout = {rate, 99, 4};
  c.forward();
  c.backward();
  const Sizes& s = sizes;

  const auto loss = [&] {
    c.forward();
    double sum = 0.0;
    for (int64_t b = 0; b < s.B; ++b) {
      for (int64_t i = 0; i < s.T; ++i) {
        for (int64_t x = 0; x < s.H * s.hd; ++x) {
          sum += c.out[c.o_at(b, i, 0, x)] * c.dout[c.o_at(b, i, 0, x)];
        }
      }
    }
    return sum;
  };
  // The loss is near 10 and its rounding near 1e-14: h = 1e-4 costs 1e-10, and the fourth-order
  // difference (h and h/2) leaves nothing of that size to the third derivative.
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
  std::vector<Entry> tensors[3];
  RandomValues random(14);
  constexpr int64_t kSamples = 40;
  for (int64_t n = 0; n < kSamples; ++n) {
    const int64_t b = random.integer(s.B);
    const int64_t i = random.integer(s.T);
    const int64_t j = random.integer(s.T + s.offset);
    const int64_t h = random.integer(s.H);
    const int64_t kv = random.integer(s.K);
    const int64_t d = random.integer(s.hd);
    tensors[0].push_back({c.dq[c.q_at(b, i, h, d)], numeric(c.q[c.q_at(b, i, h, d)])});
    tensors[1].push_back({c.dkv[c.k_at(b, j, kv, d)], numeric(c.kv[c.k_at(b, j, kv, d)])});
    tensors[2].push_back({c.dkv[c.v_at(b, j, kv, d)], numeric(c.kv[c.v_at(b, j, kv, d)])});
  }
  double of_all = 0.0;
  for (const auto& tensor : tensors) {
    for (const Entry& e : tensor) of_all = std::max(of_all, std::fabs(e.numeric));
  }
  for (const auto& tensor : tensors) {
    double error = 0.0, size = 0.0;
    for (const Entry& e : tensor) {
      error = std::max(error, std::fabs(e.analytic - e.numeric));
      size = std::max(size, std::fabs(e.numeric));
      REQUIRE(std::isfinite(e.analytic));
    }
    CHECK(error / std::max(size, 0.01 * of_all) <= 1e-7);
  }
}

TEST_CASE("attention gradients in float32 are those of float64 to rounding", "[core][attention]") {
  const Sizes sizes = GENERATE(from_range(kManySizes));
  const double rate = GENERATE(0.0, 0.2);
  CAPTURE(rate);
  INFO(sizes);
  Case<float> c(sizes, 15);
  c.dropout = {rate, 7, 0};
  Case<double> exact = c.as<double>();
  c.forward();
  c.backward();
  exact.forward();
  exact.backward();

  // ds = p (dp - D): |dp| and |D| are at most the dot product of |do| with the largest |v| (over
  // 1 - rate), each with a relative error below that of p, so |error of ds| <= 4 p |do|.|v| e.
  // Rows of p sum to 1; columns sum to what is computed below.
  const Sizes& s = sizes;
  const double e = bound_of(c).probability + static_cast<double>(s.hd) * 0x1p-24;
  const double kept = 1.0 / (1.0 - rate);
  const double v_size = largest(exact.kv) * kept;
  double do_dot_v = 0.0;
  std::vector<double> columns(at(s.B * s.K * c.shape.Tk));
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t h = 0; h < s.H; ++h) {
      for (int64_t i = 0; i < s.T; ++i) {
        double sum = 0.0;
        for (int64_t d = 0; d < s.hd; ++d) sum += std::fabs(exact.dout[exact.o_at(b, i, h, d)]);
        do_dot_v = std::max(do_dot_v, sum * v_size);
        for (int64_t j = 0; j <= s.offset + i; ++j) {
          double logit = 0.0;
          const int64_t kv = h * s.K / s.H;
          for (int64_t d = 0; d < s.hd; ++d) {
            logit += exact.q[exact.q_at(b, i, h, d)] * exact.kv[exact.k_at(b, j, kv, d)];
          }
          columns[at((b * s.K + kv) * c.shape.Tk + j)] +=
              std::exp(c.shape.scale * logit - exact.lse[at((b * s.H + h) * s.T + i)]);
        }
      }
    }
  }
  const double column = largest(columns);
  const double ds = 4.0 * do_dot_v * e;
  const double dq_bound = c.shape.scale * ds * largest(exact.kv) + e * largest_of(c.dout);
  const double dk_bound = c.shape.scale * ds * largest(exact.q) * column;
  const double dv_bound = 2.0 * e * largest(exact.dout) * column * kept;
  double dq_error = 0.0, dk_error = 0.0, dv_error = 0.0;
  const auto raise = [](double& worst, float value, double want) {
    const double error = std::fabs(static_cast<double>(value) - want);
    worst = error <= worst ? worst : error;
  };
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t i = 0; i < s.T; ++i) {
      for (int64_t x = 0; x < s.H * s.hd; ++x) {
        raise(dq_error, c.dq[c.q_at(b, i, 0, x)], exact.dq[exact.q_at(b, i, 0, x)]);
      }
    }
    for (int64_t j = 0; j < c.shape.Tk; ++j) {
      for (int64_t x = 0; x < s.K * s.hd; ++x) {
        raise(dk_error, c.dkv[c.k_at(b, j, 0, x)], exact.dkv[exact.k_at(b, j, 0, x)]);
        raise(dv_error, c.dkv[c.v_at(b, j, 0, x)], exact.dkv[exact.v_at(b, j, 0, x)]);
      }
    }
  }
  CHECK(dq_error <= dq_bound);
  CHECK(dk_error <= dk_bound);
  CHECK(dv_error <= dv_bound);
}

TEST_CASE("attention writes its own columns and nothing between them", "[core][attention]") {
  const int64_t hd = GENERATE(5, 16, 33);
  CAPTURE(hd);
  const Sizes s{2, 67, 3, 1, hd};
  Case<float> c(s, 16);
  c.forward();
  c.backward();
  for (int64_t row = 0; row < s.B * s.T; ++row) {
    for (int64_t x = 0; x < c.shape.q_stride; ++x) {
      const bool is_gap = x >= s.H * hd;
      if (std::isnan(c.dq[at(row * c.shape.q_stride + x)]) != is_gap) FAIL("dq, column " << x);
    }
    for (int64_t x = 0; x < c.shape.k_stride; ++x) {
      const bool is_gap = x % (s.K * hd + kGap) >= s.K * hd;
      if (std::isnan(c.dkv[at(row * c.shape.k_stride + x)]) != is_gap) FAIL("dkv, column " << x);
    }
    for (int64_t x = 0; x < c.shape.o_stride; ++x) {
      const bool is_gap = x >= s.H * hd;
      if (std::isnan(c.out[at(row * c.shape.o_stride + x)]) != is_gap) FAIL("out, column " << x);
    }
  }
}

TEST_CASE("attention gives the same bits with 1, 2, 3 and 4 threads", "[core][attention]") {
  const Sizes sizes =
      GENERATE(Sizes{1, 300, 1, 1, 16}, Sizes{1, 200, 6, 2, 24}, Sizes{5, 129, 2, 1, 32},
               Sizes{2, 150, 4, 4, 20}, Sizes{2, 1, 4, 2, 64, 999}, Sizes{1, 100, 3, 1, 8, 30});
  const double rate = GENERATE(0.0, 0.1);
  INFO(sizes);
  Case<float> first(sizes, 17);
  first.dropout = {rate, 5, 0};
  {
    const WithThreads one(1);
    first.forward();
    first.backward();
  }
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  };
  for (int threads = 2; threads <= 4; ++threads) {
    CAPTURE(threads);
    Case<float> again = first;
    const WithThreads many(threads);
    again.forward();
    again.backward();
    CHECK(same(first.out, again.out));
    CHECK(same(first.lse, again.lse));
    CHECK(same(first.max_logit, again.max_logit));
    CHECK(same(first.dq, again.dq));
    CHECK(same(first.dkv, again.dkv));
  }
}

TEST_CASE("attention over a cache equals the rows of the whole sequence", "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{2, 140, 4, 2, 24}, Sizes{1, 300, 3, 3, 16});
  const int64_t step = GENERATE(1, 7, 40);
  CAPTURE(step);
  INFO(sizes);
  Case<float> whole(sizes, 18);
  whole.forward();
  const double allowed = 2.0 * bound_of(whole).probability * largest_of(whole.kv);
  double worst = 0.0;
  for (int64_t t = 0; t < sizes.T; t += step) {
    const int64_t queries = std::min(step, sizes.T - t);
    Case<float> part({sizes.B, queries, sizes.H, sizes.K, sizes.hd, t});
    part.shape.kv_rows = sizes.T;
    part.dout.resize(at(sizes.B * queries * part.shape.o_stride));
    part.kv = whole.kv;
    // What the cache holds beyond the keys written so far must not matter.
    for (int64_t b = 0; b < sizes.B; ++b) {
      for (int64_t j = t + queries; j < sizes.T; ++j) {
        for (int64_t x = 0; x < whole.shape.k_stride; ++x) {
          part.kv[whole.k_at(b, j, 0, x)] = std::numeric_limits<float>::quiet_NaN();
        }
      }
      const auto* first = whole.q.data() + whole.q_at(b, t, 0, 0);
      part.q.insert(part.q.end(), first, first + queries * whole.shape.q_stride);
    }
    part.forward();
    for (int64_t b = 0; b < sizes.B; ++b) {
      for (int64_t i = 0; i < queries; ++i) {
        for (int64_t x = 0; x < sizes.H * sizes.hd; ++x) {
          const double error =
              std::fabs(static_cast<double>(part.out[part.o_at(b, i, 0, x)]) -
                        static_cast<double>(whole.out[whole.o_at(b, t + i, 0, x)]));
          worst = error <= worst ? worst : error;
        }
      }
    }
  }
  CHECK(worst <= allowed);
}

TEST_CASE("attention of a query ignores later keys to the last bit", "[core][attention]") {
  const Sizes sizes{1, 150, 2, 2, 16};
  const int64_t later = GENERATE(1, 3, 63, 64, 65, 100);
  CAPTURE(later);
  Case<float> c(sizes, 19);
  Case<float> changed = c;
  for (int64_t j = later; j < sizes.T; ++j) {
    for (int64_t x = 0; x < c.shape.k_stride; ++x) changed.kv[c.k_at(0, j, 0, x)] = -1e6F;
  }
  c.forward();
  changed.forward();
  for (int64_t i = 0; i < sizes.T; ++i) {
    bool same = true;
    for (int64_t x = 0; x < sizes.H * sizes.hd; ++x) {
      same = same && c.out[c.o_at(0, i, 0, x)] == changed.out[c.o_at(0, i, 0, x)];
    }
    if (same != (i < later)) FAIL("query " << i);
  }
}

TEST_CASE("keys that no query sees get zero gradients", "[core][attention]") {
  Case<float> c({1, 20, 2, 1, 8, 180}, 20);
  c.shape.q_offset = 30;  // keys 50 to 199 are of the future
  c.forward();
  c.backward();
  double seen = 0.0, unseen = 0.0;
  for (int64_t j = 0; j < 200; ++j) {
    for (int64_t d = 0; d < 8; ++d) {
      double& sum = j < 50 ? seen : unseen;
      sum += std::fabs(static_cast<double>(c.dkv[c.k_at(0, j, 0, d)]));
      sum += std::fabs(static_cast<double>(c.dkv[c.v_at(0, j, 0, d)]));
    }
  }
  CHECK(seen > 1.0);
  CHECK(unseen == 0.0);
}

TEST_CASE("a NaN reaches every output that depends on it", "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{1, 100, 2, 2, 16}, Sizes{1, 4, 2, 2, 16, 96});
  const float bad =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  INFO(sizes);
  CAPTURE(bad);
  const int64_t last = sizes.T - 1;
  const auto n_bad = [&](const Case<float>& c, int64_t h) {
    int64_t n = 0;
    for (int64_t i = 0; i < sizes.T; ++i) n += std::isnan(c.out[c.o_at(0, i, h, 0)]) ? 1 : 0;
    return n;
  };
  Case<float> c(sizes, 21);

  Case<float> of_q = c;
  of_q.q[c.q_at(0, last, 1, 3)] = bad;
  of_q.forward();
  CHECK(n_bad(of_q, 0) == 0);
  CHECK(n_bad(of_q, 1) == 1);
  CHECK(std::isnan(of_q.lse[at(2 * sizes.T - 1)]));
  CHECK(std::isfinite(of_q.max_logit[0]));
  CHECK(std::isnan(of_q.max_logit[1]));
  of_q.backward();
  CHECK(std::isnan(of_q.dq[c.q_at(0, last, 1, 0)]));
  CHECK(std::isnan(of_q.dkv[c.k_at(0, 0, 1, 0)]));
  CHECK(std::isfinite(of_q.dkv[c.k_at(0, 0, 0, 0)]));

  Case<float> of_k = c;
  of_k.kv[c.k_at(0, 2, 0, 3)] = std::numeric_limits<float>::quiet_NaN();
  of_k.forward();
  CHECK(n_bad(of_k, 0) == sizes.T - std::max<int64_t>(0, 2 - sizes.offset));
  CHECK(n_bad(of_k, 1) == 0);
}

TEST_CASE("max_logit is the largest logit that a query sees", "[core][attention]") {
  const Sizes sizes = GENERATE(Sizes{2, 90, 4, 2, 8}, Sizes{2, 2, 4, 2, 8, 88});
  Case<double> c(sizes, 22);
  c.forward();
  for (int64_t b = 0; b < sizes.B; ++b) {
    for (int64_t h = 0; h < sizes.H; ++h) {
      double most = -1e300;
      for (int64_t i = 0; i < sizes.T; ++i) {
        for (int64_t j = 0; j <= sizes.offset + i; ++j) {
          double logit = 0.0;
          for (int64_t d = 0; d < sizes.hd; ++d) {
            logit += c.q[c.q_at(b, i, h, d)] * c.kv[c.k_at(b, j, h * sizes.K / sizes.H, d)];
          }
          most = std::max(most, logit * c.shape.scale);
        }
      }
      CHECK(c.max_logit[at(b * sizes.H + h)] == Approx(most).epsilon(1e-13));
    }
  }
}

TEST_CASE("attention dropout keeps what attention_keeps says, scaled by 1 / (1 - rate)",
          "[core][attention]") {
  const Sizes s = GENERATE(Sizes{2, 3, 2, 1, 6}, Sizes{1, 133, 2, 1, 6}, Sizes{1, 20, 1, 1, 4, 70});
  INFO(s);
  Case<double> c(s, 23);
  c.dropout = {0.4, 1234567, 10};
  c.forward();
  double worst = 0.0;
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t h = 0; h < s.H; ++h) {
      for (int64_t i = 0; i < s.T; ++i) {
        std::vector<double> want(at(s.hd));
        for (int64_t j = 0; j <= s.offset + i; ++j) {
          if (!attention_keeps(c.dropout, s.H, b, h, i, j)) continue;
          double logit = 0.0;
          for (int64_t d = 0; d < s.hd; ++d) {
            logit += c.q[c.q_at(b, i, h, d)] * c.kv[c.k_at(b, j, h * s.K / s.H, d)];
          }
          const double p =
              std::exp(c.shape.scale * logit - c.lse[at((b * s.H + h) * s.T + i)]) / 0.6;
          for (int64_t d = 0; d < s.hd; ++d) {
            want[at(d)] += p * c.kv[c.v_at(b, j, h * s.K / s.H, d)];
          }
        }
        for (int64_t d = 0; d < s.hd; ++d) {
          const double error = std::fabs(c.out[c.o_at(b, i, h, d)] - want[at(d)]);
          worst = error <= worst ? worst : error;
        }
      }
    }
  }
  CHECK(worst <= bound_of(c).probability * largest(c.kv) / 0.6);
}

TEST_CASE("attention's dropout mask is fair and differs by step, row, head, query and key",
          "[core][attention]") {
  const AttentionDropout dropout{0.25, 77, 0};
  constexpr int64_t n = 200;
  const auto count = [&](auto&& is_kept) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) kept += is_kept(i, j) ? 1 : 0;
    }
    return static_cast<double>(kept);
  };
  const auto keeps = [&](int64_t i, int64_t j) { return attention_keeps(dropout, 4, 1, 2, i, j); };
  // Five standard deviations of a binomial count.
  const double of_all = static_cast<double>(n * n);
  CHECK(std::fabs(count(keeps) - 0.75 * of_all) <= 5.0 * std::sqrt(of_all * 0.75 * 0.25));
  // Two independent masks agree with probability 0.75^2 + 0.25^2.
  const auto check_independent = [&](auto&& other) {
    const double agree = count([&](int64_t i, int64_t j) { return keeps(i, j) == other(i, j); });
    CHECK(std::fabs(agree - 0.625 * of_all) <= 5.0 * std::sqrt(of_all * 0.625 * 0.375));
  };
  const AttentionDropout next_step{0.25, 78, 0};
  check_independent(
      [&](int64_t i, int64_t j) { return attention_keeps(next_step, 4, 1, 2, i, j); });
  check_independent([&](int64_t i, int64_t j) { return attention_keeps(dropout, 4, 0, 2, i, j); });
  check_independent([&](int64_t i, int64_t j) { return attention_keeps(dropout, 4, 1, 3, i, j); });
  check_independent([&](int64_t i, int64_t j) { return keeps(i + 1, j); });
  check_independent([&](int64_t i, int64_t j) { return keeps(i, j + 1); });
  check_independent([&](int64_t i, int64_t j) { return keeps(i, j + 16); });
  check_independent([&](int64_t i, int64_t j) { return keeps(i, j + 64); });
  check_independent([&](int64_t i, int64_t j) { return keeps(j, i + n); });

  // A row of the whole batch has its mask whichever micro-batch it comes in.
  const AttentionDropout second_half{0.25, 77, 5};
  const double same = count([&](int64_t i, int64_t j) {
    return attention_keeps(dropout, 4, 6, 2, i, j) == attention_keeps(second_half, 4, 1, 2, i, j);
  });
  CHECK(same == of_all);
}

TEST_CASE("attention's scratch memory stops growing after one step", "[core][attention]") {
  Case<float> c({2, 200, 4, 2, 32}, 24);
  Case<float> one({1, 1, 4, 2, 32, 700}, 24);
  const auto step = [&] {
    c.forward();
    c.backward();
    one.forward();
  };
  const WithThreads threads(1);  // which thread meets which task is left to chance
  step();
  const int64_t bytes = scratch_bytes();
  step();
  CHECK(scratch_bytes() == bytes);
  CHECK(bytes > 0);
}

TEST_CASE("attention refuses impossible shapes", "[core][attention]") {
  Case<float> c({1, 4, 2, 2, 8}, 25);
  SECTION("a query without its own key") {
    c.shape.q_offset = 1;
    CHECK_THROWS_WITH(c.forward(),
                      "[causal_attention] queries 1 to 4 do not all have their own key among 4");
  }
  SECTION("more key/value heads than heads") {
    c.shape.K = 3;
    CHECK_THROWS_WITH(c.forward(),
                      "[causal_attention] 3 key/value heads for 2 query heads; expected 1 to 2");
  }
  SECTION("no head channels") {
    c.shape.hd = 0;
    CHECK_THROWS_WITH(c.forward(), ContainsSubstring("head_dim = 0"));
  }
  SECTION("a dropout rate of 1") {
    c.dropout.rate = 1.0;
    CHECK_THROWS_WITH(c.forward(), ContainsSubstring("dropout rate is 1; expected at least 0"));
  }
  SECTION("fewer rows than keys") {
    c.shape.kv_rows = 3;
    CHECK_THROWS_WITH(c.forward(), "[causal_attention] kv_rows is 3 but there are 4 keys");
  }
}

}  // namespace ballast
