// A trained model, taken from a run's folder.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "layers/model.h"
#include "train/config/run_config.h"

namespace ballast {

struct LoadedRun {
  RunConfig config;
  ParameterStore store;  ///< values only, no gradients
  std::unique_ptr<Model> model;
  int64_t step = 0;  ///< updates behind the weights
  std::filesystem::path checkpoint;
  std::vector<std::string> warnings;  ///< damaged checkpoints that were passed over
};

/// The configuration of a run folder, or of a configuration file, which then names its run's
/// folder. Throws ConfigError if `path` is neither.
RunConfig load_run_config(const std::filesystem::path& path,
                          std::span<const std::string> overrides);

/// Loads the weights of a run. step: N | best | latest. Overrides apply to the configuration; those
/// that change the model's shape make the checkpoint unfit.
/// Throws ConfigError, CheckpointError.
std::unique_ptr<LoadedRun> load_run(const std::filesystem::path& path, const std::string& step,
                                    std::span<const std::string> overrides = {});

}  // namespace ballast
