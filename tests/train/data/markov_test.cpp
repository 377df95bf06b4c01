#include "train/data/markov.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tests/support/catch.h"
#include "tests/train/data/support.h"

namespace ballast {
namespace {

SyntheticConfig chain(CorpusKind corpus, int64_t successors, double concentration = 1.0) {
  return {corpus, successors, concentration};
}

using Matrix = std::vector<std::vector<double>>;

Matrix transitions(const Markov1Data& data) {
  const auto n = static_cast<size_t>(data.vocab_size());
  Matrix p(n, std::vector<double>(n, 0.0));
  for (size_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < data.rows().row_size(); ++k) {
      const auto row = static_cast<int64_t>(i);
      p[i][static_cast<size_t>(data.successor(row, k))] += data.rows().probability(row, k);
    }
  }
  return p;
}

/// P(c | a, b) of a chain of order 2.
double probability(const Markov2Data& data, int64_t a, int64_t b, int64_t c) {
  for (int64_t k = 0; k < data.rows().row_size(); ++k) {
    if (data.successor(a, b, k) == c) return data.rows().probability(b, k);
  }
  return 0.0;
}

/// Solves pi P = pi, sum pi = 1 by Gaussian elimination with pivoting.
std::vector<double> stationary_by_elimination(const Matrix& p) {
  const size_t n = p.size();
  Matrix m(n, std::vector<double>(n + 1, 0.0));
  for (size_t r = 0; r + 1 < n; ++r) {
    for (size_t c = 0; c < n; ++c) m[r][c] = p[c][r] - (r == c ? 1.0 : 0.0);
  }
  m[n - 1].assign(n + 1, 1.0);
  for (size_t c = 0; c < n; ++c) {
    size_t pivot = c;
    for (size_t r = c; r < n; ++r) {
      if (std::abs(m[r][c]) > std::abs(m[pivot][c])) pivot = r;
    }
    std::swap(m[c], m[pivot]);
    for (size_t r = 0; r < n; ++r) {
      if (r == c) continue;
      const double factor = m[r][c] / m[c][c];
      for (size_t k = c; k <= n; ++k) m[r][k] -= factor * m[c][k];
    }
  }
  std::vector<double> pi(n);
  for (size_t i = 0; i < n; ++i) pi[i] = m[i][n] / m[i][i];
  return pi;
}

TEST_CASE("rows are probabilities with a Dirichlet's moments", "[train][data][markov]") {
  const double alpha = GENERATE(0.2, 1.0, 5.0);
  constexpr int64_t kRows = 4000;
  constexpr int64_t kSize = 5;
  const SparseRows rows(kRows, kSize, alpha, 17);
  std::vector<double> first;
  std::vector<double> square;
  for (int64_t r = 0; r < kRows; ++r) {
    double sum = 0.0;
    for (int64_t k = 0; k < kSize; ++k) {
      REQUIRE(rows.probability(r, k) > 0.0);
      sum += rows.probability(r, k);
    }
    REQUIRE(sum == 1.0);  // multiples of 2^-32 add without rounding
    first.push_back(rows.probability(r, 1));
    square.push_back(rows.probability(r, 1) * rows.probability(r, 1));
  }
  const MeanAndError mean(first);
  const MeanAndError second(square);
  CHECK(std::abs(mean.mean - 1.0 / kSize) < 5.0 * mean.error);
  // E[p^2] = (alpha + 1) / (K (K alpha + 1)).
  CHECK(std::abs(second.mean - (alpha + 1.0) / (kSize * (kSize * alpha + 1.0))) <
        5.0 * second.error);
}

TEST_CASE("a row is sampled with exactly its probabilities", "[train][data][markov]") {
  const SparseRows rows(3, 4, 1.0, 2);
  for (int64_t row = 0; row < 3; ++row) {
    uint64_t begin = 0;
    for (int64_t k = 0; k < 4; ++k) {
      const auto size = static_cast<uint64_t>(rows.probability(row, k) * 0x1p32);
      CHECK(rows.sample(row, static_cast<uint32_t>(begin)) == k);
      CHECK(rows.sample(row, static_cast<uint32_t>(begin + size - 1)) == k);
      begin += size;
    }
    CHECK(begin == uint64_t{1} << 32);
  }
}

TEST_CASE("markov1's stationary distribution is the solution of its equations",
          "[train][data][markov]") {
  const int64_t V = GENERATE(2, 3, 7, 64);
  const double alpha = GENERATE(0.3, 1.0);
  const Markov1Data data(V, chain(CorpusKind::markov1, 3, alpha), 4);
  const Matrix p = transitions(data);
  const std::vector<double> pi = stationary_by_elimination(p);
  double entropy = 0.0;
  for (size_t i = 0; i < pi.size(); ++i) {
    CHECK(data.stationary()[i] == Approx(pi[i]).epsilon(1e-9));
    for (const double q : p[i]) entropy -= q > 0.0 ? pi[i] * q * std::log(q) : 0.0;
  }
  CHECK(*data.floor(10) == Approx(entropy).epsilon(1e-9));
}

TEST_CASE("markov1 has K distinct successors and reaches every token", "[train][data][markov]") {
  const Markov1Data data(50, chain(CorpusKind::markov1, 4), 8);
  for (int64_t i = 0; i < 50; ++i) {
    std::set<int32_t> distinct;
    for (int64_t k = 0; k < 4; ++k) distinct.insert(data.successor(i, k));
    CHECK(distinct.size() == 4);
    CHECK(data.stationary()[static_cast<size_t>(i)] > 0.0);
  }
  CHECK(Markov1Data(3, chain(CorpusKind::markov1, 8), 8).rows().row_size() == 3);
}

TEST_CASE("markov1's floor is the mean over all windows, weighed one by one",
          "[train][data][markov]") {
  const Markov1Data data(3, chain(CorpusKind::markov1, 3), 21);
  const Matrix p = transitions(data);
  constexpr int kTargets = 4;
  double sum = 0.0;
  for (int code = 0; code < 243; ++code) {  // 3^5 windows of five tokens
    std::vector<size_t> x;
    for (int i = 0, rest = code; i <= kTargets; ++i, rest /= 3)
      x.push_back(static_cast<size_t>(rest % 3));
    double conditional = 1.0;
    for (size_t t = 1; t < x.size(); ++t) conditional *= p[x[t - 1]][x[t]];
    sum -= data.stationary()[x[0]] * conditional * std::log(conditional);
  }
  CHECK(*data.floor(kTargets) == Approx(sum / kTargets).epsilon(1e-9));
}

TEST_CASE("markov2's floor is the mean over all windows, weighed one by one",
          "[train][data][markov]") {
  const int64_t K = GENERATE(2, 3);
  const Markov2Data data(3, chain(CorpusKind::markov2, K), 21);
  // The chain's own pair distribution, from its transitions alone.
  std::vector<double> pairs = {1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  for (int pass = 0; pass < 20000; ++pass) {
    std::vector<double> next(9, 0.0);
    for (size_t ab = 0; ab < 9; ++ab) {
      for (size_t c = 0; c < 3; ++c) {
        next[ab % 3 * 3 + c] +=
            pairs[ab] * probability(data, static_cast<int64_t>(ab / 3),
                                    static_cast<int64_t>(ab % 3), static_cast<int64_t>(c));
      }
    }
    for (size_t i = 0; i < 9; ++i) pairs[i] = 0.5 * (pairs[i] + next[i]);
  }
  for (const double p : pairs) CHECK(p == Approx(1.0 / 9.0).epsilon(1e-6));
  constexpr int kTargets = 4;
  double sum = 0.0;
  for (int code = 0; code < 243; ++code) {
    std::vector<int64_t> x;
    for (int i = 0, rest = code; i <= kTargets; ++i, rest /= 3) x.push_back(rest % 3);
    double given_first = 0.0;  // P(x1 | x0), from the pairs
    double marginal = 0.0;
    for (int64_t c = 0; c < 3; ++c) marginal += pairs[static_cast<size_t>(x[0] * 3 + c)];
    given_first = pairs[static_cast<size_t>(x[0] * 3 + x[1])] / marginal;
    double conditional = given_first;
    for (size_t t = 2; t < x.size(); ++t)
      conditional *= probability(data, x[t - 2], x[t - 1], x[t]);
    if (conditional > 0.0) sum -= marginal * conditional * std::log(conditional);
  }
  CHECK(*data.floor(kTargets) == Approx(sum / kTargets).epsilon(1e-6));
}

TEST_CASE("the mean information of sampled windows is the floor", "[train][data][markov]") {
  constexpr size_t kTargets = 16;
  constexpr int64_t kWindows = 4000;
  const auto split = GENERATE(Split::train, Split::val);
  const Markov1Data one(64, chain(CorpusKind::markov1, 8), 3);
  const Markov2Data two(64, chain(CorpusKind::markov2, 8), 3);
  const Matrix p = transitions(one);
  std::vector<double> nats_one;
  std::vector<double> nats_two;
  std::vector<int32_t> x(kTargets + 1);
  for (int64_t w = 0; w < kWindows; ++w) {
    one.window(split, w, x);
    double sum = 0.0;
    for (size_t t = 1; t <= kTargets; ++t) {
      const double q = p[static_cast<size_t>(x[t - 1])][static_cast<size_t>(x[t])];
      REQUIRE(q > 0.0);
      sum -= std::log(q);
    }
    nats_one.push_back(sum / kTargets);
    two.window(split, w, x);
    sum = std::log(64.0);
    for (size_t t = 2; t <= kTargets; ++t) {
      const double q = probability(two, x[t - 2], x[t - 1], x[t]);
      REQUIRE(q > 0.0);
      sum -= std::log(q);
    }
    nats_two.push_back(sum / kTargets);
  }
  // Windows are independent, so five standard errors bound the mean.
  const MeanAndError mean_one(nats_one);
  const MeanAndError mean_two(nats_two);
  CHECK(mean_one.error < 0.01);
  CHECK(mean_two.error < 0.01);
  CHECK(std::abs(mean_one.mean - *one.floor(kTargets)) < 5.0 * mean_one.error);
  CHECK(std::abs(mean_two.mean - *two.floor(kTargets)) < 5.0 * mean_two.error);
}

/// Conditional entropy of the last of `order` + 1 tokens given those before it, from counts alone,
/// with Miller & Madow's correction of the plug-in estimate's bias.
double counted_entropy(const DataSource& data, size_t order, int64_t n_windows) {
  std::map<std::vector<int32_t>, double> contexts;
  std::map<std::vector<int32_t>, double> joint;
  std::vector<int32_t> x(order + 1);
  for (int64_t w = 0; w < n_windows; ++w) {
    data.window(Split::val, w, x);
    ++contexts[{x.begin(), x.end() - 1}];
    ++joint[x];
  }
  const auto n = static_cast<double>(n_windows);
  double entropy = 0.0;
  for (const auto& [key, count] : joint) {
    entropy -= count / n * std::log(count / contexts[{key.begin(), key.end() - 1}]);
  }
  return entropy + static_cast<double>(joint.size() - contexts.size()) / (2.0 * n);
}

TEST_CASE("counting a long sample finds the same entropies", "[train][data][markov]") {
  constexpr int64_t kWindows = 200000;
  // The estimate's standard error is below sd(-ln p) / sqrt(n) < 1 / 447; what is left of the bias
  // is of order 1 / n^2.
  constexpr double kBound = 5.0 / 447.0;
  const Markov1Data one(8, chain(CorpusKind::markov1, 4), 5);
  CHECK(std::abs(counted_entropy(one, 1, kWindows) - *one.floor(1)) < kBound);
  const Markov2Data two(8, chain(CorpusKind::markov2, 4), 5);
  CHECK(std::abs(counted_entropy(two, 2, kWindows) - two.entropy()) < kBound);
  CHECK(std::abs(counted_entropy(two, 1, kWindows) - std::log(8.0)) < kBound);
  CHECK(*two.floor(1) == Approx(std::log(8.0)));
  CHECK(*two.floor(1000000) == Approx(two.entropy()).epsilon(1e-4));
  const UniformData uniform(8, 5);
  CHECK(std::abs(counted_entropy(uniform, 1, kWindows) - std::log(8.0)) < kBound);
  CHECK(*uniform.floor(77) == Approx(std::log(8.0)));
}

TEST_CASE("markov1 is stationary from its first token on", "[train][data][markov]") {
  const Markov1Data data(4, chain(CorpusKind::markov1, 2), 6);
  constexpr int64_t kWindows = 40000;
  const size_t position = GENERATE(size_t{0}, size_t{1}, size_t{9});
  std::vector<double> counts(4, 0.0);
  std::vector<int32_t> x(position + 1);
  for (int64_t w = 0; w < kWindows; ++w) {
    data.window(Split::train, w, x);
    ++counts[static_cast<size_t>(x.back())];
  }
  for (size_t i = 0; i < 4; ++i) {
    const double p = data.stationary()[i];
    CHECK(std::abs(counts[i] / kWindows - p) < 5.0 * std::sqrt(p * (1.0 - p) / kWindows));
  }
}

TEST_CASE("a chain whose table would fill the memory is refused", "[train][data][markov]") {
  CHECK_THROWS_WITH(Markov1Data(8192, chain(CorpusKind::markov1, 4096), 1),
                    "data.synthetic.successors = 4096 for each of model.vocab_size = 8192 tokens; "
                    "expected a product of at most 2^24");
}

TEST_CASE("a chain too slow for an exact entropy is refused", "[train][data][markov]") {
  CHECK_THROWS_WITH(Markov1Data(256, chain(CorpusKind::markov1, 2, 1e-3), 1),
                    ContainsSubstring("forgets its past too slowly"));
  CHECK_THROWS_WITH(Markov2Data(1, chain(CorpusKind::markov2, 2), 1),
                    "model.vocab_size = 1; expected at least 2 for data.synthetic.corpus: markov2");
}

}  // namespace
}  // namespace ballast
