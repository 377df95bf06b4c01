#include "train/loop/loaded_run.h"

#include "core/parallel.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/selection.h"

namespace ballast {

namespace {

// A run is where its folder is, not where its configuration says: folders get moved.
std::filesystem::path run_folder(const std::filesystem::path& path, const RunConfig& config) {
  return std::filesystem::is_directory(path) ? path : config.run_dir();
}

}  // namespace

RunConfig load_run_config(const std::filesystem::path& path,
                          std::span<const std::string> overrides) {
  if (!std::filesystem::is_directory(path)) return load_config(path, overrides);
  const std::filesystem::path file = path / "config.yaml";
  if (!std::filesystem::exists(file)) {
    throw ConfigError(
        concat(path.string(),
               ": no run is here (config.yaml is missing); expected a run's folder or a "
               "configuration file"));
  }
  return load_config(file, overrides);
}

std::unique_ptr<LoadedRun> load_run(const std::filesystem::path& path, const std::string& step,
                                    std::span<const std::string> overrides) {
  auto run = std::make_unique<LoadedRun>();
  run->config = load_run_config(path, overrides);
  if (run->config.run.threads > 0) set_n_threads(static_cast<int>(run->config.run.threads));
  SelectedCheckpoint selected =
      select_checkpoint(run_folder(path, run->config), parse_step(step), CheckpointUse::weights);
  run->warnings = std::move(selected.rejected);
  run->model = std::make_unique<Model>(run->config.model, run->store);
  run->store.allocate(Dtype::f32, false);
  const Checkpoint& checkpoint = selected.checkpoint.value();
  checkpoint.load_model(named_values(run->store));
  run->step = checkpoint.step();
  run->checkpoint = checkpoint.path();
  return run;
}

}  // namespace ballast
