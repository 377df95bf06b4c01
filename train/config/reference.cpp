// The two descriptions of the configuration for people and editors: key reference and JSON Schema.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "train/config/fields.h"
#include "train/config/run_config.h"

namespace ballast {
namespace {

// ---- Markdown ----

std::string in_table(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string default_text(const Field& field) {
  return field.required ? "*required*" : concat("`", flow_text(field.write(), 200), "`");
}

std::string values_text(const Field& field) {
  if (field.type.kind == ValueType::Kind::unserved) return field.unserved_values;
  return describe(field.type);
}

void add_rows(const std::vector<Field>& fields, std::string& out) {
  for (const Field& field : fields) {
    if (field.type.kind == ValueType::Kind::section) {
      add_rows(field.fields, out);
      continue;
    }
    const bool is_later = field.reserved || field.type.kind == ValueType::Kind::unserved;
    const std::string values = values_text(field) + (is_later ? " (not in this version)" : "");
    out += concat("| `", field.path, "` | ", default_text(field), " | ", in_table(values), " | ",
                  in_table(field.help), " |\n");
  }
}

const ValueType& innermost(const ValueType& type) {
  return type.element.empty() ? type : innermost(type.element.front());
}

void add_choices(const std::vector<Field>& fields, std::string& out) {
  for (const Field* field : leaf_fields(fields)) {
    const ValueType& type = innermost(field->type);
    if (type.kind != ValueType::Kind::choice) continue;
    out += concat("\n**`", field->path, "`**\n\n");
    for (const auto& choice : type.choices)
      out += concat("- `", choice.name, "`: ", choice.paper, "\n");
    std::string planned;
    for (const auto& name : type.planned)
      planned += concat(planned.empty() ? "`" : ", `", name, "`");
    if (!planned.empty()) out += concat("- not in this version: ", planned, "\n");
  }
}

// ---- JSON ----

std::string json_string(const std::string& text) {
  std::string out(1, '"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      std::array<char, 8> code;
      std::snprintf(code.data(), code.size(), "\\u%04x", static_cast<unsigned>(c));
      out += code.data();
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

std::string json_value(const YamlNode& node) {
  double number = 0.0;
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "null";
    case YamlNode::Kind::scalar:
      if (!node.quoted &&
          (parse_double(node.text, number) || node.text == "true" || node.text == "false")) {
        return node.text;
      }
      return json_string(node.text);
    case YamlNode::Kind::list: {
      std::string out = "[";
      for (size_t i = 0; i < node.items.size(); ++i) {
        out += (i == 0 ? "" : ", ") + json_value(node.items[i]);
      }
      return out + "]";
    }
    case YamlNode::Kind::map:
      break;
  }
  throw InternalError("internal error: a default is a mapping");
}

std::string json_bounds(const Range& range) {
  std::string out;
  const auto add = [&](bool is_open, const char* name, double bound) {
    if (std::isfinite(bound))
      out += concat(", \"", is_open ? "exclusive" : "", name, "\": ", format_double(bound));
  };
  add(range.low_open, range.low_open ? "Minimum" : "minimum", range.low);
  add(range.high_open, range.high_open ? "Maximum" : "maximum", range.high);
  return out;
}

/// The members of the schema object of a type, without braces.
std::string json_type(const ValueType& type) {
  const auto named = [&](const char* name) {
    return type.nullable ? concat("\"type\": [\"", name, "\", \"null\"]")
                         : concat("\"type\": \"", name, "\"");
  };
  switch (type.kind) {
    case ValueType::Kind::boolean:
      return named("boolean");
    case ValueType::Kind::integer:
      return named("integer") + json_bounds(type.range);
    case ValueType::Kind::number:
      return named("number") + json_bounds(type.range);
    case ValueType::Kind::text:
      return named("string") + ", \"minLength\": 1";
    case ValueType::Kind::choice: {
      std::string names;
      for (const auto& choice : type.choices)
        names += (names.empty() ? "" : ", ") + json_string(choice.name);
      return concat("\"enum\": [", names, type.nullable ? ", null]" : "]");
    }
    case ValueType::Kind::list: {
      const std::string item = json_type(type.element.front());
      std::string list = concat("\"type\": \"array\", \"items\": {", item, "}");
      if (type.length >= 0)
        list += concat(", \"minItems\": ", type.length, ", \"maxItems\": ", type.length);
      if (!type.lone_item) return list;
      return concat("\"anyOf\": [{", list, "}, {", item, "}]");
    }
    case ValueType::Kind::either:
      return concat("\"anyOf\": [{", json_type(type.element[0]), "}, {", json_type(type.element[1]),
                    "}]");
    case ValueType::Kind::section:
    case ValueType::Kind::unserved:
      break;
  }
  return "";
}

void add_properties(const std::vector<Field>& fields, const std::string& indent, std::string& out) {
  const char* separator = "";
  for (const Field& field : fields) {
    out += separator + indent + json_string(field.key) +
           ": {\"description\": " + json_string(field.help);
    separator = ",\n";
    if (field.type.kind == ValueType::Kind::section) {
      out += ", \"type\": \"object\", \"additionalProperties\": false, \"properties\": {\n";
      add_properties(field.fields, indent + "  ", out);
      out += concat("\n", indent, "}}");
      continue;
    }
    const std::string initial = field.required ? "" : json_value(field.write());
    if (field.reserved || field.type.kind == ValueType::Kind::unserved) {
      out += ", \"const\": " + initial;
    } else {
      out += ", " + json_type(field.type);
    }
    if (!field.required) out += ", \"default\": " + initial;
    out += "}";
  }
}

/// What a file without a parent must set, as schema members; empty when nothing.
std::string json_required(const std::vector<Field>& fields) {
  std::string names, inner;
  for (const Field& field : fields) {
    const std::string below = json_required(field.fields);
    if (!field.required && below.empty()) continue;
    names += (names.empty() ? "" : ", ") + json_string(field.key);
    if (!below.empty()) {
      inner += concat(inner.empty() ? "" : ", ", json_string(field.key), ": {", below, "}");
    }
  }
  if (names.empty()) return "";
  if (!inner.empty()) inner = concat(", \"properties\": {", inner, "}");
  return concat("\"required\": [", names, "]", inner);
}

}  // namespace

std::string config_kinds() {
  constexpr size_t kKeyWidth = 34, kLine = 110;
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  std::string out;
  for (const Field* field : leaf_fields(fields)) {
    const ValueType& type = innermost(field->type);
    if (type.kind != ValueType::Kind::choice) continue;
    std::string line = "  " + field->path;
    line.resize(std::max(line.size() + 1, kKeyWidth), ' ');
    const char* separator = "";
    for (const auto& choice : type.choices) {
      if (line.size() + choice.name.size() > kLine) {
        out += line + '\n';
        line.assign(kKeyWidth, ' ');
        separator = "";
      }
      line += separator + choice.name;
      separator = " ";
    }
    if (field->type.kind == ValueType::Kind::either) {
      line += ", or " + describe(field->type.element[1]);
    }
    out += line + '\n';
  }
  return out;
}

std::string config_reference_markdown() {
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  std::string out =
      "# Configuration keys\n\n"
      "<!-- Written by `ballast config docs`; edit train/config/fields.cpp instead. -->\n\n"
      "`base/` holds models to extend, `bench/` the three models of the benchmarks, "
      "`quickstart.yaml` the\n"
      "first run. A file may begin with `extends: other.yaml`: one parent, relative to the file. "
      "Later\n"
      "settings win: defaults, `model.preset`, parent, file, then `key=value` on the command line. "
      "Mappings merge "
      "key by\n"
      "key; lists and values replace. `null` means \"derive it\". A folder or file named in "
      "`data.train` or\n"
      "`data.val` is looked up beside the file that names it, then in the working directory.\n\n"
      "A key marked \"not in this version\" is known, and only its default is accepted.\n";
  for (const Field& field : fields) {
    std::string help = field.help;
    help[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(help[0])));
    out += concat("\n## ", field.key, "\n\n", help,
                  ".\n\n| key | default | values | effect |\n|---|---|---|---|\n");
    add_rows(field.fields.empty() ? std::vector<Field>{field} : field.fields, out);
  }
  out +=
      "\n## What is refused\n\n"
      "Settings that contradict one another; each is one line with file, line, key and reason.\n\n"
      "- `model.n_heads` does not divide `model.d_model` while `head_dim` is null; `n_kv_heads` "
      "does "
      "not divide `n_heads`\n"
      "- rope on an odd number of channels, or on none (`position.fraction`)\n"
      "- `norm.unit_offset` without `norm.weight` (layernorm, rmsnorm)\n"
      "- `attention.window` above 0 while `attention.pattern` makes no layer local; an empty "
      "`pattern`\n"
      "- `position.layers` (rope, alibi): `local` or `full` without such a layer, an empty list, a "
      "number twice or beyond the last layer\n"
      "- `position.t5_max_distance` not above half of `t5_buckets`\n"
      "- `attention.v_norm` without `qk_norm`; `qk_norm: l2` with `qk_norm_kind: layernorm`; a "
      "layernorm of heads of one channel\n"
      "- learned positions, `model.max_seq_len` below `data.seq_len`\n"
      "- `model.vocab_size` below 256 for bytes, missing or above 65536 for token files\n"
      "- `optim.decay: independent` (adamw, lion) without an explicit `weight_decay`; a group "
      "twice "
      "in `no_decay`; `schedule.min_lr` above `lr`\n"
      "- `train.grad_accum` does not divide `batch_size`; an empty range in `skip_steps`\n\n"
      "A key that another makes idle is legal, since the arms of a study change one key: `ballast "
      "config check` notes it.\n"
      "\n## Kinds and where they come from\n";
  add_choices(fields, out);
  return out;
}

std::string json_schema() {
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  std::string out =
      "{\n"
      "  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
      "  \"title\": \"Ballast run configuration\",\n"
      "  \"type\": \"object\",\n"
      "  \"additionalProperties\": false,\n"
      "  \"properties\": {\n"
      "    \"extends\": {\"description\": \"a configuration file whose settings this one "
      "changes\", "
      "\"type\": [\"string\", \"null\"]},\n";
  add_properties(fields, "    ", out);
  out += "\n  },\n  \"if\": {\"not\": {\"required\": [\"extends\"]}},\n  \"then\": {" +
         json_required(fields) + "}\n}\n";
  return out;
}

}  // namespace ballast
