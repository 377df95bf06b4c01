#include "train/data/tokenizer.h"

#include <array>
#include <string>

#include "tests/support/catch.h"

namespace ballast {
namespace {

std::optional<int64_t> find_in(const std::string& text) {
  return find_invalid_utf8({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

/// RFC 3629 read from its definition: decode the value, then judge it.
std::optional<int64_t> find_by_decoding(const std::string& text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t n = lead < 0x80       ? 1
                     : lead >> 5 == 6  ? 2
                     : lead >> 4 == 14 ? 3
                     : lead >> 3 == 30 ? 4
                                       : 0;
    if (n == 0 || i + n > text.size()) return static_cast<int64_t>(i);
    uint32_t value = n == 1 ? lead : lead & (0x7Fu >> n);
    for (size_t k = 1; k < n; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if (next >> 6 != 2) return static_cast<int64_t>(i);
      value = value << 6 | (next & 0x3Fu);
    }
    constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
    if (value < kLeast[n] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      return static_cast<int64_t>(i);
    }
    i += n;
  }
  return std::nullopt;
}

TEST_CASE("well-formed UTF-8 of every length is accepted", "[train][data][utf8]") {
  CHECK(find_in("") == std::nullopt);
  CHECK(find_in("plain text, longer than one word of eight bytes\n") == std::nullopt);
  CHECK(find_in("na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80 and more text") == std::nullopt);
}

TEST_CASE("the offset of the first malformed character is found", "[train][data][utf8]") {
  CHECK(find_in("0123456789\xFF") == 10);
  CHECK(find_in("caf\xE9 au lait, in Latin-1") == 3);
  CHECK(find_in("cut off \xE2\x82") == 8);
  CHECK(find_in("surrogate \xED\xA0\x80") == 10);
  CHECK(find_in("overlong \xC0\xAF") == 9);
}

TEST_CASE("four bytes at every border of the definition are judged as by decoding them",
          "[train][data][utf8]") {
  constexpr std::array<unsigned char, 22> kBorders = {
      0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1,
      0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xF0, 0xF4, 0xF5, 0xFF};
  int64_t disagreements = 0;
  std::string text(4, '\0');
  for (const auto a : kBorders) {
    for (const auto b : kBorders) {
      for (const auto c : kBorders) {
        for (const auto d : kBorders) {
          text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c),
                  static_cast<char>(d)};
          disagreements += find_in(text) != find_by_decoding(text);
        }
      }
    }
  }
  CHECK(disagreements == 0);
}

TEST_CASE("bytes survive encoding and decoding, whatever they are", "[train][data][tokenizer]") {
  const ByteTokenizer tokenizer;
  std::string all(256, '\0');
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i);
  const std::vector<int32_t> tokens = tokenizer.encode(all);
  CHECK(tokens.front() == 0);
  CHECK(tokens.back() == 255);
  CHECK(tokenizer.decode(tokens) == all);
  CHECK_THROWS_WITH(tokenizer.decode(std::vector<int32_t>{65, 256}),
                    "[decode] token 256 is not a byte; expected 0 to 255");
}

}  // namespace
}  // namespace ballast
