#include "train/data/stories.h"

#include <array>

#include "train/data/sequence_stream.h"
#include "train/data/tokenizer.h"

namespace ballast {

StoriesData::StoriesData(int64_t vocab_size, uint64_t data_seed)
    : grammar_(stories_grammar()), seed_(data_seed) {
  check(vocab_size >= ByteTokenizer::kVocabSize, "model.vocab_size = ", vocab_size,
        "; expected at least 256 for data.synthetic.corpus: stories, whose tokens are bytes");
  check_internal(grammar_.max_length() <= kMaxStory, "a story can have ", grammar_.max_length(),
                 " bytes");
}

void StoriesData::window(Split split, int64_t index, std::span<int32_t> out) const {
  RandomStream stream = sequence_stream(seed_, split, index);
  std::array<char, kMaxStory> story;
  // A story kept with probability length / max_length has the probability of being the one at a
  // random byte.
  int64_t length = 0;
  do {
    length = grammar_.generate(stream, story);
  } while (static_cast<int64_t>(stream.below(static_cast<uint64_t>(grammar_.max_length()))) >=
           length);
  auto position = static_cast<int64_t>(stream.below(static_cast<uint64_t>(length)));
  for (int32_t& token : out) {
    if (position == length) {
      length = grammar_.generate(stream, story);
      position = 0;
    }
    token = static_cast<unsigned char>(story[static_cast<size_t>(position++)]);
  }
}

std::optional<double> StoriesData::floor(int64_t) const {
  return grammar_.entropy() / grammar_.mean_length();
}

uint64_t StoriesData::fingerprint() const {
  return mix64(derive_seed(seed_, "stories") ^ grammar_.fingerprint());
}

}  // namespace ballast
