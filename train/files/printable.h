// Text from files and names, fit for one line on a terminal.
#pragma once

#include <string>
#include <string_view>

namespace ballast {

/// The text with control characters (line ends, escapes) replaced by '?'.
inline std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

}  // namespace ballast
