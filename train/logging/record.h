// One line of a log, and those who take it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/error.h"

namespace ballast {

/// Flat keys and values in the order in which they were added. Reused line after line: once it has
/// held the longest line, adding numbers allocates nothing.
class Record {
 public:
  using Value = std::variant<double, int64_t, bool, std::string>;
  struct Field {
    std::string key;
    Value value;
  };

  /// Begins the next line, which opens with "step".
  void begin(int64_t step) {
    n_ = 0;
    add("step", step);
  }
  void add(std::string_view key, double value) { next(key).value = value; }
  void add(std::string_view key, int64_t value) { next(key).value = value; }
  void add(std::string_view key, bool value) { next(key).value = value; }
  void add(std::string_view key, std::string_view value) { next(key).value = std::string(value); }
  void add(std::string_view key, const char* value) { add(key, std::string_view(value)); }

  int64_t step() const { return n_ == 0 ? 0 : std::get<int64_t>(fields_[0].value); }
  std::span<const Field> fields() const { return std::span(fields_).first(n_); }
  /// A number by its key; a search from the front, so meant for the keys every line begins with.
  std::optional<double> number(std::string_view key) const {
    for (const Field& f : fields()) {
      if (f.key != key) continue;
      if (const auto* whole = std::get_if<int64_t>(&f.value)) return static_cast<double>(*whole);
      if (const auto* real = std::get_if<double>(&f.value)) return *real;
    }
    return std::nullopt;
  }

 private:
  Field& next(std::string_view key);

  std::vector<Field> fields_;
  size_t n_ = 0;
};

using StepRecord = Record;

class MetricSink {
 public:
  virtual ~MetricSink() = default;
  virtual void write(const StepRecord& record) = 0;
  /// What was written survives a power loss once this returns; called with each checkpoint.
  virtual void sync() {}
};

}  // namespace ballast
