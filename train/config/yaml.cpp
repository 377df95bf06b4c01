#include "train/config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>

#include "core/error.h"

namespace ballast {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxDepth = 32;
constexpr int64_t kMaxNodes = 10000;

template <class... Parts>
[[noreturn]] void fail(const Location& at, const Parts&... parts) {
  throw ConfigError(concat(at.str(), ": ", parts...));
}

Location location_of(std::string_view text, size_t offset, const std::string& source) {
  const std::string_view before = text.substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column = newline == std::string_view::npos ? offset : offset - newline - 1;
  return {source, static_cast<int>(line) + 1, static_cast<int>(column) + 1};
}

/// Bytes of the valid UTF-8 sequence at the beginning of `text`, or 0.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < n) return 0;
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and what lies beyond U+10FFFF differ from the rest in the second
  // byte.
  const unsigned char second = byte(1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return 0;
  if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return 0;
  return n;
}

/// Refuses bytes that are not text, and text that yaml-cpp would misread in silence: it ends the
/// file at an EOT character and joins lines that end in a lone carriage return.
void check_characters(std::string_view text, const std::string& source) {
  size_t i = 0;
  while (i < text.size()) {
    const auto c = static_cast<unsigned char>(text[i]);
    const size_t n = utf8_length(text.substr(i));
    if (n == 0) fail(location_of(text, i, source), "invalid UTF-8; expected a UTF-8 text file");
    if (c == '\r') {
      fail(location_of(text, i, source), "a lone carriage return; expected lines to end in \\n");
    }
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F) {
      std::array<char, 8> code;
      std::snprintf(code.data(), code.size(), "0x%02X", c);
      fail(location_of(text, i, source), "control character ", code.data(),
           "; expected plain text");
    }
    if (text.substr(i, 3) == "\xEF\xBB\xBF") {
      fail(location_of(text, i, source), "a byte order mark inside the text; expected none");
    }
    i += n;
  }
}

/// Refuses tabs in the indentation, whose width nobody agrees on, and directives.
void check_lines(std::string_view text, const std::string& source) {
  bool in_prologue = true;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    const size_t first = line.find_first_not_of(" \t");
    if (first != std::string_view::npos && line[first] != '#') {
      const size_t tab = line.find('\t');
      if (tab < first) {
        fail(location_of(text, begin + tab, source), "a tab in the indentation; expected spaces");
      }
      if (in_prologue && line[0] == '%') {
        fail(location_of(text, begin, source), "a YAML directive; expected none");
      }
      in_prologue = false;
    }
    begin = end + 1;
  }
}

/// yaml-cpp reads all of an unfinished collection before its first event, at 200 bytes a bracket.
void check_structure(std::string_view text, const std::string& source) {
  int64_t n = 0;
  for (const char c : text) n += c == '[' || c == '{' || c == ',' || c == ':';
  if (n > 4 * kMaxNodes) {
    fail({source, 0, 0}, n, " brackets, commas and colons; expected a configuration of at most ",
         kMaxNodes, " values");
  }
}

/// Offset just behind the closing quote of the quoted scalar at `begin`, or npos if it is not
/// closed: yaml-cpp takes the end of the file for the quote.
size_t quoted_end(std::string_view text, size_t begin) {
  const char quote = text[begin];
  for (size_t i = begin + 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      if (quote == '"' || i + 1 >= text.size() || text[i + 1] != quote) return i + 1;
      ++i;
    }
  }
  return std::string_view::npos;
}

