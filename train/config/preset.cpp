#include "train/config/preset.h"

#include <algorithm>

#include "train/config/fields.h"

namespace ballast {
namespace {

const char* const kPlace = "preset ";  // a file's values have a line

YamlNode map_at(const Location& at) {
  YamlNode node;
  node.kind = YamlNode::Kind::map;
  node.at = at;
  return node;
}

/// A value of the table; its places are the preset's.
YamlNode value_of(const PresetSetting& setting, const Location& at) {
  YamlNode node = parse_yaml(std::string(setting.value), at.source);
  node.at = at;
  for (YamlNode& item : node.items) item.at = at;
  return node;
}

/// The entry of a mapping, made if it is not there.
YamlNode& section_of(YamlNode& map, const std::string& key) {
  const auto it = std::find_if(map.entries.begin(), map.entries.end(),
                               [&](const YamlEntry& entry) { return entry.key == key; });
  if (it != map.entries.end()) return it->value;
  return map.entries.emplace_back(YamlEntry{key, map.at, map_at(map.at)}).value;
}

}  // namespace

Location preset_place(const Preset& preset) {
  return {concat(kPlace, preset.name), 0, 0};
}

bool is_preset_place(const Location& at) {
  return at.line == 0 && at.source.rfind(kPlace, 0) == 0;
}

YamlNode preset_node(const Preset& preset) {
  const Location at = preset_place(preset);
  YamlNode root = map_at(at);
  YamlNode& model = section_of(root, "model");
  for (const PresetSetting& setting : preset.settings) {
    const size_t dot = setting.key.find('.');
    const bool is_nested = dot != std::string_view::npos;
    YamlNode& map = is_nested ? section_of(model, std::string(setting.key.substr(0, dot))) : model;
    const std::string_view key = is_nested ? setting.key.substr(dot + 1) : setting.key;
    map.entries.push_back({std::string(key), at, value_of(setting, at)});
  }
  return root;
}

const Preset* preset_of(const YamlNode& root) {
  const YamlEntry* model = root.find("model");
  const YamlEntry* preset = model == nullptr ? nullptr : model->value.find("preset");
  return preset == nullptr ? nullptr : find_preset(preset->value.text);
}

std::string preset_yaml(const Preset& preset) {
  constexpr size_t kLine = 1000;  // longer than any
  std::string out = concat("# ", preset.name, ": ", preset.source, "\nmodel:\n");
  const YamlNode root = preset_node(preset);
  for (const YamlEntry& entry : root.find("model")->value.entries) {
    out += concat("  ", entry.key, ": ", flow_text(entry.value, kLine), "\n");
  }
  return out;
}

RunConfig preset_config(const Preset& preset) {
  RunConfig config;
  const std::vector<Field> fields = run_config_fields(config);
  const std::vector<const Field*> leaves = leaf_fields(fields);
  const Location at = preset_place(preset);
  for (const PresetSetting& setting : preset.settings) {
    const std::string path = concat("model.", setting.key);
    const auto it = std::find_if(leaves.begin(), leaves.end(),
                                 [&](const Field* field) { return field->path == path; });
    check_internal(it != leaves.end() && (*it)->read, at.source, " sets ", path,
                   ", which is no key");
    (*it)->read(value_of(setting, at), **it);
  }
  return config;
}

std::string did_you_mean_preset(const std::string& name) {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.emplace_back(preset.name);
  return did_you_mean(name, names);
}

}  // namespace ballast
