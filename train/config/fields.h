// The one list of every key of a configuration.
#pragma once

#include <vector>

#include "train/config/field.h"
#include "train/config/run_config.h"

namespace ballast {

/// Fields bound to the members of `config`, which must outlive them.
std::vector<Field> run_config_fields(RunConfig& config);

}  // namespace ballast
