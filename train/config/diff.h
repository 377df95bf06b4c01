// What differs between two configurations, or two presets, or one of each.
#pragma once

#include <string>
#include <vector>

namespace ballast {

struct ConfigDifference {
  std::string key, a, b;  ///< values as YAML; what null stands for where that is known
};

/// a, b: the path of a configuration file, or the name of a preset (a file of that name comes
/// first). Keys that are null on both sides are left out although what they stand for may differ;
/// so is a run.name that is only the file's. Where a preset is compared, its keys are: `model.*`
/// without the sizes. In the order of the key reference.
/// Throws ConfigError as load_config does, and for what is neither a file nor a preset.
std::vector<ConfigDifference> diff_configs(const std::string& a, const std::string& b);
/// a, b: texts that dump_config() wrote, of this version or another.
std::vector<ConfigDifference> diff_dumps(const std::string& a, const std::string& b);

}  // namespace ballast
