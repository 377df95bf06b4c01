// Presets of layers/presets as configurations: merged beneath a file, printed, compared.
#pragma once

#include <string>

#include "layers/presets.h"
#include "train/config/run_config.h"
#include "train/config/yaml.h"

namespace ballast {

/// Where a preset's values stand, for error messages: "preset gpt2".
Location preset_place(const Preset& preset);
/// Whether a value stands in a preset: nobody wrote it down.
bool is_preset_place(const Location& at);

/// {model: {…}} with the preset's settings.
YamlNode preset_node(const Preset& preset);

/// The preset that `model.preset` of a merged document names; null where it names none.
const Preset* preset_of(const YamlNode& root);

/// The preset as a configuration file has it: its source as a comment and the `model:` section.
std::string preset_yaml(const Preset& preset);

/// The defaults under the preset's settings; sizes are unset.
RunConfig preset_config(const Preset& preset);

/// "; did you mean 'gpt2'?" for a name close to a preset's.
std::string did_you_mean_preset(const std::string& name);

}  // namespace ballast
