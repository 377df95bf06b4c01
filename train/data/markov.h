// Token sequences from random chains whose entropy is known exactly. Sequence i of a split is a
// pure function of (seed, split, i); both splits walk the same chain.
#pragma once

#include <vector>

#include "train/data/data_source.h"

namespace ballast {

/// Independent uniform tokens. Floor: ln V.
class UniformData final : public DataSource {
 public:
  UniformData(int64_t vocab_size, uint64_t data_seed);

  std::optional<int64_t> n_tokens(Split) const override { return std::nullopt; }
  void window(Split split, int64_t index, std::span<int32_t> out) const override;
  std::optional<double> floor(int64_t seq_len) const override;
  uint64_t fingerprint() const override;

 private:
  uint64_t vocab_size_;
  uint64_t seed_;
};

/// Rows of K probabilities drawn from a symmetric Dirichlet distribution and rounded to multiples
/// of 2^-32, none of them 0: an entropy of the rounded values is the entropy of what is sampled.
class SparseRows {
 public:
  SparseRows(int64_t n_rows, int64_t row_size, double concentration, uint64_t seed);

  int64_t row_size() const { return row_size_; }
  double probability(int64_t row, int64_t k) const;
  /// Nats.
  double entropy(int64_t row) const;
  /// k with its probability, for 32 uniform bits.
  int64_t sample(int64_t row, uint32_t bits) const {
    const uint32_t* last = &last_[static_cast<size_t>(row * row_size_)];
    int64_t k = 0;
    while (bits > last[k]) ++k;
    return k;
  }

 private:
  int64_t row_size_;
  std::vector<uint32_t> last_;  ///< (n_rows, row_size): the last of the 2^32 values that give k
};

/// A chain of order 1: K distinct random successors of each token, one of them along a cycle
/// through all tokens so that each can be reached from each. Sequences begin in the stationary
/// distribution. Floor: sum_i pi_i H(row i), whatever the window's length.
class Markov1Data final : public DataSource {
 public:
  /// Throws std::invalid_argument if the chain forgets too slowly for pi to be exact.
  Markov1Data(int64_t vocab_size, const SyntheticConfig& config, uint64_t data_seed);

  std::optional<int64_t> n_tokens(Split) const override { return std::nullopt; }
  void window(Split split, int64_t index, std::span<int32_t> out) const override;
  std::optional<double> floor(int64_t seq_len) const override;
  uint64_t fingerprint() const override { return fingerprint_; }

  int64_t vocab_size() const { return vocab_size_; }
  const SparseRows& rows() const { return rows_; }
  int32_t successor(int64_t token, int64_t k) const {
    return successors_[static_cast<size_t>(token * rows_.row_size() + k)];
  }
  /// The stationary distribution.
  const std::vector<double>& stationary() const { return stationary_; }

 private:
  void draw_successors();
  void find_stationary();

  int64_t vocab_size_;
  uint64_t seed_;
  SparseRows rows_;
  uint64_t fingerprint_;
  std::vector<int32_t> successors_;  ///< (V, K)
  std::vector<double> stationary_;   ///< (V)
  std::vector<double> cumulative_;   ///< (V)
  double entropy_ = 0.0;
};

/// A chain of order 2 over all V^2 pairs in memory of V K: after (a, b) comes, with the k-th
/// probability of row b, the token s_b(a) + d_bk mod V, where s_b is a random permutation of the
/// tokens and d_b1 … d_bK are distinct. For fixed b and k this is a permutation of a, so pairs are
/// uniform in the stationary chain and everything is exact: a model that sees only b can do no
/// better than ln V, one that sees a and b reaches H2 = mean over b of H(row b). Floor of a window
/// whose first token is given: (ln V + (T - 1) H2) / T.
class Markov2Data final : public DataSource {
 public:
  Markov2Data(int64_t vocab_size, const SyntheticConfig& config, uint64_t data_seed);

  std::optional<int64_t> n_tokens(Split) const override { return std::nullopt; }
  void window(Split split, int64_t index, std::span<int32_t> out) const override;
  std::optional<double> floor(int64_t seq_len) const override;
  uint64_t fingerprint() const override { return fingerprint_; }

  int64_t vocab_size() const { return vocab_size_; }
  const SparseRows& rows() const { return rows_; }
  int32_t successor(int64_t a, int64_t b, int64_t k) const;
  /// H2, nats.
  double entropy() const { return entropy_; }

 private:
  int64_t vocab_size_;
  uint64_t seed_;
  SparseRows rows_;
  uint64_t fingerprint_;
  std::vector<int32_t> offsets_;  ///< (V, K)
  double entropy_ = 0.0;
};

}  // namespace ballast
