// ballast train: a run from its configuration to its last checkpoint.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>

#include "train/app.h"
#include "train/loop/trainer.h"

namespace ballast {

namespace {

// The configuration of a run's folder continues that run, wherever the folder was moved to.
void stay_in_folder(const ConfigArguments& arguments, RunConfig& run) {
  const std::filesystem::path file = std::filesystem::absolute(arguments.path);
  const std::filesystem::path folder = file.parent_path();
  const bool is_named = std::any_of(
      arguments.overrides.begin(), arguments.overrides.end(),
      [](const auto& o) { return o.starts_with("run.name=") || o.starts_with("run.dir="); });
  if (is_named || file.filename() != "config.yaml" ||
      !std::filesystem::is_directory(folder / "checkpoints")) {
    return;
  }
  run.run.dir = folder.parent_path().string();
  run.run.name = folder.filename().string();
}

}  // namespace

void add_train_command(CLI::App& app) {
  struct Arguments {
    ConfigArguments config;
    TrainOptions options;
    std::string name;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *app.add_subcommand("train", "train a model from a configuration");
  add_config_arguments(command, arguments->config);
  command.add_option("--resume", arguments->options.resume,
                     "continue a run: auto (or start it), latest, step:N, or a checkpoint's path");
  command.add_option("--init", arguments->options.init, "initial values from a safetensors file");
  command.add_option("--name", arguments->name, "name of the run (run.name)");
  command.callback([arguments] {
    ConfigArguments config = arguments->config;
    if (!arguments->name.empty()) config.overrides.push_back("run.name=" + arguments->name);
    std::vector<std::string> notes;
    RunConfig run = config.load(&notes);
    if (arguments->options.resume) stay_in_folder(config, run);
    for (const std::string& note : notes) std::cerr << "note: " << note << '\n';
    train(run, arguments->options);
  });
}

}  // namespace ballast
