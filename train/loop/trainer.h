// A run from its configuration to its last checkpoint.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "train/config/run_config.h"

namespace ballast {

struct TrainOptions {
  std::optional<std::string> resume;          ///< auto | latest | step:N | PATH
  std::optional<std::filesystem::path> init;  ///< initial values from a safetensors file
};

/// Trains, logs, evaluates and checkpoints until the configured steps are done, early stopping ends
/// it, or a signal asks for an end.
/// Throws ConfigError (the run folder exists), DataError, CheckpointError, IoError, StabilityError
/// (NaN or infinity; the update was not made) and Interrupted (a checkpoint was written).
void train(const RunConfig& config, const TrainOptions& options);

}  // namespace ballast