/// Builds the tree from yaml-cpp's events and refuses what this reader does not take.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  bool has_document() const { return has_document_; }
  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (has_document_) {
      fail(locate(mark), "more content after the end of the document; expected one YAML mapping");
    }
    has_document_ = true;
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_properties(mark, "", anchor);
    add(make(YamlNode::Kind::null, mark), offset_of(mark));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(locate(mark), "a YAML alias; expected the value itself");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const size_t begin = offset_of(mark);
    const char first = begin < text_.size() ? text_[begin] : '\0';
    const bool is_quoted = first == '"' || first == '\'';
    const bool is_block = first == '|' || first == '>';
    refuse_properties(mark, tag == "!" && (is_quoted || is_block) ? "" : tag, anchor);

    YamlNode node = make(YamlNode::Kind::scalar, mark);
    node.text = value;
    node.quoted = is_quoted || is_block;
    size_t end = std::string_view::npos;
    if (is_quoted) {
      end = quoted_end(text_, begin);
      if (end == std::string_view::npos) fail(node.at, "this quote is never closed");
      refuse_escaped(node);
    } else if (!is_block) {
      if (text_.substr(begin, value.size()) != value) {
        fail(node.at, "an unquoted value runs over several lines; put it on one line or quote it");
      }
      end = begin + value.size();
    }
    add(std::move(node), end);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::list, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    const size_t begin = offset_of(mark);
    if (style == YAML::EmitterStyle::Flow && begin < text_.size() && text_[begin] != '{' &&
        tag == "?" && anchor == 0) {
      fail(locate(mark), "a pair without braces inside a list, or a list that is never closed; ",
           "expected {key: value} or ']'");
    }
    open(YamlNode::Kind::map, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    std::optional<YamlEntry> entry;  // of a map: the key that waits for its value
  };

  Location locate(const YAML::Mark& mark) const {
    return {source_, std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1};
  }

  size_t offset_of(const YAML::Mark& mark) const {
    return std::min(static_cast<size_t>(std::max(mark.pos, 0)), text_.size());
  }

  YamlNode make(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.at = locate(mark);
    if (++n_nodes_ > kMaxNodes) {
      fail(node.at, "more than ", kMaxNodes, " values; expected a configuration");
    }
    return node;
  }

  void refuse_properties(const YAML::Mark& mark, const std::string& tag,
                         YAML::anchor_t anchor) const {
    if (anchor != 0) fail(locate(mark), "a YAML anchor; expected the value alone");
    if (!tag.empty() && tag != "?") fail(locate(mark), "a YAML tag; expected the value alone");
  }

  void refuse_escaped(const YamlNode& node) const {
    if (node.text.find('\0') != std::string::npos) {
      fail(node.at, "an escaped NUL character; expected plain text");
    }
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    refuse_properties(mark, tag, anchor);
    if (stack_.size() >= kMaxDepth) fail(locate(mark), "nested deeper than ", kMaxDepth, " levels");
    if (!stack_.empty() && stack_.back().node.kind == YamlNode::Kind::map && !stack_.back().entry) {
      fail(locate(mark),
           "a key that is a list or a mapping, or a bracket that is never closed; expected a name");
    }
    stack_.push_back({make(kind, mark), std::nullopt});
  }

  void close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    add(std::move(node), std::string_view::npos);
  }

  /// Puts a finished node where it belongs; `end` is the offset behind a scalar on one line.
  void add(YamlNode node, size_t end) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& top = stack_.back();
    if (top.node.kind == YamlNode::Kind::list) {
      top.node.items.push_back(std::move(node));
    } else if (!top.entry) {
      take_key(top, std::move(node), end);
    } else {
      // yaml-cpp places a value that is not there at whatever comes next.
      if (node.kind == YamlNode::Kind::null && node.at.line != top.entry->at.line) {
        node.at = top.entry->at;
      }
      top.entry->value = std::move(node);
      top.node.entries.push_back(std::move(*top.entry));
      top.entry.reset();
    }
  }

  void take_key(Open& top, YamlNode node, size_t end) const {
    if (node.kind != YamlNode::Kind::scalar) fail(node.at, "a missing key; expected 'key: value'");
    if (node.text == "<<" && !node.quoted) {
      fail(node.at, "a merge key '<<'; expected 'extends: file' at the top of the file");
    }
    if (end < text_.size()) end = text_.find_first_not_of(' ', end);
    if (end >= text_.size() || text_[end] != ':') {
      fail(node.at, "'", printable(node.text), "' is not followed by ':'; expected 'key: value'");
    }
    if (const YamlEntry* first = top.node.find(node.text)) {
      fail(node.at, "duplicate key '", printable(node.text), "'; it is already set in line ",
           first->at.line);
    }
    top.entry = YamlEntry{std::move(node.text), std::move(node.at), {}};
  }

  std::string_view text_;
  const std::string& source_;
  bool has_document_ = false;
  int64_t n_nodes_ = 0;
  YamlNode root_;
  std::vector<Open> stack_;
};

