#include "train/config/field.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace ballast {
namespace {

std::string join(const std::vector<std::string>& parts, const std::string& separator) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) out += (i == 0 ? "" : separator) + parts[i];
  return out;
}

std::string format_bound(double x) {
  return x == std::floor(x) && std::abs(x) < 1e15 ? std::to_string(static_cast<int64_t>(x))
                                                  : format_double(x);
}

std::string describe(const Range& range) {
  const bool has_low = std::isfinite(range.low);
  const bool has_high = std::isfinite(range.high);
  std::string out;
  if (has_low) out += (range.low_open ? " above " : " of at least ") + format_bound(range.low);
  if (has_low && has_high) out += " and";
  if (has_high) out += (range.high_open ? " below " : " at most ") + format_bound(range.high);
  return out;
}

std::vector<std::string> names_of(const std::vector<ValueType::Choice>& choices) {
  std::vector<std::string> names;
  for (const auto& choice : choices) names.push_back(choice.name);
  return names;
}

/// Damerau's distance with adjacent swaps: insertions, deletions, replacements, swaps.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min(
          {previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before.swap(previous);
    previous.swap(row);
  }
  return previous[b.size()];
}

std::string either(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (const auto& name : names) quoted.push_back("'" + name + "'");
  return quoted.empty() ? "" : "; did you mean " + join(quoted, " or ") + "?";
}

/// Full paths of the fields elsewhere that are called `key`, at most three.
void find_elsewhere(const std::vector<Field>& fields, std::string_view key,
                    std::vector<std::string>& paths) {
  for (const Field& field : fields) {
    if (field.key == key && paths.size() < 3) paths.push_back(field.path);
    find_elsewhere(field.fields, key, paths);
  }
}

bool same_value(const YamlNode& a, const YamlNode& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case YamlNode::Kind::null:
      return true;
    case YamlNode::Kind::scalar: {
      double x = 0.0;
      double y = 0.0;
      if (!a.quoted && !b.quoted && parse_double(a.text, x) && parse_double(b.text, y))
        return x == y;
      return a.text == b.text;
    }
    case YamlNode::Kind::list:
      return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), same_value);
    case YamlNode::Kind::map:
      return std::equal(a.entries.begin(), a.entries.end(), b.entries.begin(), b.entries.end(),
                        [](const auto& x, const auto& y) {
                          return x.key == y.key && same_value(x.value, y.value);
                        });
  }
  return false;
}

YamlNode plain_scalar(std::string text) {
  YamlNode node;
  node.kind = YamlNode::Kind::scalar;
  node.text = std::move(text);
  return node;
}

/// Says why a scalar of another language's taste is refused, when that is known.
std::string number_reason(const YamlNode& node) {
  const std::string& s = node.text;
  const auto has = [&](const char* characters) {
    return s.find_first_of(characters) != std::string::npos;
  };
  if (node.quoted) return "quoted, so it is text";
  if (s.size() > 1 && s[0] == '0' && (s[1] == 'x' || s[1] == 'o' || s[1] == 'b')) {
    return "not a decimal number";
  }
  if (has("_") && !has("abcdfghijklmnopqrstuvwxyz")) return "underscores are not part of a number";
  if (s.size() > 1 && (s[0] == '0' || (has("+-") && s[1] == '0')) && !has(".xeE")) {
    return "leading zeros are ambiguous";
  }
  std::string lower;
  for (const char c : s) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const char* name : {".inf", "-.inf", "+.inf", ".nan", "inf", "-inf", "nan", "infinity"}) {
    if (lower == name) return "not a finite number";
  }
  return "not a number";
}

class FieldReader {
 public:
  explicit FieldReader(const std::vector<Field>& top) : top_(top) {}

  void read_map(const YamlNode& map, const std::vector<Field>& fields, const std::string& prefix) {
    for (const YamlEntry& entry : map.entries) {
      const auto it = std::find_if(fields.begin(), fields.end(),
                                   [&](const Field& field) { return field.key == entry.key; });
      if (it == fields.end()) fail_unknown(entry, fields, prefix);
      read_value(*it, entry);
    }
    for (const Field& field : fields) check_required(field, map, prefix);
  }

  SetKeys take() { return std::move(set_); }

 private:
  void read_value(const Field& field, const YamlEntry& entry) {
    const YamlNode& node = entry.value;
    if (field.type.kind == ValueType::Kind::section) {
      if (node.kind != YamlNode::Kind::map) {
        fail_value(field, node,
                   node.kind == YamlNode::Kind::null ? "has no value" : "not a mapping",
                   "; leave the key out for the defaults");
      }
      set_[field.path] = node;
      read_map(node, field.fields, field.path + ".");
      return;
    }
    const bool is_reserved = field.reserved || field.type.kind == ValueType::Kind::unserved;
    const YamlNode initial = field.write();
    if (field.read) field.read(node, field);
    if (is_reserved && !same_value(field.read ? field.write() : node, initial)) {
      throw ConfigError(concat(node.at.str(), ": ", field.path, " = ", flow_text(node),
                               ": not in this version; expected ", flow_text(initial)));
    }
    set_[field.path] = node;
  }

