#include "train/data/tokenizer.h"

#include <cstring>

#include "core/error.h"

namespace ballast {
namespace {

/// Length of the well-formed character that starts at text[i], or 0.
size_t utf8_length(std::span<const uint8_t> text, size_t i) {
  const uint8_t lead = text[i];
  if (lead < 0x80) return 1;
  size_t length = 0;
  // The second byte's range excludes overlong forms, surrogates and values above U+10FFFF.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  if (text.size() - i < length || text[i + 1] < low || text[i + 1] > high) return 0;
  for (size_t k = 2; k < length; ++k) {
    if ((text[i + k] & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

std::optional<int64_t> find_invalid_utf8(std::span<const uint8_t> text) {
  size_t i = 0;
  while (i < text.size()) {
    // Most text is ASCII: eight bytes at a time.
    uint64_t word = 0;
    if (text.size() - i >= sizeof(word)) {
      std::memcpy(&word, text.data() + i, sizeof(word));
      if ((word & 0x8080808080808080u) == 0) {
        i += sizeof(word);
        continue;
      }
    }
    const size_t length = utf8_length(text, i);
    if (length == 0) return static_cast<int64_t>(i);
    i += length;
  }
  return std::nullopt;
}

std::vector<int32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> tokens(text.size());
  for (size_t i = 0; i < text.size(); ++i) tokens[i] = static_cast<unsigned char>(text[i]);
  return tokens;
}

std::string ByteTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text(tokens.size(), '\0');
  for (size_t i = 0; i < tokens.size(); ++i) {
    check(tokens[i] >= 0 && tokens[i] < kVocabSize, "[decode] token ", tokens[i],
          " is not a byte; expected 0 to 255");
    text[i] = static_cast<char>(tokens[i]);
  }
  return text;
}

}  // namespace ballast
