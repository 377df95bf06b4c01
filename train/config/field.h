// One key of the configuration: how it is read, printed and described.
// A FieldList binds keys to the members of a struct; everything else (reading, dumping, the JSON
// Schema, the key reference) walks the list and knows no struct.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"
#include "core/variant_table.h"
#include "train/config/yaml.h"

namespace ballast {

/// The numbers a key takes; an open end is not one of them.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  bool high_open = false;

  bool contains(double x) const {
    return (low_open ? x > low : x >= low) && (high_open ? x < high : x <= high);
  }
};

/// What values look like: `element` is the type of a list's items.
struct ValueType {
  enum class Kind { boolean, integer, number, text, choice, list, either, section, unserved };

  struct Choice {
    std::string name, paper;
  };

  Kind kind = Kind::section;
  Range range;
  std::vector<Choice> choices;
  std::vector<std::string> planned;  ///< names of the language that this version does not serve
  std::vector<ValueType> element;    ///< of a list: exactly one; either: a choice, and the other
  int64_t length = -1;               ///< of a list: -1 = any
  bool nullable = false;
  bool lone_item = false;  ///< a list of one may be written without brackets
};

/// "a number above 0", "one of pre | post", "a list of 2 numbers …".
std::string describe(const ValueType& type);

struct Field {
  std::string key;
  std::string path;  ///< dotted, from the top
  std::string help;
  ValueType type;
  bool required = false;
  bool reserved = false;        ///< only the default is accepted
  std::string unserved_values;  ///< of a key no code serves: what later versions take
  std::vector<Field> fields;    ///< of a section

  std::function<void(const YamlNode&, const Field&)> read;
  std::function<YamlNode()> write;
  std::function<std::string()> derived;  ///< what null stands for, once sizes are known

  Field& must_be_set() { return required = true, *this; }
  Field& at_least(double x) { return number_type().range.low = x, *this; }
  Field& at_most(double x) { return number_type().range.high = x, *this; }
  Field& above(double x) {
    number_type().range.low_open = true;
    return at_least(x);
  }
  Field& below(double x) {
    number_type().range.high_open = true;
    return at_most(x);
  }
  /// The member exists, but no code acts on another value than the default yet.
  Field& only_default() { return reserved = true, *this; }
  Field& null_means(std::function<std::string()> text) { return derived = std::move(text), *this; }
  /// Of a text: null stands for the empty one.
  Field& or_null() { return type.nullable = true, *this; }
  Field& or_lone_item() { return type.lone_item = true, *this; }

 private:
  ValueType& number_type();  // the innermost element, of either the second
};

/// Throws ConfigError "file:line:column: key = value: reason; expected …".
[[noreturn]] void fail_value(const Field& field, const YamlNode& node, const std::string& reason,
                             const std::string& hint = "");