  void check_required(const Field& field, const YamlNode& map, const std::string& prefix) const {
    if (map.find(field.key) != nullptr) return;
    if (field.required) {
      const Location at = prefix.empty() ? Location{map.at.source, 0, 0} : map.at;
      throw ConfigError(
          concat(at.str(), ": ", field.path, " is not set; expected ", describe(field.type)));
    }
    // A section that is not there at all still has its required keys.
    YamlNode absent;
    absent.kind = YamlNode::Kind::map;
    absent.at = {map.at.source, 0, 0};
    for (const Field& inner : field.fields) check_required(inner, absent, "");
  }

  [[noreturn]] void fail_unknown(const YamlEntry& entry, const std::vector<Field>& fields,
                                 const std::string& prefix) const {
    const std::string path = prefix + printable(entry.key);
    std::vector<std::string> siblings;
    for (const Field& field : fields) siblings.push_back(field.key);
    std::string hint = did_you_mean(entry.key, siblings);
    if (hint.empty()) {
      std::vector<std::string> elsewhere;
      find_elsewhere(top_, entry.key, elsewhere);
      hint = either(elsewhere);
    }
    if (hint.empty()) hint = "; expected one of " + join(siblings, ", ");
    throw ConfigError(concat(entry.at.str(), ": unknown key '", path, "'", hint));
  }

  const std::vector<Field>& top_;
  SetKeys set_;
};

}  // namespace

std::string describe(const ValueType& type) {
  const std::string or_null = type.nullable ? ", or null" : "";
  switch (type.kind) {
    case ValueType::Kind::boolean:
      return "true or false" + or_null;
    case ValueType::Kind::integer:
      return "a whole number" + describe(type.range) + or_null;
    case ValueType::Kind::number:
      return "a number" + describe(type.range) + or_null;
    case ValueType::Kind::text:
      return "text" + or_null;
    case ValueType::Kind::choice:
      return join(names_of(type.choices), " | ") + or_null;
    case ValueType::Kind::list: {
      const std::string length =
          type.length < 0 ? "" : std::to_string(type.length) + " values, each ";
      return concat("a list of ", length, describe(type.element.front()),
                    type.lone_item ? ", or one without brackets" : "", or_null);
    }
    case ValueType::Kind::either:
      return concat(describe(type.element[0]), " | ", describe(type.element[1]));
    case ValueType::Kind::section:
      return "a mapping";
    case ValueType::Kind::unserved:
      return "the default";
  }
  return "";
}

ValueType& Field::number_type() {
  ValueType* t = &type;
  while (!t->element.empty()) t = &t->element.back();
  check_internal(t->kind == ValueType::Kind::integer || t->kind == ValueType::Kind::number, path,
                 " is no number but has a range");
  return *t;
}

void fail_value(const Field& field, const YamlNode& node, const std::string& reason,
                const std::string& hint) {
  throw ConfigError(concat(node.at.str(), ": ", field.path, " = ", flow_text(node), ": ", reason,
                           "; expected ", describe(field.type), hint));
}

