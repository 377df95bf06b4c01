#include "train/data/grammar.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace ballast {
namespace {

std::string_view trim(std::string_view s) {
  const size_t first = s.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(' ') - first + 1);
}

std::vector<std::string_view> split(std::string_view s, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = s.find(separator);
    parts.push_back(s.substr(0, end));
    if (end == std::string_view::npos) return parts;
    s.remove_prefix(end + 1);
  }
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (const std::string_view line : split(text, '\n')) {
    if (!trim(line).empty()) lines.push_back(line);
  }
  return lines;
}

template <class Named>
size_t index_of(const std::vector<Named>& all, std::string_view kind, std::string_view name) {
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].name == name) return i;
  }
  throw std::invalid_argument(concat("[grammar] there is no ", kind, " '", name, "'"));
}

bool is_prefix(std::string_view a, std::string_view b) {
  return b.substr(0, a.size()) == a;
}

}  // namespace

Grammar::Grammar(std::string_view text) {
  read(text);
  check(!rules_.empty(), "[grammar] there is no rule");
  std::vector<int> state(rules_.size(), 0);
  for (size_t r = 0; r < rules_.size(); ++r) resolve(r, state);
}

void Grammar::read(std::string_view text) {
  const std::vector<std::string_view> lines = lines_of(text);
  for (const std::string_view line : lines) {  // names first, so that rules may come in any order
    if (line[0] == '#') rules_.push_back({std::string(trim(line.substr(1))), 0, {}, 0.0, 0.0, 0});
    if (line[0] == '@') {
      List list;
      const std::vector<std::string_view> words = split(trim(line.substr(1)), ' ');
      list.name = words[0];
      list.fields.assign(words.begin() + 1, words.end());
      lists_.push_back(std::move(list));
    }
  }
  List* list = nullptr;
  Rule* rule = nullptr;
  for (const std::string_view line : lines) {
    if (line[0] == '@') {
      list = &lists_[list_index(split(trim(line.substr(1)), ' ')[0])];
      rule = nullptr;
    } else if (line[0] == '#') {
      rule = &rules_[rule_index(trim(line.substr(1)))];
      list = nullptr;
    } else if (list != nullptr) {
      read_items(line, *list);
    } else {
      check(rule != nullptr, "[grammar] '", line, "' belongs to no rule or list");
      read_alternative(trim(line), *rule);
    }
  }
}

void Grammar::read_items(std::string_view line, List& list) {
  for (const std::string_view item : split(line, ';')) {
    if (trim(item).empty()) continue;
    std::vector<std::string>& fields = list.items.emplace_back();
    for (const std::string_view field : split(trim(item), '/')) fields.emplace_back(trim(field));
    check(fields.size() == list.fields.size(), "[grammar] item '", item, "' of list '", list.name,
          "' has ", fields.size(), " fields; expected ", list.fields.size());
  }
}

void Grammar::read_alternative(std::string_view line, Rule& rule) {
  Alternative alternative;
  const size_t digits = line.find_first_not_of("0123456789");
  if (digits != 0 && digits != std::string_view::npos && line[digits] == '*') {
    alternative.weight = std::stoull(std::string(line.substr(0, digits)));
    check(alternative.weight > 0, "[grammar] weight 0 in rule '", rule.name, "'");
    line = trim(line.substr(digits + 1));
  }
  std::string text;
  const auto flush = [&] {
    if (text.empty()) return;
    Symbol symbol;
    symbol.text = std::exchange(text, {});
    alternative.symbols.push_back(std::move(symbol));
  };
  while (!line.empty()) {
    if (is_prefix("\\n", line)) {
      text += '\n';
      line.remove_prefix(2);
    } else if (line[0] == '<' || line[0] == '{') {
      const size_t end = line.find(line[0] == '<' ? '>' : '}');
      check(end != std::string_view::npos, "[grammar] '", line, "' is not closed");
      const std::string_view inside = line.substr(1, end - 1);
      flush();
      if (line[0] == '{') {
        alternative.symbols.push_back(read_variable(inside));
      } else {
        Symbol symbol;
        symbol.kind = SymbolKind::rule;
        symbol.rule = rule_index(inside);
        alternative.symbols.push_back(std::move(symbol));
      }
      line.remove_prefix(end + 1);
    } else {
      text += line[0];
      line.remove_prefix(1);
    }
  }
  flush();
  rule.total_weight += alternative.weight;
  rule.alternatives.push_back(std::move(alternative));
}