namespace binding {

// read_as checks one value against a type and stores it; write_as is its inverse; type_of names it.
void read_as(const YamlNode& node, const Field& field, const ValueType& type, bool& out);
void read_as(const YamlNode& node, const Field& field, const ValueType& type, int64_t& out);
void read_as(const YamlNode& node, const Field& field, const ValueType& type, double& out);
void read_as(const YamlNode& node, const Field& field, const ValueType& type, std::string& out);
/// Index into type.choices.
size_t read_choice(const YamlNode& node, const Field& field, const ValueType& type);
/// Whether the value is one of the words of an either's choice.
bool is_choice(const YamlNode& node, const ValueType& type);
/// Refuses, naming both sides of an either, a value that has not the form of its second one.
void check_either(const YamlNode& node, const Field& field, const ValueType& type);
/// The items of a list of the right length.
std::vector<YamlNode> read_items(const YamlNode& node, const Field& field, const ValueType& type);

YamlNode write_as(bool value);
YamlNode write_as(int64_t value);
YamlNode write_as(double value);
YamlNode write_as(const std::string& value);

template <class T>
struct Of;

template <ValueType::Kind kKind, class T>
struct ScalarOf {
  static ValueType type() {
    ValueType t;
    t.kind = kKind;
    return t;
  }
  static void read(const YamlNode& node, const Field& field, const ValueType& type, T& out) {
    read_as(node, field, type, out);
  }
  static YamlNode write(const T& value) { return write_as(value); }
};

template <>
struct Of<bool> : ScalarOf<ValueType::Kind::boolean, bool> {};
template <>
struct Of<int64_t> : ScalarOf<ValueType::Kind::integer, int64_t> {};
template <>
struct Of<double> : ScalarOf<ValueType::Kind::number, double> {};
template <>
struct Of<std::string> : ScalarOf<ValueType::Kind::text, std::string> {};

template <class T>
requires std::is_enum_v<T>
struct Of<T> {
  static ValueType type() {
    ValueType t;
    t.kind = ValueType::Kind::choice;
    for (const auto& row : variant_rows<T>()) {
      t.choices.push_back({std::string(row.name), std::string(row.paper)});
    }
    for (const auto& name : planned_variants<T>()) t.planned.emplace_back(name);
    return t;
  }
  static void read(const YamlNode& node, const Field& field, const ValueType& type, T& out) {
    out = variant_rows<T>()[read_choice(node, field, type)].kind;
  }
  static YamlNode write(const T& value) { return write_as(std::string(name_of(value))); }
};

template <class T>
struct Of<std::optional<T>> {
  static ValueType type() {
    ValueType t = Of<T>::type();
    t.nullable = true;
    return t;
  }
  static void read(const YamlNode& node, const Field& field, const ValueType& type,
                   std::optional<T>& out) {
    if (node.kind == YamlNode::Kind::null) {
      out.reset();
    } else {
      Of<T>::read(node, field, type, out.emplace());
    }
  }
  static YamlNode write(const std::optional<T>& value) {
    return value ? Of<T>::write(*value) : YamlNode{};
  }
};

template <class Items>
YamlNode write_items(const Items& values) {
  YamlNode node;
  node.kind = YamlNode::Kind::list;
  for (const auto& value : values)
    node.items.push_back(Of<typename Items::value_type>::write(value));
  return node;
}

template <class T>
ValueType list_type(int64_t length) {
  ValueType t;
  t.kind = ValueType::Kind::list;
  t.element = {Of<T>::type()};
  t.length = length;
  return t;
}

template <class T>
struct Of<std::vector<T>> {
  static ValueType type() { return list_type<T>(-1); }
  static void read(const YamlNode& node, const Field& field, const ValueType& type,
                   std::vector<T>& out) {
    out.clear();
    for (const YamlNode& item : read_items(node, field, type)) {
      Of<T>::read(item, field, type.element.front(), out.emplace_back());
    }
  }
  static YamlNode write(const std::vector<T>& values) { return write_items(values); }
};

template <class T, size_t kSize>
struct Of<std::array<T, kSize>> {
  static ValueType type() { return list_type<T>(static_cast<int64_t>(kSize)); }
  static void read(const YamlNode& node, const Field& field, const ValueType& type,
                   std::array<T, kSize>& out) {
    const std::vector<YamlNode> items = read_items(node, field, type);
    for (size_t i = 0; i < kSize; ++i) Of<T>::read(items[i], field, type.element.front(), out[i]);
  }
  static YamlNode write(const std::array<T, kSize>& values) { return write_items(values); }
};

/// A word, or what the word stands for written out.
template <class Word, class T>
requires std::is_enum_v<Word>
struct OfEither {
  static ValueType type() {
    ValueType t;
    t.kind = ValueType::Kind::either;
    t.element = {Of<Word>::type(), Of<T>::type()};
    return t;
  }
  template <class Either>
  static void read(const YamlNode& node, const Field& field, const ValueType& type, Either& out) {
    if (is_choice(node, type.element[0])) {
      Of<Word>::read(node, field, type.element[0], out.template emplace<Word>());
    } else {
      check_either(node, field, type);
      Of<T>::read(node, field, type.element[1], out.template emplace<T>());
    }
  }
  template <class Either>
  static YamlNode write(const Either& value) {
    const auto* word = std::get_if<Word>(&value);
    return word != nullptr ? Of<Word>::write(*word) : Of<T>::write(std::get<T>(value));
  }
};
template <class Word, class T>
struct Of<std::variant<Word, T>> : OfEither<Word, T> {};
template <class Word>
struct Of<std::variant<double, Word>> : OfEither<Word, double> {};

}  // namespace binding

/// Collects fields in the order in which they are dumped and documented.
class FieldList {
 public:
  explicit FieldList(std::string prefix = "") : prefix_(std::move(prefix)) {}

  /// A key bound to `member`, which must outlive the list.
  template <class T>
  Field& operator()(const std::string& key, T& member, const std::string& help) {
    Field& field = append(key, help);
    field.type = binding::Of<T>::type();
    field.read = [&member](const YamlNode& node, const Field& self) {
      binding::Of<T>::read(node, self, self.type, member);
    };
    field.write = [&member] { return binding::Of<T>::write(member); };
    return field;
  }

  /// A mapping; `list` adds its keys.
  template <class List>
  void section(const std::string& key, const std::string& help, List&& list) {
    FieldList inner(prefix_ + key + ".");
    list(inner);
    append(key, help).fields = std::move(inner.fields_);
  }

  /// A key of the language that no code serves yet: its default (YAML) is accepted and nothing
  /// else.
  void unserved(const std::string& key, const std::string& default_yaml, const std::string& values,
                const std::string& help);

  std::vector<Field> take() { return std::move(fields_); }

 private:
  Field& append(const std::string& key, const std::string& help);

  std::string prefix_;
  std::vector<Field> fields_;
};

/// Where each key of a configuration was set, by dotted path; sections too.
using SetKeys = std::map<std::string, YamlNode, std::less<>>;

/// Reads a mapping into what the fields are bound to. Throws ConfigError at the first unknown key,
/// wrong value or missing required key.
SetKeys read_fields(const YamlNode& root, const std::vector<Field>& fields);

/// Every field that is not a section, depth first.
std::vector<const Field*> leaf_fields(const std::vector<Field>& fields);

/// "; did you mean 'a' or 'b'?" for the candidates close to `name` in spelling, else "".
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace ballast
