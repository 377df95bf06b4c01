// Known architectures as settings of the keys of the `model:` section: a table, no code.
#pragma once

#include <span>
#include <string_view>

namespace ballast {

/// A key below `model.` and its value, as YAML.
struct PresetSetting {
  std::string_view key;    ///< "norm.kind"
  std::string_view value;  ///< "layernorm"
};

/// What makes an architecture, without its size: widths, layers, heads and vocabulary are the
/// user's. Ratios belong to it, and a single key-value head where the architecture demands that.
struct Preset {
  std::string_view name;
  std::string_view source;  ///< the model whose numbers these are, and the file that has them
  std::span<const PresetSetting> settings;
};

/// In the order in which they are listed.
std::span<const Preset> presets();

/// Pointer to the preset of that name, or null.
const Preset* find_preset(std::string_view name);

}  // namespace ballast
