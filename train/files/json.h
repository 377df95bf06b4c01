// JSON from files that may be damaged or hostile.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace ballast {

using Json = nlohmann::json;

/// Parses one JSON value. Unlike the library's default, refuses duplicate keys, NUL bytes and more
/// than 16 levels of nesting. Throws std::runtime_error with the reason on one line.
Json parse_json(std::string_view text);

/// Compact text with sorted keys. Throws InternalError for a non-finite number (which JSON has
/// not).
std::string to_text(const Json& value);

}  // namespace ballast
