// Short children's stories in bytes, without end and without a download.
#pragma once

#include <string_view>

#include "train/data/data_source.h"
#include "train/data/grammar.h"

namespace ballast {

/// The grammar's text: lists of people, animals, places and things, and the plots that use them.
/// Who and what a story is about is drawn once and comes back by name, so that looking back pays.
std::string_view stories_grammar();

/// Windows of the endless text in which independent stories follow each other. A sequence begins at
/// a uniformly random byte of that text: the story it begins in is drawn with probability
/// proportional to its length, the byte inside it uniformly. Nothing of that depends on T.
/// floor() is the entropy rate of that text, H(story) / E[bytes of a story], in nats a byte. A
/// window that begins in the middle of a story knows less than the rate assumes: it is a lower
/// bound.
class StoriesData final : public DataSource {
 public:
  /// Throws std::invalid_argument unless vocab_size holds all bytes.
  StoriesData(int64_t vocab_size, uint64_t data_seed);

  std::optional<int64_t> n_tokens(Split) const override { return std::nullopt; }
  void window(Split split, int64_t index, std::span<int32_t> out) const override;
  std::optional<double> floor(int64_t seq_len) const override;
  std::optional<double> bytes_per_token() const override { return 1.0; }
  uint64_t fingerprint() const override;

  const Grammar& grammar() const { return grammar_; }

 private:
  static constexpr int64_t kMaxStory = 4096;

  Grammar grammar_;
  uint64_t seed_;
};

}  // namespace ballast