std::string without_carriage_returns(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    result.push_back(text[i]);
  }
  return result;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// [-+] (0 | [1-9][0-9]*) [. digits] [e [-+] digits], or a leading point. No hex, no underscores.
bool is_number(std::string_view text) {
  size_t i = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const auto digits = [&] {
    const size_t begin = i;
    while (i < text.size() && is_digit(text[i])) ++i;
    return i - begin;
  };
  const bool leading_zero = i < text.size() && text[i] == '0';
  const size_t whole = digits();
  if (leading_zero && whole > 1) return false;
  size_t fraction = 0;
  if (i < text.size() && text[i] == '.') {
    ++i;
    fraction = digits();
  }
  if (whole + fraction == 0) return false;
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

}  // namespace

std::string Location::str() const {
  const std::string name = printable(source, 4096);
  return line == 0 ? name : concat(name, ":", line, ":", column);
}

const YamlEntry* YamlNode::find(std::string_view key) const {
  const auto it = std::find_if(entries.begin(), entries.end(),
                               [&](const YamlEntry& entry) { return entry.key == key; });
  return it == entries.end() ? nullptr : &*it;
}

YamlNode parse_yaml(std::string_view raw, const std::string& source) {
  const Location whole{source, 0, 0};
  if (raw.size() > kMaxBytes) fail(whole, "larger than 1 MiB; expected a configuration file");
  if (raw.substr(0, 3) == "\xEF\xBB\xBF") raw.remove_prefix(3);
  const std::string text = without_carriage_returns(raw);
  check_characters(text, source);
  check_lines(text, source);
  check_structure(text, source);

  TreeBuilder builder(text, source);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    // The second call meets OnDocumentStart, which throws, when anything is left. It is never
    // called a third time: on some input yaml-cpp then hands out documents without end.
    if (parser.HandleNextDocument(builder)) parser.HandleNextDocument(builder);
  } catch (const YAML::Exception& e) {
    fail({source, std::max(e.mark.line, 0) + 1, std::max(e.mark.column, 0) + 1},
         "not valid YAML: ", printable(e.msg));
  }
  YamlNode root = builder.take();
  if (root.at.source.empty()) root.at = {source, 1, 1};
  return root;
}

YamlNode read_yaml_file(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  const std::string source = path.string();
  const Location whole{source, 0, 0};
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    fail(whole, "no such file; expected a configuration in YAML");
  }
  if (error) fail(whole, "cannot be read: ", error.message());
  if (fs::is_directory(status)) fail(whole, "is a folder; expected a configuration file");
  // A pipe or a device might never end.
  if (!fs::is_regular_file(status))
    fail(whole, "is not a regular file; expected a configuration file");

  std::ifstream file(path, std::ios::binary);
  if (!file) fail(whole, "cannot be opened; check its permissions");
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) fail(whole, "cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));

  YamlNode root = parse_yaml(text, source);
  if (root.kind == YamlNode::Kind::null) fail(whole, "is empty; expected a YAML mapping");
  if (root.kind != YamlNode::Kind::map) {
    fail(root.at, "the document is ",
         root.kind == YamlNode::Kind::list ? "a list" : "a single value",
         "; expected a YAML mapping");
  }
  return root;
}

