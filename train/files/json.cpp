#include "train/files/json.h"

#include <cmath>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.h"

namespace ballast {

namespace {

constexpr int kMaxDepth = 16;

void check_finite(const Json& value) {
  if (value.is_number_float()) {
    check_internal(std::isfinite(value.get<double>()), "a non-finite number has no JSON text");
  }
  if (value.is_structured()) {
    for (const Json& child : value) check_finite(child);
  }
}

}  // namespace

Json parse_json(std::string_view text) {
  // The library takes a NUL byte for the end of its input.
  if (text.find('\0') != std::string_view::npos)
    throw std::runtime_error("not JSON: holds a NUL byte");
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&keys](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) throw std::runtime_error("not acceptable JSON: nested too deeply");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key &&
        !keys.back().insert(parsed.get<std::string>()).second) {
      throw std::runtime_error(concat("not acceptable JSON: duplicate key ", parsed.dump()));
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& e) {
    throw std::runtime_error(concat("not JSON: ", e.what()));
  }
}

std::string to_text(const Json& value) {
  check_finite(value);
  return value.dump();
}

}  // namespace ballast
