#include "train/data/batch.h"

#include <algorithm>
#include <bit>

#include "core/random.h"

namespace ballast {
namespace {

void resize(Batch& batch, int64_t rows, int64_t seq_len) {
  batch.rows = rows;
  batch.seq_len = seq_len;
  batch.n_targets = 0;
  batch.tokens.resize(static_cast<size_t>(rows * seq_len));
  batch.targets.resize(static_cast<size_t>(rows * seq_len));
  batch.scratch.resize(static_cast<size_t>(seq_len + 1));
}

/// Row r takes n targets from window `index`; what remains of the row is padding.
void fill_row(const DataSource& data, Split split, int64_t index, int64_t n, int64_t r,
              Batch& batch) {
  const int64_t T = batch.seq_len;
  const auto tokens = batch.tokens.begin() + r * T;
  const auto targets = batch.targets.begin() + r * T;
  if (n > 0) {
    const auto window = std::span(batch.scratch).first(static_cast<size_t>(n + 1));
    data.window(split, index, window);
    std::copy_n(window.begin(), n, tokens);
    std::copy_n(window.begin() + 1, n, targets);
  }
  std::fill(tokens + n, tokens + T, 0);
  std::fill(targets + n, targets + T, kIgnoredTarget);
  batch.n_targets += n;
}

void check_sizes(int64_t batch_size, int64_t seq_len) {
  check(batch_size > 0, "train.batch_size = ", batch_size, "; expected at least 1");
  check(seq_len > 0, "data.seq_len = ", seq_len, "; expected at least 1");
}

void check_rows(int64_t begin, int64_t end, int64_t batch_size) {
  check(begin >= 0 && begin < end && end <= batch_size, "[batch] rows ", begin, " to ", end,
        " of a batch of ", batch_size);
}

}  // namespace

int64_t permute(int64_t i, int64_t n, uint64_t key) {
  constexpr uint64_t kRounds = 8;
  const auto bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(n - 1)));
  const int low_bits = (bits + 1) / 2;
  const uint64_t low_mask = (uint64_t{1} << low_bits) - 1;
  const uint64_t high_mask = (uint64_t{1} << (bits - low_bits)) - 1;
  auto x = static_cast<uint64_t>(i);
  do {
    uint64_t low = x & low_mask;
    uint64_t high = x >> low_bits;
    for (uint64_t round = 0; round < kRounds; round += 2) {
      high ^= mix64(key + (low << 8 | round)) & high_mask;
      low ^= mix64(key + (high << 8 | (round + 1))) & low_mask;
    }
    x = high << low_bits | low;
  } while (x >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(x);
}

BatchSampler::BatchSampler(const DataSource& data, DataOrder order, int64_t batch_size,
                           int64_t seq_len, uint64_t data_seed)
    : data_(&data),
      order_(order),
      batch_size_(batch_size),
      seq_len_(seq_len),
      seed_(derive_seed(data_seed, "data.order")) {
  check_sizes(batch_size, seq_len);
  if (const auto n = data.n_tokens(Split::train)) {
    check(*n > seq_len, "[batch] ", *n, " tokens; expected at least ", seq_len + 1);
    n_tokens_ = *n;
    n_windows_ = (*n - 1) / seq_len;
  }
}

int64_t BatchSampler::window_index(int64_t g) const {
  if (n_tokens_ == 0) return g;
  switch (order_) {
    case DataOrder::random: {
      RandomStream stream(seed_, static_cast<uint64_t>(g));
      return static_cast<int64_t>(stream.below(static_cast<uint64_t>(n_tokens_ - seq_len_)));
    }
    case DataOrder::shuffled: {
      const uint64_t key = mix64(seed_ + static_cast<uint64_t>(g / n_windows_));
      return permute(g % n_windows_, n_windows_, key) * seq_len_;
    }
    case DataOrder::sequential:
      return g % n_windows_ * seq_len_;
  }
  throw InternalError("internal error: an order has no case");
}

void BatchSampler::batch(int64_t step, int64_t row_begin, int64_t row_end, Batch& out) const {
  check(step >= 0, "[batch] step ", step, "; expected 0 or more");
  check_rows(row_begin, row_end, batch_size_);
  resize(out, row_end - row_begin, seq_len_);
  for (int64_t r = row_begin; r < row_end; ++r) {
    fill_row(*data_, Split::train, window_index(step * batch_size_ + r), seq_len_, r - row_begin,
             out);
  }
}

EvalSampler::EvalSampler(const DataSource& data, int64_t batch_size, int64_t seq_len,
                         int64_t n_batches)
    : data_(&data), batch_size_(batch_size), seq_len_(seq_len) {
  check_sizes(batch_size, seq_len);
  check(n_batches >= 0, "train.eval_batches = ", n_batches, "; expected 0 or more");
  int64_t full_batches = 0;
  if (const auto n = data.n_tokens(Split::val)) {
    check(*n > seq_len, "[batch] ", *n, " tokens; expected at least ", seq_len + 1);
    n_tokens_ = *n;
    n_windows_ = (*n - 1 + seq_len - 1) / seq_len;
    full_batches = (*n - 1) / seq_len / batch_size;
  } else {
    n_windows_ = std::max<int64_t>(1, kGeneratedTargets / seq_len);
    // A generator has as many batches as are asked for.
    if (n_batches > 0) n_windows_ = n_batches * batch_size;
    full_batches = n_windows_ / batch_size;
  }
  const bool all = n_batches == 0 || full_batches < n_batches;
  n_batches_ = all ? (n_windows_ + batch_size - 1) / batch_size : n_batches;
  spacing_ = all ? 0 : full_batches;
}

void EvalSampler::batch(int64_t i, int64_t row_begin, int64_t row_end, Batch& out) const {
  check(i >= 0 && i < n_batches_, "[batch] evaluation batch ", i, " of ", n_batches_);
  check_rows(row_begin, row_end, batch_size_);
  resize(out, row_end - row_begin, seq_len_);
  const int64_t number = spacing_ == 0 ? i : i * spacing_ / n_batches_;
  for (int64_t r = row_begin; r < row_end; ++r) {
    const int64_t window = number * batch_size_ + r;
    if (n_tokens_ == 0) {
      fill_row(*data_, Split::val, window, window < n_windows_ ? seq_len_ : 0, r - row_begin, out);
    } else {
      const int64_t n = std::clamp<int64_t>(n_tokens_ - 1 - window * seq_len_, 0, seq_len_);
      fill_row(*data_, Split::val, window * seq_len_, n, r - row_begin, out);
    }
  }
}

}  // namespace ballast
