#include "train/data/batch.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "tests/support/catch.h"
#include "tests/train/data/support.h"

namespace ballast {
namespace {

/// A split of n tokens where the token at position i is i, or a generator if n is 0.
class Counting final : public DataSource {
 public:
  explicit Counting(int64_t n) : n_(n) {}
  std::optional<int64_t> n_tokens(Split) const override {
    return n_ > 0 ? std::optional(n_) : std::nullopt;
  }
  void window(Split split, int64_t index, std::span<int32_t> out) const override {
    const auto size = static_cast<int64_t>(out.size());
    REQUIRE(index >= 0);
    if (n_ > 0) REQUIRE(index + size <= n_);
    const int64_t first = n_ > 0 ? index : 1000 * index + (split == Split::val ? 500 : 0);
    std::iota(out.begin(), out.end(), static_cast<int32_t>(first));
  }
  uint64_t fingerprint() const override { return 0; }

 private:
  int64_t n_;
};

std::vector<int64_t> starts(const BatchSampler& sampler, int64_t steps) {
  std::vector<int64_t> all;
  Batch batch;
  for (int64_t s = 0; s < steps; ++s) {
    sampler.batch(s, batch);
    for (int64_t r = 0; r < batch.rows; ++r) {
      all.push_back(batch.tokens[static_cast<size_t>(r * batch.seq_len)]);
    }
  }
  return all;
}

TEST_CASE("permute is a bijection for every size and key", "[train][data][batch]") {
  const int64_t n = GENERATE(1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100, 1000, 4097);
  for (uint64_t key = 0; key < 5; ++key) {
    std::set<int64_t> images;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t image = permute(i, n, mix64(key));
      REQUIRE(image >= 0);
      REQUIRE(image < n);
      images.insert(image);
    }
    CHECK(static_cast<int64_t>(images.size()) == n);
  }
}

TEST_CASE("permute sends an index everywhere equally often over the keys", "[train][data][batch]") {
  const int64_t n = GENERATE(3, 6, 13);
  constexpr int kKeys = 20000;
  std::vector<int> counts(static_cast<size_t>(n * n), 0);
  for (uint64_t key = 0; key < kKeys; ++key) {
    for (int64_t i = 0; i < n; ++i)
      ++counts[static_cast<size_t>(i * n + permute(i, n, mix64(key)))];
  }
  const double p = 1.0 / static_cast<double>(n);
  // Six standard deviations of a binomial count: below 1e-6 for all n^2 cells together.
  const double bound = 6.0 * std::sqrt(kKeys * p * (1.0 - p));
  for (const int count : counts) CHECK(std::abs(count - kKeys * p) < bound);
}

TEST_CASE("targets are the tokens that follow", "[train][data][batch]") {
  const Counting data(100);
  const auto order = GENERATE(DataOrder::random, DataOrder::shuffled, DataOrder::sequential);
  const BatchSampler sampler(data, order, 3, 7, 1);
  Batch batch;
  sampler.batch(2, batch);
  CHECK(batch.rows == 3);
  CHECK(batch.seq_len == 7);
  CHECK(batch.n_targets == 21);
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    CHECK(batch.targets[i] == batch.tokens[i] + 1);
    if (i % 7 != 0) CHECK(batch.tokens[i] == batch.tokens[i - 1] + 1);
  }
}

TEST_CASE("a batch does not depend on the batches drawn before it", "[train][data][batch]") {
  const auto order = GENERATE(DataOrder::random, DataOrder::shuffled, DataOrder::sequential);
  const Counting data(1000);
  const BatchSampler sampler(data, order, 4, 16, 5);
  Batch warm;
  for (int64_t s = 0; s <= 7; ++s) sampler.batch(s, warm);
  Batch cold;
  BatchSampler(data, order, 4, 16, 5).batch(7, cold);
  CHECK(warm.tokens == cold.tokens);
  CHECK(warm.targets == cold.targets);
  Batch other_seed;
  BatchSampler(data, order, 4, 16, 6).batch(7, other_seed);
  CHECK((other_seed.tokens == cold.tokens) == (order == DataOrder::sequential));
}

TEST_CASE("micro-batches are the rows of the whole batch", "[train][data][batch]") {
  const Counting data(1000);
  const BatchSampler sampler(data, DataOrder::random, 6, 5, 5);
  Batch whole;
  sampler.batch(3, whole);
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  Batch part;
  for (const auto& [begin, end] : {std::pair{0, 2}, {2, 3}, {3, 6}}) {
    sampler.batch(3, begin, end, part);
    CHECK(part.rows == end - begin);
    tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
    targets.insert(targets.end(), part.targets.begin(), part.targets.end());
  }
  CHECK(tokens == whole.tokens);
  CHECK(targets == whole.targets);
}

TEST_CASE("shuffled visits each window once an epoch, also where a batch spans two epochs",
          "[train][data][batch]") {
  // 101 tokens are 10 windows of 10 targets; batches of 4 cross every other epoch's border.
  const Counting data(101);
  const BatchSampler sampler(data, DataOrder::shuffled, 4, 10, 3);
  const std::vector<int64_t> all = starts(sampler, 15);
  REQUIRE(all.size() == 60);
  std::set<std::vector<int64_t>> orders;
  for (size_t epoch = 0; epoch < 6; ++epoch) {
    std::vector<int64_t> windows(all.begin() + static_cast<int64_t>(epoch * 10),
                                 all.begin() + static_cast<int64_t>(epoch * 10 + 10));
    orders.insert(windows);
    std::sort(windows.begin(), windows.end());
    CHECK(windows == std::vector<int64_t>{0, 10, 20, 30, 40, 50, 60, 70, 80, 90});
  }
  CHECK(orders.size() == 6);
}

