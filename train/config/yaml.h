// A strict reader of YAML: what it accepts has one meaning, and every node knows where it stands.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ballast {

/// A place in a file or on the command line, for error messages.
struct Location {
  std::string source;
  int line = 0;    ///< from 1; 0 when the whole source is meant
  int column = 0;  ///< from 1, in bytes

  /// "file:line:column" or just the source.
  std::string str() const;
};

struct YamlEntry;

/// A parsed value. Scalars keep their text: what it means is decided by the key it is given to.
struct YamlNode {
  enum class Kind { null, scalar, list, map };

  Kind kind = Kind::null;
  std::string text;     ///< of a scalar
  bool quoted = false;  ///< a quoted or block scalar: text, never a number, a truth value or null
  std::vector<YamlNode> items;
  std::vector<YamlEntry> entries;  ///< in the order of the file, keys distinct
  Location at;

  const YamlEntry* find(std::string_view key) const;
};

struct YamlEntry {
  std::string key;
  Location at;
  YamlNode value;
};

/// Parses one YAML document. Beyond YAML's own rules it refuses what yaml-cpp lets through or what
/// reads differently elsewhere: further documents or content, directives, duplicate keys, anchors,
/// aliases, tags, merge keys, keys that are not scalars, unclosed quotes, plain scalars over
/// several lines, tabs in the indentation, control characters, invalid UTF-8, more than 1 MiB, 32
/// levels or 10 000 values. Throws ConfigError "source:line:column: …".
YamlNode parse_yaml(std::string_view text, const std::string& source);

/// The same for a file, whose document must be a mapping. A missing, unreadable or empty file is a
/// ConfigError too.
YamlNode read_yaml_file(const std::filesystem::path& path);

/// The node as one line of YAML flow style; longer than `limit` characters it ends in "…".
std::string flow_text(const YamlNode& node, size_t limit = 60);

/// Text as it may stand in a one-line message: control characters escaped, cut at `limit`.
std::string printable(std::string_view text, size_t limit = 60);

// Scalars, strictly: decimal only, no underscores, no leading zeros, finite; true and false only.
// Each returns false when the text is something else.
bool parse_bool(std::string_view text, bool& value);
bool parse_double(std::string_view text, double& value);
/// Also 1e6: a decimal or exponent form whose value is a whole number below 2^53.
bool parse_int(std::string_view text, int64_t& value);

/// The shortest text that reads back as the same double, always with a point: 0.001, 3.0e-4.
std::string format_double(double value);
/// Plain where that cannot be mistaken for anything but text, else double-quoted.
std::string quote_if_needed(std::string_view text);

}  // namespace ballast