namespace binding {
namespace {

const std::string& scalar_text(const YamlNode& node, const Field& field) {
  switch (node.kind) {
    case YamlNode::Kind::scalar:
      return node.text;
    case YamlNode::Kind::null:
      fail_value(field, node, "has no value");
    case YamlNode::Kind::list:
      fail_value(field, node, "a list");
    case YamlNode::Kind::map:
      fail_value(field, node, "a mapping");
  }
  std::abort();
}

}  // namespace

void read_as(const YamlNode& node, const Field& field, const ValueType&, bool& out) {
  const std::string& text = scalar_text(node, field);
  if (node.quoted || !parse_bool(text, out)) {
    fail_value(field, node, node.quoted ? "quoted, so it is text" : "not a truth value");
  }
}

void read_as(const YamlNode& node, const Field& field, const ValueType& type, int64_t& out) {
  const std::string& text = scalar_text(node, field);
  double number = 0.0;
  if (node.quoted || !parse_int(text, out)) {
    if (!node.quoted && parse_double(text, number)) {
      fail_value(field, node, number == std::floor(number) ? "out of range" : "not a whole number");
    }
    fail_value(field, node, number_reason(node));
  }
  if (!type.range.contains(static_cast<double>(out))) fail_value(field, node, "out of range");
}

void read_as(const YamlNode& node, const Field& field, const ValueType& type, double& out) {
  const std::string& text = scalar_text(node, field);
  if (node.quoted || !parse_double(text, out)) {
    const bool is_huge = !node.quoted && text.find_first_of("eE") != std::string::npos &&
                         text.find_first_not_of("+-.0123456789eE") == std::string::npos;
    fail_value(field, node, is_huge ? "not a number in the range of double" : number_reason(node));
  }
  if (!type.range.contains(out)) fail_value(field, node, "out of range");
}

void read_as(const YamlNode& node, const Field& field, const ValueType& type, std::string& out) {
  if (type.nullable && node.kind == YamlNode::Kind::null) return out.clear();
  out = scalar_text(node, field);
  if (out.empty()) fail_value(field, node, "empty");
}

size_t read_choice(const YamlNode& node, const Field& field, const ValueType& type) {
  const std::string& text = scalar_text(node, field);
  for (size_t i = 0; i < type.choices.size(); ++i) {
    if (type.choices[i].name == text) return i;
  }
  if (std::find(type.planned.begin(), type.planned.end(), text) != type.planned.end()) {
    fail_value(field, node, "not in this version");
  }
  fail_value(field, node, "unknown value", did_you_mean(text, names_of(type.choices)));
}

bool is_choice(const YamlNode& node, const ValueType& type) {
  const auto names = names_of(type.choices);
  return node.kind == YamlNode::Kind::scalar &&
         std::find(names.begin(), names.end(), node.text) != names.end();
}

void check_either(const YamlNode& node, const Field& field, const ValueType& type) {
  const bool wants_list = type.element[1].kind == ValueType::Kind::list;
  double number = 0.0;
  const bool is_number =
      node.kind == YamlNode::Kind::scalar && !node.quoted && parse_double(node.text, number);
  if (wants_list ? node.kind == YamlNode::Kind::list : is_number) return;
  const std::string hint = node.kind == YamlNode::Kind::scalar
                               ? did_you_mean(node.text, names_of(type.element[0].choices))
                               : "";
  fail_value(field, node, node.kind == YamlNode::Kind::null ? "has no value" : "unknown value",
             hint);
}

std::vector<YamlNode> read_items(const YamlNode& node, const Field& field, const ValueType& type) {
  if (type.lone_item && node.kind == YamlNode::Kind::scalar) return {node};
  if (node.kind != YamlNode::Kind::list) {
    fail_value(field, node, node.kind == YamlNode::Kind::null ? "has no value" : "not a list");
  }
  if (type.length >= 0 && static_cast<int64_t>(node.items.size()) != type.length) {
    fail_value(field, node, concat("has ", node.items.size(), " values"));
  }
  return node.items;
}

YamlNode write_as(bool value) {
  return plain_scalar(value ? "true" : "false");
}
YamlNode write_as(int64_t value) {
  return plain_scalar(std::to_string(value));
}
YamlNode write_as(double value) {
  return plain_scalar(format_double(value));
}

YamlNode write_as(const std::string& value) {
  if (value.empty()) return {};
  YamlNode node = plain_scalar(value);
  node.quoted = quote_if_needed(value) != value;
  return node;
}

}  // namespace binding

Field& FieldList::append(const std::string& key, const std::string& help) {
  Field& field = fields_.emplace_back();
  field.key = key;
  field.path = prefix_ + key;
  field.help = help;
  return field;
}

void FieldList::unserved(const std::string& key, const std::string& default_yaml,
                         const std::string& values, const std::string& help) {
  Field& field = append(key, help);
  field.type.kind = ValueType::Kind::unserved;
  field.unserved_values = values;
  field.write = [node = parse_yaml(default_yaml, "default of " + field.path)] { return node; };
}

SetKeys read_fields(const YamlNode& root, const std::vector<Field>& fields) {
  FieldReader reader(fields);
  reader.read_map(root, fields, "");
  return reader.take();
}

std::vector<const Field*> leaf_fields(const std::vector<Field>& fields) {
  std::vector<const Field*> leaves;
  for (const Field& field : fields) {
    if (field.type.kind != ValueType::Kind::section) {
      leaves.push_back(&field);
      continue;
    }
    for (const Field* inner : leaf_fields(field.fields)) leaves.push_back(inner);
  }
  return leaves;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates) {
  if (name.size() > 64) return "";  // no typing error; and the distance costs their product
  std::vector<std::pair<size_t, std::string>> near;
  for (const auto& candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    const size_t allowed = std::max<size_t>(1, std::max(name.size(), candidate.size()) / 3);
    if (distance <= allowed && distance < candidate.size()) near.emplace_back(distance, candidate);
  }
  std::stable_sort(near.begin(), near.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (const auto& [distance, candidate] : near) {
    if (distance == near.front().first && names.size() < 3) names.push_back(candidate);
  }
  return either(names);
}

}  // namespace ballast
