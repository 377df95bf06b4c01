// Batches as pure functions of (seed, step): any step can be replayed, and a resumed run reads what
// an uninterrupted one would have read.
#pragma once

#include <cstdint>
#include <vector>

#include "train/data/data_source.h"

namespace ballast {

/// A target that the loss leaves out.
inline constexpr int32_t kIgnoredTarget = -1;

/// targets[r][t] is the token after tokens[r][t]. Reused from step to step, it stops allocating.
struct Batch {
  int64_t rows = 0;
  int64_t seq_len = 0;
  int64_t n_targets = 0;         ///< targets that are not kIgnoredTarget
  std::vector<int32_t> tokens;   ///< (rows, seq_len)
  std::vector<int32_t> targets;  ///< (rows, seq_len)
  std::vector<int32_t> scratch;  ///< one window of seq_len + 1
};

/// A bijection of [0, n) chosen by `key`, without a table: a Feistel network on the next power of
/// two, walked until the value falls into the range (Black & Rogaway 2002). 0 <= i < n.
int64_t permute(int64_t i, int64_t n, uint64_t key);

/// The batches of training. Row r of step s is number g = s * batch_size + r of an endless sequence
/// of windows of seq_len + 1 tokens. With W = floor((n - 1) / seq_len) windows that follow each
/// other: random: start uniform in [0, n - seq_len); shuffled: window permute(g mod W) of epoch g /
/// W; sequential: window g mod W. A generator gives its sequence number g whatever the order.
class BatchSampler {
 public:
  BatchSampler(const DataSource& data, DataOrder order, int64_t batch_size, int64_t seq_len,
               uint64_t data_seed);

  int64_t batch_size() const { return batch_size_; }
  int64_t seq_len() const { return seq_len_; }

  /// All rows of a step.
  void batch(int64_t step, Batch& out) const { batch(step, 0, batch_size_, out); }
  /// Rows [row_begin, row_end) of the same batch: a micro-batch.
  void batch(int64_t step, int64_t row_begin, int64_t row_end, Batch& out) const;

  /// Where window g begins.
  int64_t window_index(int64_t g) const;

 private:
  const DataSource* data_;
  DataOrder order_;
  int64_t batch_size_;
  int64_t seq_len_;
  uint64_t seed_;
  int64_t n_tokens_ = 0;   ///< 0: a generator
  int64_t n_windows_ = 0;  ///< an epoch's
};

/// The batches of an evaluation, the same at every one. The validation split is cut into windows of
/// seq_len targets that follow each other, the last one shorter; a batch is batch_size of them.
/// Either n_batches full batches evenly spaced over the split, or (n_batches = 0, or the split has
/// fewer) all of it: each of its n - 1 targets once. What is missing of the last window and the
/// last batch is kIgnoredTarget, so that a mean must weigh each batch by its n_targets. The whole
/// split of a generator is its first kGeneratedTargets / seq_len windows.
class EvalSampler {
 public:
  static constexpr int64_t kGeneratedTargets = int64_t{1} << 17;

  EvalSampler(const DataSource& data, int64_t batch_size, int64_t seq_len, int64_t n_batches);

  int64_t batch_size() const { return batch_size_; }
  int64_t seq_len() const { return seq_len_; }
  int64_t n_batches() const { return n_batches_; }

  /// All rows of batch i of [0, n_batches()).
  void batch(int64_t i, Batch& out) const { batch(i, 0, batch_size_, out); }
  void batch(int64_t i, int64_t row_begin, int64_t row_end, Batch& out) const;

 private:
  const DataSource* data_;
  int64_t batch_size_;
  int64_t seq_len_;
  int64_t n_tokens_ = 0;   ///< 0: a generator
  int64_t n_windows_ = 0;  ///< of the split, the shorter one included
  int64_t n_batches_ = 0;
  int64_t spacing_ = 0;  ///< full batches in the split that n_batches_ of are taken; 0: all of it
};

}  // namespace ballast
