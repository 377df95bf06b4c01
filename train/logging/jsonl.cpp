#include "train/logging/jsonl.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "train/files/json.h"

namespace ballast {

namespace fs = std::filesystem;

namespace {

void append_quoted(std::string& out, std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (u < 0x20) {
      out += "\\u00";
      out += kDigits[u >> 4];
      out += kDigits[u & 15U];
    } else {
      out += c;
    }
  }
  out += '"';
}

template <class T>
void append_number(std::string& out, T value) {
  std::array<char, 32> text;
  const auto result = std::to_chars(text.data(), text.data() + text.size(), value);
  out.append(text.data(), result.ptr);
}

void append_value(std::string& out, const Record::Value& value) {
  if (const auto* real = std::get_if<double>(&value)) {
    if (!std::isfinite(*real)) {
      out += "null";
    } else if (*real == 0.0 && std::signbit(*real)) {
      out += "-0.0";  // "-0" would be read as the integer 0
    } else {
      append_number(out, *real);
    }
  } else if (const auto* whole = std::get_if<int64_t>(&value)) {
    append_number(out, *whole);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    out += *flag ? "true" : "false";
  } else {
    append_quoted(out, std::get<std::string>(value));
  }
}

/// The step of a line of ours: it opens with {"step":N and closes with }.
std::optional<int64_t> step_of(std::string_view line) {
  constexpr std::string_view kOpening = "{\"step\":";
  if (!line.starts_with(kOpening) || !line.ends_with('}')) return std::nullopt;
  int64_t step = 0;
  const char* end = line.data() + line.size();
  const auto result = std::from_chars(line.data() + kOpening.size(), end, step);
  const bool number_ends = result.ec == std::errc() && (*result.ptr == ',' || *result.ptr == '}');
  return number_ends ? std::optional(step) : std::nullopt;
}

/// use(line without its end) for each whole line until it returns false.
template <class F>
void for_lines(const InputFile& file, F&& use) {
  constexpr size_t kPiece = size_t{1} << 20;
  std::string pending;
  for (int64_t offset = 0; offset < file.size();) {
    const auto n = static_cast<size_t>(std::min<int64_t>(kPiece, file.size() - offset));
    const size_t old = pending.size();
    pending.resize(old + n);
    file.read(offset, std::as_writable_bytes(std::span(pending).subspan(old)));
    offset += static_cast<int64_t>(n);
    size_t begin = 0;
    for (size_t end; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1) {
      if (!use(std::string_view(pending).substr(begin, end - begin))) return;
    }
    pending.erase(0, begin);
  }
}

bool is_again_met(std::string_view line, int64_t step) {
  try {
    const Json event = parse_json(line);
    const auto at = event.at("step").get<int64_t>();
    const auto kind = event.at("kind").get<std::string>();
    // The checkpoint of this step, and what earlier resumes of it found, happen only once.
    const bool is_past = kind == "checkpoint" || kind == "resume" || kind == "checkpoint_rejected";
    return at > step || (at == step && !is_past);
  } catch (const std::exception&) {
    return true;  // not a whole event
  }
}

}  // namespace

void append_json_line(std::string& out, const Record& record) {
  char separator = '{';
  for (const Record::Field& field : record.fields()) {
    out += separator;
    append_quoted(out, field.key);
    out += ':';
    append_value(out, field.value);
    separator = ',';
  }
  out += "}\n";
}

JsonlFile::JsonlFile(FileSystem& files, const fs::path& path)
    : file_(files, path, OutputFile::Mode::append) {}

void JsonlFile::write(const Record& record) {
  line_.clear();
  append_json_line(line_, record);
  file_.append_whole(line_);
}

TrimmedLog trim_metrics(FileSystem& files, const fs::path& path, int64_t step) {
  TrimmedLog trimmed;
  if (!path_exists(path)) return trimmed;
  const InputFile file(path);
  int64_t end = 0;
  for_lines(file, [&](std::string_view line) {
    const auto line_step = step_of(line);
    if (!line_step || *line_step >= step) return false;
    trimmed.last_step = *line_step;
    ++trimmed.kept;
    end += static_cast<int64_t>(line.size()) + 1;
    return true;
  });
  trimmed.dropped_bytes = file.size() - end;
  if (trimmed.dropped_bytes > 0) files.truncate(path, end);
  return trimmed;
}

void trim_events(FileSystem& files, const fs::path& path, int64_t step) {
  if (!path_exists(path)) return;
  const InputFile file(path);
  std::string kept;
  for_lines(file, [&](std::string_view line) {
    if (!is_again_met(line, step)) kept.append(line).append(1, '\n');
    return true;
  });
  if (static_cast<int64_t>(kept.size()) != file.size()) files.write_durably(path, kept);
}

}  // namespace ballast