Grammar::Symbol Grammar::read_variable(std::string_view inside) {
  Symbol symbol;
  const size_t equals = inside.find('=');
  const std::vector<std::string_view> parts = split(inside.substr(equals + 1), '!');
  const std::vector<std::string_view> names = split(parts[0], '.');
  if (equals == std::string_view::npos) {
    symbol.kind = SymbolKind::print;
    symbol.variable = variable_index(names[0], std::nullopt);
    symbol.list = variables_[symbol.variable].list;
  } else {
    symbol.kind = SymbolKind::draw;
    symbol.list = list_index(names[0]);
    symbol.variable = variable_index(inside.substr(0, equals), symbol.list);
    for (size_t i = 1; i < parts.size(); ++i) {
      symbol.excluded.push_back(variable_index(parts[i], symbol.list));
    }
    check(symbol.excluded.size() <= kMaxExcluded, "[grammar] '", inside, "' excludes more than ",
          kMaxExcluded, " variables");
  }
  symbol.field = names.size() > 1 ? field_index(lists_[symbol.list], names[1]) : 0;
  return symbol;
}

size_t Grammar::variable_index(std::string_view name, std::optional<size_t> list) {
  for (size_t i = 0; i < variables_.size(); ++i) {
    if (variables_[i].name != name) continue;
    check(!list || variables_[i].list == *list, "[grammar] variable '", name,
          "' is drawn from two lists");
    return i;
  }
  check(list.has_value(), "[grammar] variable '", name, "' is printed above its first draw");
  check(variables_.size() < kMaxVariables, "[grammar] more than ", kMaxVariables, " variables");
  variables_.push_back({std::string(name), *list});
  return variables_.size() - 1;
}

size_t Grammar::field_index(const List& list, std::string_view field) const {
  const auto at = std::find(list.fields.begin(), list.fields.end(), field);
  check(at != list.fields.end(), "[grammar] list '", list.name, "' has no field '", field, "'");
  return static_cast<size_t>(at - list.fields.begin());
}

size_t Grammar::rule_index(std::string_view name) const {
  return index_of(rules_, "rule", name);
}
size_t Grammar::list_index(std::string_view name) const {
  return index_of(lists_, "list", name);
}

void Grammar::resolve(size_t r, std::vector<int>& state) {
  constexpr int kOpen = 1;
  constexpr int kDone = 2;
  check(state[r] != kOpen, "[grammar] rule '", rules_[r].name, "' contains itself");
  if (state[r] == kDone) return;
  state[r] = kOpen;
  Rule& rule = rules_[r];
  check(!rule.alternatives.empty(), "[grammar] rule '", rule.name, "' has no alternative");
  for (Alternative& alternative : rule.alternatives) {
    const double p =
        static_cast<double>(alternative.weight) / static_cast<double>(rule.total_weight);
    alternative.nats = -std::log(p);
    double entropy = alternative.nats;
    double mean_length = 0.0;
    int64_t max_length = 0;
    for (Symbol& symbol : alternative.symbols) {
      switch (symbol.kind) {
        case SymbolKind::text:
          mean_length += static_cast<double>(symbol.text.size());
          max_length += static_cast<int64_t>(symbol.text.size());
          break;
        case SymbolKind::rule:
          resolve(symbol.rule, state);
          entropy += rules_[symbol.rule].entropy;
          mean_length += rules_[symbol.rule].mean_length;
          max_length += rules_[symbol.rule].max_length;
          break;
        case SymbolKind::draw:
        case SymbolKind::print: {
          const List& list = lists_[symbol.list];
          check(list.items.size() > kMaxExcluded, "[grammar] list '", list.name, "' is too short");
          if (symbol.kind == SymbolKind::draw) {
            symbol.nats = std::log(static_cast<double>(list.items.size() - symbol.excluded.size()));
            entropy += symbol.nats;
          }
          // Excluding what another variable of the list holds treats all items alike, so whatever
          // was drawn before, each variable by itself is uniform.
          size_t sum = 0;
          size_t longest = 0;
          for (const auto& item : list.items) {
            sum += item[symbol.field].size();
            longest = std::max(longest, item[symbol.field].size());
          }
          mean_length += static_cast<double>(sum) / static_cast<double>(list.items.size());
          max_length += static_cast<int64_t>(longest);
          break;
        }
      }
    }
    rule.entropy += p * entropy;
    rule.mean_length += p * mean_length;
    rule.max_length = std::max(rule.max_length, max_length);
  }
  state[r] = kDone;
}

