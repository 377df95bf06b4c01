// A template grammar of text whose entropy is known exactly: the information of a document is the
// sum of the choices that made it, because no document can be made in two ways.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"

namespace ballast {

/// Written as text:
///
///     @people name he                 a list: its fields, then its items
///       Lily/she; Tom/he
///     #story                          a rule: one alternative a line; the first rule is the
///     document
///       {hero=people} met {friend=people!hero}. <end>\n
///       3* {hero=people} slept. <end>\n        weight 3; without a number, weight 1
///     #end
///       Then {hero.he} went home.
///
/// <rule> expands; {v=list} draws an item uniformly, binds v to it and prints its first field,
/// {v=list.field} another one; {v=list!u!w} draws among the items that u and w, of the same list,
/// are not bound to; {v} and {v.field} print what v is bound to; \n is a line break. Rules cannot
/// be recursive, so a document's length is bounded: a chain of rules repeats what is to be
/// repeated.
class Grammar {
 public:
  /// Throws std::invalid_argument "[grammar] …" for text that cannot be read.
  explicit Grammar(std::string_view text);

  /// Writes one document into `out`, of at least max_length() bytes, and returns its length.
  /// Adds its information, -ln p, to *nats if that is given.
  int64_t generate(RandomStream& stream, std::span<char> out, double* nats = nullptr) const;

  /// Expected information of a document, nats.
  double entropy() const { return rules_[0].entropy; }
  /// Expected bytes of a document.
  double mean_length() const { return rules_[0].mean_length; }
  /// No document is longer.
  int64_t max_length() const { return rules_[0].max_length; }

  /// Nothing if every rule's texts form a prefix code, so that a text is read back in one way and a
  /// sequence of documents too; otherwise the two alternatives or items that cannot be told apart.
  std::optional<std::string> find_ambiguity() const;

  /// Equal for grammars that generate the same documents from the same numbers.
  uint64_t fingerprint() const;

 private:
  static constexpr size_t kMaxVariables = 16;
  static constexpr size_t kMaxExcluded = 2;

  enum class SymbolKind { text, rule, draw, print };
  struct Symbol {
    SymbolKind kind = SymbolKind::text;
    std::string text;
    size_t rule = 0;
    size_t variable = 0;
    size_t list = 0;
    size_t field = 0;
    std::vector<size_t> excluded;  ///< variables
    double nats = 0.0;             ///< of a draw
    bool operator==(const Symbol&) const = default;
  };
  struct Alternative {
    uint64_t weight = 1;
    double nats = 0.0;
    std::vector<Symbol> symbols;
  };
  struct Rule {
    std::string name;
    uint64_t total_weight = 0;
    std::vector<Alternative> alternatives;
    double entropy = 0.0;
    double mean_length = 0.0;
    int64_t max_length = 0;
  };
  struct List {
    std::string name;
    std::vector<std::string> fields;
    std::vector<std::vector<std::string>> items;
  };
  struct Variable {
    std::string name;
    size_t list = 0;
  };
  struct Writer;
  struct Comparison;

  void read(std::string_view text);
  void read_items(std::string_view line, List& list);
  void read_alternative(std::string_view line, Rule& rule);
  Symbol read_variable(std::string_view inside);
  size_t variable_index(std::string_view name, std::optional<size_t> list);
  size_t field_index(const List& list, std::string_view field) const;
  size_t rule_index(std::string_view name) const;
  size_t list_index(std::string_view name) const;
  void resolve(size_t rule, std::vector<int>& state);

  std::vector<Rule> rules_;
  std::vector<List> lists_;
  std::vector<Variable> variables_;
};

}  // namespace ballast
