// ballast presets list | show: known architectures as settings of the model's keys.
#include <CLI/CLI.hpp>
#include <iomanip>
#include <iostream>
#include <memory>

#include "train/app.h"
#include "train/config/preset.h"

namespace ballast {

void add_presets_command(CLI::App& app) {
  CLI::App& command =
      *app.add_subcommand("presets", "known architectures, for model.preset and config diff");
  command.require_subcommand(1);

  command.add_subcommand("list", "print the names and where each is from")->callback([] {
    for (const Preset& preset : presets()) {
      std::cout << std::left << std::setw(12) << preset.name << preset.source << '\n';
    }
  });

  const auto name = std::make_shared<std::string>();
  CLI::App& show = *command.add_subcommand("show", "print a preset's settings");
  show.add_option("NAME", *name, "a name of `ballast presets list`")->required();
  show.callback([name] {
    const Preset* preset = find_preset(*name);
    if (preset == nullptr) {
      const std::string hint = did_you_mean_preset(*name);
      throw ConfigError(concat(printable(*name), ": no preset of that name",
                               hint.empty() ? "; see ballast presets list" : hint));
    }
    std::cout << preset_yaml(*preset);
  });
}

}  // namespace ballast
