#include "train/config/diff.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "train/config/fields.h"
#include "train/config/preset.h"

namespace ballast {
namespace {

struct Value {
  std::string raw;       // as it would be written
  std::string resolved;  // what null stands for
};

struct Side {
  const Preset* preset = nullptr;  // null: a file
  std::map<std::string, Value> values;
  std::vector<std::string> keys;  // in the order of the reference
};

/// preset: what the configuration is, or null.
Side side_of(RunConfig config, const Preset* preset) {
  Side side;
  side.preset = preset;
  const std::vector<Field> fields = run_config_fields(config);
  constexpr size_t kLine = 1000;
  for (const Field* field : leaf_fields(fields)) {
    if (field->type.kind == ValueType::Kind::unserved) continue;  // always at its default
    const YamlNode value = field->write();
    const std::string raw = flow_text(value, kLine);
    const bool is_derived = value.kind == YamlNode::Kind::null && field->derived &&
                            side.preset == nullptr;  // a preset has no sizes to derive from
    side.values[field->path] = {raw, is_derived ? field->derived() : raw};
    side.keys.push_back(field->path);
  }
  return side;
}

Side load_side(const std::string& name) {
  std::error_code error;
  const bool is_file = std::filesystem::exists(name, error);
  const Preset* preset = is_file ? nullptr : find_preset(name);
  if (!is_file && preset == nullptr) {
    throw ConfigError(concat(printable(name), ": no such file and no preset of that name",
                             did_you_mean_preset(name)));
  }
  RunConfig config = preset != nullptr ? preset_config(*preset) : load_config(name);
  if (config.run.name == std::filesystem::path(name).stem()) config.run.name.clear();
  return side_of(config, preset);
}

bool sets(const Side& side, std::string_view key) {
  return side.preset != nullptr &&
         std::any_of(side.preset->settings.begin(), side.preset->settings.end(),
                     [&](const PresetSetting& s) { return concat("model.", s.key) == key; });
}

bool is_size(std::string_view key) {
  constexpr std::string_view kSizes[] = {"model.preset",     "model.d_model",     "model.n_layers",
                                         "model.n_heads",    "model.n_kv_heads",  "model.head_dim",
                                         "model.vocab_size", "model.max_seq_len", "model.ffn.d_ff"};
  return std::find(std::begin(kSizes), std::end(kSizes), key) != std::end(kSizes);
}

void flatten(const YamlNode& node, const std::string& prefix,
             std::map<std::string, std::string>& values) {
  for (const YamlEntry& entry : node.entries) {
    if (entry.value.kind == YamlNode::Kind::map) {
      flatten(entry.value, prefix + entry.key + ".", values);
    } else {
      values[prefix + entry.key] = flow_text(entry.value, 1000);
    }
  }
}

}  // namespace

std::vector<ConfigDifference> diff_configs(const std::string& a, const std::string& b) {
  const Side left = load_side(a);
  const Side right = load_side(b);
  const bool has_preset = left.preset != nullptr || right.preset != nullptr;
  std::vector<ConfigDifference> found;
  for (const std::string& key : left.keys) {
    if (has_preset) {
      if (key.rfind("model.", 0) != 0) continue;
      if (is_size(key) && !sets(left, key) && !sets(right, key)) continue;
    }
    const Value& x = left.values.at(key);
    const Value& y = right.values.at(key);
    if (x.raw != y.raw && x.resolved != y.resolved) found.push_back({key, x.resolved, y.resolved});
  }
  return found;
}

std::vector<ConfigDifference> diff_dumps(const std::string& a, const std::string& b) {
  std::map<std::string, std::string> left, right;
  flatten(parse_yaml(a, "configuration"), "", left);
  flatten(parse_yaml(b, "configuration"), "", right);
  const auto value = [](const auto& values, const std::string& key) {
    const auto it = values.find(key);
    return it == values.end() ? std::string("unknown") : it->second;
  };
  std::map<std::string, std::string> keys = left;
  keys.insert(right.begin(), right.end());
  std::vector<ConfigDifference> found;
  for (const auto& [key, unused] : keys) {
    const std::string x = value(left, key);
    const std::string y = value(right, key);
    if (x != y) found.push_back({key, x, y});
  }
  return found;
}

}  // namespace ballast