std::string flow_text(const YamlNode& node, size_t limit) {
  // Built piece by piece so that a huge node costs no more than the limit.
  std::string out;
  const auto append = [&](const auto& self, const YamlNode& n) -> void {
    if (out.size() > limit) return;
    switch (n.kind) {
      case YamlNode::Kind::null:
        out += "null";
        return;
      case YamlNode::Kind::scalar:
        out += concat(n.quoted ? "'" : "", n.text.substr(0, limit + 1), n.quoted ? "'" : "");
        return;
      case YamlNode::Kind::list: {
        out += '[';
        const char* separator = "";
        for (const YamlNode& item : n.items) {
          out += separator;
          self(self, item);
          separator = ", ";
          if (out.size() > limit) return;
        }
        out += ']';
        return;
      }
      case YamlNode::Kind::map: {
        out += '{';
        const char* separator = "";
        for (const YamlEntry& entry : n.entries) {
          out += concat(separator, entry.key, ": ");
          self(self, entry.value);
          separator = ", ";
          if (out.size() > limit) return;
        }
        out += '}';
        return;
      }
    }
  };
  append(append, node);
  return printable(out, limit);
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t n = utf8_length(text.substr(i));
    if (out.size() >= limit && text.size() > i) return out + "…";
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\n') {
      out += "\\n";
    } else if (n == 0 || c < 0x20 || c == 0x7F) {
      std::array<char, 8> code;
      std::snprintf(code.data(), code.size(), "\\x%02x", c);
      out += code.data();
    } else {
      out += text.substr(i, n);
    }
    i += std::max<size_t>(n, 1);
  }
  return out;
}

bool parse_bool(std::string_view text, bool& value) {
  if (text != "true" && text != "false") return false;
  value = text == "true";
  return true;
}

bool parse_double(std::string_view text, double& value) {
  if (!is_number(text)) return false;
  if (text[0] == '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse_int(std::string_view text, int64_t& value) {
  if (!is_number(text)) return false;
  if (text[0] == '+') text.remove_prefix(1);
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error == std::errc() && end == last) return true;
  double number = 0.0;
  if (error == std::errc::result_out_of_range || !parse_double(text, number)) return false;
  constexpr double kExact = 9007199254740992.0;  // 2^53: below it a double holds every whole number
  if (number != std::floor(number) || std::abs(number) >= kExact) return false;
  value = static_cast<int64_t>(number);
  return true;
}

std::string format_double(double value) {
  std::array<char, 32> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), result.ptr);
  const size_t e = text.find('e');
  std::string mantissa = text.substr(0, e);
  if (mantissa.find('.') == std::string::npos) mantissa += ".0";
  if (e == std::string::npos) return mantissa;
  // The point and the sign of the exponent make it a number for YAML 1.1 readers such as PyYAML
  // too.
  const size_t digits = text.find_first_not_of('0', e + 2);
  return concat(mantissa, "e", text[e + 1], text.substr(std::min(digits, text.size() - 1)));
}

std::string quote_if_needed(std::string_view text) {
  static constexpr std::string_view kWords[] = {"null", "true", "false", "yes", "no",
                                                "on",   "off",  "y",     "n"};
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const bool is_plain = !text.empty() && (is_letter(text[0]) || text[0] == '_' || text[0] == '/') &&
                        std::all_of(text.begin(), text.end(),
                                    [&](char c) {
                                      return is_letter(c) || is_digit(c) || c == '_' || c == '.' ||
                                             c == '/' || c == '-' || c == '+';
                                    }) &&
                        std::find(std::begin(kWords), std::end(kWords), lower) == std::end(kWords);
  if (is_plain) return std::string(text);

  std::string out(1, '"');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      std::array<char, 8> code;
      std::snprintf(code.data(), code.size(), "\\x%02x", byte);
      out += code.data();
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

}  // namespace ballast