/// The state of generate(): what is bound, and where the next byte goes.
struct Grammar::Writer {
  const Grammar& grammar;
  RandomStream& stream;
  char* out;
  double nats = 0.0;
  std::array<size_t, kMaxVariables> bound{};
  uint32_t is_bound = 0;

  void write(const std::string& text) {
    std::memcpy(out, text.data(), text.size());
    out += text.size();
  }

  void draw(const Symbol& symbol) {
    const size_t n = grammar.lists_[symbol.list].items.size();
    std::array<size_t, kMaxExcluded> taken{};
    const size_t n_taken = symbol.excluded.size();
    for (size_t i = 0; i < n_taken; ++i) {
      require_bound(symbol.excluded[i]);
      taken[i] = bound[symbol.excluded[i]];
    }
    if (n_taken == 2) {
      check_internal(taken[0] != taken[1], "two excluded variables hold the same item");
      if (taken[0] > taken[1]) std::swap(taken[0], taken[1]);
    }
    size_t item = stream.below(n - n_taken);
    for (size_t i = 0; i < n_taken; ++i) item += item >= taken[i];
    bound[symbol.variable] = item;
    is_bound |= 1u << symbol.variable;
    nats += symbol.nats;
  }

  void require_bound(size_t variable) const {
    check_internal((is_bound >> variable & 1u) != 0, "grammar variable '",
                   grammar.variables_[variable].name, "' is used before it is drawn");
  }

  void expand(const Rule& rule) {
    uint64_t ticket = rule.total_weight == 1 ? 0 : stream.below(rule.total_weight);
    size_t a = 0;
    while (ticket >= rule.alternatives[a].weight) ticket -= rule.alternatives[a++].weight;
    nats += rule.alternatives[a].nats;
    for (const Symbol& symbol : rule.alternatives[a].symbols) {
      switch (symbol.kind) {
        case SymbolKind::text:
          write(symbol.text);
          break;
        case SymbolKind::rule:
          expand(grammar.rules_[symbol.rule]);
          break;
        case SymbolKind::draw:
        case SymbolKind::print:
          symbol.kind == SymbolKind::draw ? draw(symbol) : require_bound(symbol.variable);
          write(grammar.lists_[symbol.list].items[bound[symbol.variable]][symbol.field]);
          break;
      }
    }
  }
};

int64_t Grammar::generate(RandomStream& stream, std::span<char> out, double* nats) const {
  check(static_cast<int64_t>(out.size()) >= max_length(), "[grammar] ", out.size(),
        " bytes for a document of up to ", max_length());
  Writer writer{*this, stream, out.data()};
  writer.expand(rules_[0]);
  if (nats != nullptr) *nats += writer.nats;
  return writer.out - out.data();
}

/// Two sequences of symbols, compared from the left without what follows them.
struct Grammar::Comparison {
  using Side = std::vector<Symbol>;  // reversed: the next symbol is the last

  const Grammar& grammar;

  static Side reversed(const std::vector<Symbol>& symbols) {
    return {symbols.rbegin(), symbols.rend()};
  }

