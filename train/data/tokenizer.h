// Text to tokens and back. The one tokenizer of this version takes bytes as they are.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ballast {

/// Offset of the first byte that is not part of well-formed UTF-8 (Unicode 15, table 3-7): no
/// overlong forms, surrogates or values above U+10FFFF; none: the whole text is well-formed.
std::optional<int64_t> find_invalid_utf8(std::span<const uint8_t> text);

/// Token ids are the byte values 0 to 255.
class ByteTokenizer {
 public:
  static constexpr int64_t kVocabSize = 256;

  std::vector<int32_t> encode(std::string_view text) const;

  /// The bytes themselves. A sampled sequence need not be well-formed UTF-8 and is not repaired.
  /// Throws std::invalid_argument for an id outside [0, 256).
  std::string decode(std::span<const int32_t> tokens) const;
};

}  // namespace ballast
