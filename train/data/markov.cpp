#include "train/data/markov.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/random.h"
#include "train/data/batch.h"
#include "train/data/sequence_stream.h"

namespace ballast {
namespace {

/// ln of a value of Gamma(shape, 1). Marsaglia & Tsang 2000; shapes below 1 through
/// Gamma(shape + 1) * U^(1 / shape), in logarithms because small shapes underflow.
double log_gamma_variate(RandomStream& stream, double shape) {
  double boost = 0.0;
  if (shape < 1.0) {
    boost = std::log(1.0 - stream.uniform()) / shape;
    shape += 1.0;
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = stream.normal();
    const double t = 1.0 + c * x;
    if (t <= 0.0) continue;
    const double v = t * t * t;
    if (std::log(1.0 - stream.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) {
      return boost + std::log(d * v);
    }
  }
}

int64_t row_size(const SyntheticConfig& config, int64_t vocab_size) {
  check(vocab_size >= 2, "model.vocab_size = ", vocab_size,
        "; expected at least 2 for data.synthetic.corpus: ", name_of(config.corpus));
  const int64_t size = std::min(config.successors, vocab_size);
  check(size <= (int64_t{1} << 24) / vocab_size, "data.synthetic.successors = ", size,
        " for each of model.vocab_size = ", vocab_size,
        " tokens; expected a product of at most 2^24");
  return size;
}

/// Of what a chain is made from, not of its tables: their last bits may depend on the C library.
uint64_t fingerprint_of(const SyntheticConfig& config, int64_t vocab_size, uint64_t data_seed) {
  uint64_t hash = derive_seed(data_seed, name_of(config.corpus));
  hash = mix64(hash ^ static_cast<uint64_t>(vocab_size));
  hash = mix64(hash ^ static_cast<uint64_t>(config.successors));
  return mix64(hash ^ std::bit_cast<uint64_t>(config.concentration));
}

}  // namespace

UniformData::UniformData(int64_t vocab_size, uint64_t data_seed)
    : vocab_size_(static_cast<uint64_t>(vocab_size)), seed_(data_seed) {}

void UniformData::window(Split split, int64_t index, std::span<int32_t> out) const {
  RandomStream stream = sequence_stream(seed_, split, index);
  for (int32_t& token : out) token = static_cast<int32_t>(stream.below(vocab_size_));
}

std::optional<double> UniformData::floor(int64_t) const {
  return std::log(static_cast<double>(vocab_size_));
}

uint64_t UniformData::fingerprint() const {
  return mix64(derive_seed(seed_, "uniform") ^ vocab_size_);
}

SparseRows::SparseRows(int64_t n_rows, int64_t row_size, double concentration, uint64_t seed)
    : row_size_(row_size), last_(static_cast<size_t>(n_rows * row_size)) {
  constexpr double kValues = 0x1p32;
  std::vector<double> weights(static_cast<size_t>(row_size));
  std::vector<uint64_t> counts(weights.size());
  for (int64_t row = 0; row < n_rows; ++row) {
    RandomStream stream(seed, static_cast<uint64_t>(row));
    for (double& w : weights) w = log_gamma_variate(stream, concentration);
    const double largest = *std::max_element(weights.begin(), weights.end());
    double sum = 0.0;
    for (double& w : weights) sum += w = std::exp(w - largest);
    uint64_t total = 0;
    for (size_t k = 0; k < weights.size(); ++k) {
      counts[k] = std::max<uint64_t>(1, static_cast<uint64_t>(weights[k] / sum * kValues));
      total += counts[k];
    }
    // What rounding left over goes to the largest, which can give as well as take.
    *std::max_element(counts.begin(), counts.end()) += (uint64_t{1} << 32) - total;
    uint64_t end = 0;
    for (size_t k = 0; k < weights.size(); ++k) {
      end += counts[k];
      last_[static_cast<size_t>(row * row_size) + k] = static_cast<uint32_t>(end - 1);
    }
  }
}

double SparseRows::probability(int64_t row, int64_t k) const {
  const uint32_t* last = &last_[static_cast<size_t>(row * row_size_)];
  const uint64_t begin = k == 0 ? 0 : uint64_t{last[k - 1]} + 1;
  return static_cast<double>(uint64_t{last[k]} + 1 - begin) * 0x1p-32;
}

double SparseRows::entropy(int64_t row) const {
  double sum = 0.0;
  for (int64_t k = 0; k < row_size_; ++k) {
    const double p = probability(row, k);
    sum -= p * std::log(p);
  }
  return sum;
}

Markov1Data::Markov1Data(int64_t vocab_size, const SyntheticConfig& config, uint64_t data_seed)
    : vocab_size_(vocab_size),
      seed_(data_seed),
      rows_(vocab_size, row_size(config, vocab_size), config.concentration,
            derive_seed(data_seed, "markov1.rows")),
      fingerprint_(fingerprint_of(config, vocab_size, data_seed)) {
  draw_successors();
  find_stationary();
  for (int64_t i = 0; i < vocab_size_; ++i) {
    entropy_ += stationary_[static_cast<size_t>(i)] * rows_.entropy(i);
  }
}

void Markov1Data::draw_successors() {
  const int64_t K = rows_.row_size();
  const uint64_t seed = derive_seed(seed_, "markov1.successors");
  successors_.resize(static_cast<size_t>(vocab_size_ * K));
  for (int64_t p = 0; p < vocab_size_; ++p) {
    const int64_t token = permute(p, vocab_size_, seed);
    const int64_t next = permute((p + 1) % vocab_size_, vocab_size_, seed);
    // An order of all tokens of its own for each row, with the cycle's token moved to the front.
    const uint64_t key = mix64(seed + 1 + static_cast<uint64_t>(token));
    const auto row = successors_.begin() + token * K;
    row[0] = static_cast<int32_t>(next);
    int64_t filled = 1;
    for (int64_t k = 0; filled < K; ++k) {
      const int64_t candidate = permute(k, vocab_size_, key);
      if (candidate != next) row[filled++] = static_cast<int32_t>(candidate);
    }
  }
}

void Markov1Data::find_stationary() {
  const int64_t K = rows_.row_size();
  const auto n = static_cast<size_t>(vocab_size_);
  std::vector<double> edges(successors_.size());
  for (int64_t i = 0; i < vocab_size_; ++i) {
    for (int64_t k = 0; k < K; ++k) edges[static_cast<size_t>(i * K + k)] = rows_.probability(i, k);
  }
  stationary_.assign(n, 1.0 / static_cast<double>(vocab_size_));
  std::vector<double> next(n);
  // pi <- pi (P + I) / 2 has the same fixed point as P and converges for periodic chains too.
  const int64_t max_passes = 200 + int64_t{500000000} / (vocab_size_ * K + 1000);
  double change = 1.0;
  for (int64_t pass = 0; pass < max_passes && change > 1e-13; ++pass) {
    std::fill(next.begin(), next.end(), 0.0);
    for (size_t i = 0; i < n; ++i) {
      for (size_t e = i * static_cast<size_t>(K); e < (i + 1) * static_cast<size_t>(K); ++e) {
        next[static_cast<size_t>(successors_[e])] += stationary_[i] * edges[e];
      }
    }
    double sum = 0.0;
    change = 0.0;
    for (size_t i = 0; i < n; ++i) {
      change += std::abs(next[i] - stationary_[i]);
      stationary_[i] = 0.5 * (stationary_[i] + next[i]);
      sum += stationary_[i];
    }
    for (double& p : stationary_) p /= sum;
  }
  check(change <= 1e-13,
        "data.synthetic: the chain forgets its past too slowly for its entropy to be exact; raise "
        "data.synthetic.concentration or lower model.vocab_size = ",
        vocab_size_);
  cumulative_.resize(n);
  double sum = 0.0;
  for (size_t i = 0; i < n; ++i) cumulative_[i] = sum += stationary_[i];
}

void Markov1Data::window(Split split, int64_t index, std::span<int32_t> out) const {
  RandomStream stream = sequence_stream(seed_, split, index);
  const double u = stream.uniform() * cumulative_.back();
  int64_t token =
      std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, u) - cumulative_.begin();
  for (int32_t& value : out) {
    value = static_cast<int32_t>(token);
    token = successor(token, rows_.sample(token, stream.next_u32()));
  }
}

std::optional<double> Markov1Data::floor(int64_t) const {
  return entropy_;
}

Markov2Data::Markov2Data(int64_t vocab_size, const SyntheticConfig& config, uint64_t data_seed)
    : vocab_size_(vocab_size),
      seed_(derive_seed(data_seed, "markov2")),
      rows_(vocab_size, row_size(config, vocab_size), config.concentration,
            derive_seed(data_seed, "markov2.rows")),
      fingerprint_(fingerprint_of(config, vocab_size, data_seed)) {
  const int64_t K = rows_.row_size();
  const uint64_t seed = derive_seed(data_seed, "markov2.offsets");
  offsets_.resize(static_cast<size_t>(vocab_size_ * K));
  for (int64_t b = 0; b < vocab_size_; ++b) {
    const uint64_t key = mix64(seed + static_cast<uint64_t>(b));
    for (int64_t k = 0; k < K; ++k) {
      offsets_[static_cast<size_t>(b * K + k)] = static_cast<int32_t>(permute(k, vocab_size_, key));
    }
    entropy_ += rows_.entropy(b);
  }
  entropy_ /= static_cast<double>(vocab_size_);
}

int32_t Markov2Data::successor(int64_t a, int64_t b, int64_t k) const {
  const int64_t place = permute(a, vocab_size_, mix64(seed_ + static_cast<uint64_t>(b)));
  const int64_t c = place + offsets_[static_cast<size_t>(b * rows_.row_size() + k)];
  return static_cast<int32_t>(c < vocab_size_ ? c : c - vocab_size_);
}

void Markov2Data::window(Split split, int64_t index, std::span<int32_t> out) const {
  RandomStream stream = sequence_stream(seed_, split, index);
  const auto V = static_cast<uint64_t>(vocab_size_);
  auto a = static_cast<int32_t>(stream.below(V));
  auto b = static_cast<int32_t>(stream.below(V));
  for (int32_t& value : out) {
    value = a;
    const int32_t c = successor(a, b, rows_.sample(b, stream.next_u32()));
    a = b;
    b = c;
  }
}

std::optional<double> Markov2Data::floor(int64_t seq_len) const {
  const auto T = static_cast<double>(seq_len);
  return (std::log(static_cast<double>(vocab_size_)) + (T - 1.0) * entropy_) / T;
}

}  // namespace ballast