TEST_CASE("sequential takes the windows in turn and begins again", "[train][data][batch]") {
  const Counting data(35);  // three windows of 10 targets; the last four tokens are left out
  const BatchSampler sampler(data, DataOrder::sequential, 2, 10, 3);
  CHECK(starts(sampler, 3) == std::vector<int64_t>{0, 10, 20, 0, 10, 20});
}

TEST_CASE("random starts are uniform over every place where a window fits",
          "[train][data][batch]") {
  const Counting data(20);
  const BatchSampler sampler(data, DataOrder::random, 50, 8, 9);
  std::map<int64_t, int> counts;
  for (const int64_t start : starts(sampler, 400)) ++counts[start];
  // nanoGPT draws from [0, n - T): twelve places.
  CHECK(counts.size() == 12);
  CHECK(counts.begin()->first == 0);
  CHECK(counts.rbegin()->first == 11);
  const double expected = 20000.0 / 12.0;
  for (const auto& [start, count] : counts) {
    CHECK(std::abs(count - expected) < 5.0 * std::sqrt(expected));
  }
}

TEST_CASE("a reused batch keeps its memory", "[train][data][batch]") {
  const Counting data(1000);
  const BatchSampler sampler(data, DataOrder::random, 4, 16, 5);
  Batch batch;
  sampler.batch(0, batch);
  const int32_t* const tokens = batch.tokens.data();
  const int32_t* const scratch = batch.scratch.data();
  sampler.batch(1, 0, 2, batch);
  sampler.batch(2, batch);
  CHECK(batch.tokens.data() == tokens);
  CHECK(batch.scratch.data() == scratch);
}

TEST_CASE("evaluating the whole split counts every target once", "[train][data][batch]") {
  const int64_t n = GENERATE(11, 12, 60, 61, 62, 137);
  const int64_t asked = GENERATE(0, 1000);  // all, or more than there are
  const Counting data(n);
  const EvalSampler sampler(data, 3, 10, asked);
  std::vector<int32_t> targets;
  int64_t counted = 0;
  Batch batch;
  for (int64_t i = 0; i < sampler.n_batches(); ++i) {
    sampler.batch(i, batch);
    CHECK(batch.tokens.size() == 30);
    counted += batch.n_targets;
    for (size_t k = 0; k < batch.targets.size(); ++k) {
      if (batch.targets[k] == kIgnoredTarget) continue;
      CHECK(batch.tokens[k] == batch.targets[k] - 1);
      targets.push_back(batch.targets[k]);
    }
  }
  std::vector<int32_t> expected(static_cast<size_t>(n - 1));
  std::iota(expected.begin(), expected.end(), 1);
  CHECK(targets == expected);
  CHECK(counted == n - 1);
}

TEST_CASE("evaluation batches are evenly spaced, full and the same each time",
          "[train][data][batch]") {
  const Counting data(1 + 10 * 2 * 10);  // ten batches of 2 windows of 10
  const EvalSampler sampler(data, 2, 10, 4);
  CHECK(sampler.n_batches() == 4);
  Batch batch;
  std::vector<int32_t> firsts;
  for (int64_t i = 0; i < 4; ++i) {
    sampler.batch(i, batch);
    CHECK(batch.n_targets == 20);
    firsts.push_back(batch.tokens[0]);
  }
  CHECK(firsts == std::vector<int32_t>{0, 40, 100, 140});  // batches 0, 2, 5 and 7
  Batch again;
  EvalSampler(data, 2, 10, 4).batch(3, again);
  CHECK(again.tokens == batch.tokens);
  sampler.batch(3, 1, 2, again);
  CHECK(std::equal(again.tokens.begin(), again.tokens.end(), batch.tokens.begin() + 10));
}

TEST_CASE("a generator is read by number, and its validation split has an end",
          "[train][data][batch]") {
  const Counting data(0);
  const BatchSampler sampler(data, DataOrder::shuffled, 3, 4, 1);
  CHECK(starts(sampler, 2) == std::vector<int64_t>{0, 1000, 2000, 3000, 4000, 5000});
  const EvalSampler few(data, 2, 4, 3);
  CHECK(few.n_batches() == 3);
  Batch batch;
  few.batch(2, batch);
  CHECK(batch.tokens[0] == 4500);
  CHECK(batch.n_targets == 8);

  const EvalSampler all(data, 100, 4096, 0);
  CHECK(all.n_batches() == 1);
  all.batch(0, batch);
  CHECK(batch.n_targets == EvalSampler::kGeneratedTargets);
}

TEST_CASE("samplers refuse what they cannot serve", "[train][data][batch]") {
  const Counting data(10);
  CHECK_THROWS_WITH(BatchSampler(data, DataOrder::random, 0, 4, 1),
                    "train.batch_size = 0; expected at least 1");
  CHECK_THROWS_WITH(BatchSampler(data, DataOrder::random, 1, 10, 1),
                    "[batch] 10 tokens; expected at least 11");
  CHECK_THROWS_WITH(EvalSampler(data, 1, 10, 0), "[batch] 10 tokens; expected at least 11");
  CHECK_THROWS_WITH(EvalSampler(data, 1, 4, -1), "train.eval_batches = -1; expected 0 or more");
  const BatchSampler sampler(data, DataOrder::random, 2, 4, 1);
  Batch batch;
  CHECK_THROWS_WITH(sampler.batch(-1, batch), "[batch] step -1; expected 0 or more");
  CHECK_THROWS_WITH(sampler.batch(0, 1, 3, batch), "[batch] rows 1 to 3 of a batch of 2");
  CHECK_THROWS_WITH(EvalSampler(data, 1, 4, 1).batch(1, batch), "[batch] evaluation batch 1 of 1");
}

}  // namespace
}  // namespace ballast
