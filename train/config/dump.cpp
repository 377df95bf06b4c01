#include <array>
#include <cstdio>

#include "train/config/fields.h"
#include "train/config/run_config.h"

namespace ballast {
namespace {

std::string value_text(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "null";
    case YamlNode::Kind::scalar:
      return node.quoted ? quote_if_needed(node.text) : node.text;
    case YamlNode::Kind::list: {
      std::string out = "[";
      for (size_t i = 0; i < node.items.size(); ++i) {
        out += (i == 0 ? "" : ", ") + value_text(node.items[i]);
      }
      return out + "]";
    }
    case YamlNode::Kind::map:
      break;
  }
  throw InternalError("internal error: a key's value is a mapping");
}

void dump_fields(const std::vector<Field>& fields, const std::string& indent, std::string& out) {
  for (const Field& field : fields) {
    if (field.type.kind == ValueType::Kind::unserved) continue;  // always at its default
    if (field.type.kind == ValueType::Kind::section) {
      std::string inner;
      dump_fields(field.fields, indent + "  ", inner);
      if (!inner.empty()) out += indent + field.key + ":\n" + inner;
      continue;
    }
    const YamlNode value = field.write();
    out += indent + field.key + ": " + value_text(value);
    if (value.kind == YamlNode::Kind::null && field.derived) out += "  # " + field.derived();
    out += '\n';
  }
}

}  // namespace

std::string dump_config(const RunConfig& config) {
  RunConfig copy = config;
  std::string out;
  dump_fields(run_config_fields(copy), "", out);
  return out;
}

std::string config_hash(const RunConfig& config) {
  uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a
  for (const char c : dump_config(config)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  }
  std::array<char, 17> text;
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash));
  return text.data();
}

}  // namespace ballast