  /// Whether no text of one side is a prefix of a text of the other. `changed` has a bit for each
  /// variable that may hold different items on the two sides.
  bool differ(Side a, Side b, uint32_t changed) const {
    for (;;) {
      if (a.empty() || b.empty()) return false;
      Symbol& x = a.back();
      Symbol& y = b.back();
      if (x.kind == SymbolKind::text && y.kind == SymbolKind::text) {
        const size_t n = std::min(x.text.size(), y.text.size());
        if (x.text.compare(0, n, y.text, 0, n) != 0) return true;
        x.text.erase(0, n);
        y.text.erase(0, n);
        if (x.text.empty()) a.pop_back();
        if (y.text.empty()) b.pop_back();
      } else if (x == y && (x.kind == SymbolKind::rule || (changed >> x.variable & 1u) == 0)) {
        // The texts of one rule or list are a prefix code: either these differ, or they are equal
        // and the comparison goes on behind them.
        a.pop_back();
        b.pop_back();
      } else {
        return x.kind != SymbolKind::text ? differ_expanded(a, b, changed)
                                          : differ_expanded(b, a, changed);
      }
    }
  }

  /// The same for every text that the first symbol of `a` can stand for.
  bool differ_expanded(const Side& a, const Side& b, uint32_t changed) const {
    const Symbol& x = a.back();
    const auto differ_with = [&](const std::vector<Symbol>& first, uint32_t now_changed) {
      Side side(a.begin(), a.end() - 1);
      side.insert(side.end(), first.rbegin(), first.rend());
      return differ(std::move(side), b, now_changed);
    };
    if (x.kind == SymbolKind::rule) {
      const auto& alternatives = grammar.rules_[x.rule].alternatives;
      return std::all_of(alternatives.begin(), alternatives.end(), [&](const Alternative& choice) {
        return differ_with(choice.symbols, changed);
      });
    }
    const auto& items = grammar.lists_[x.list].items;
    const uint32_t now_changed = changed | 1u << x.variable;
    return std::all_of(items.begin(), items.end(), [&](const std::vector<std::string>& item) {
      Symbol text;
      text.text = item[x.field];
      return differ_with({text}, now_changed);
    });
  }
};

std::optional<std::string> Grammar::find_ambiguity() const {
  const Comparison comparison{*this};
  for (const Rule& rule : rules_) {
    for (size_t i = 0; i < rule.alternatives.size(); ++i) {
      for (const Symbol& symbol : rule.alternatives[i].symbols) {
        if (symbol.kind != SymbolKind::draw) continue;
        const List& list = lists_[symbol.list];
        for (size_t a = 0; a < list.items.size(); ++a) {
          for (size_t b = 0; b < list.items.size(); ++b) {
            const std::string& text = list.items[a][symbol.field];
            if (a != b && is_prefix(text, list.items[b][symbol.field])) {
              return concat("list '", list.name, "': '", text, "' begins another item");
            }
          }
        }
      }
      for (size_t j = 0; j < i; ++j) {
        if (!comparison.differ(Comparison::reversed(rule.alternatives[i].symbols),
                               Comparison::reversed(rule.alternatives[j].symbols), 0)) {
          return concat("rule '", rule.name, "': alternatives ", j + 1, " and ", i + 1);
        }
      }
    }
  }
  return std::nullopt;
}

uint64_t Grammar::fingerprint() const {
  uint64_t hash = hash_name("grammar");
  const auto add = [&hash](uint64_t value) { hash = mix64(hash ^ value); };
  for (const List& list : lists_) {
    for (const auto& item : list.items) {
      for (const std::string& field : item) add(hash_name(field));
    }
  }
  for (const Rule& rule : rules_) {
    for (const Alternative& alternative : rule.alternatives) {
      add(alternative.weight);
      for (const Symbol& symbol : alternative.symbols) {
        add(static_cast<uint64_t>(symbol.kind));
        add(hash_name(symbol.text));
        for (const size_t part : {symbol.rule, symbol.variable, symbol.list, symbol.field})
          add(part);
        for (const size_t variable : symbol.excluded) add(variable);
      }
    }
  }
  return hash;
}

}  // namespace ballast
