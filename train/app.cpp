#include "train/app.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <new>
#include <system_error>

#include "core/error.h"
#include "core/matmul.h"
#include "train/config/field.h"
#include "train/logging/environment.h"
#include "train/loop/signals.h"

namespace ballast {
namespace {

// The formatter prints the description first: help leads with what one would type.
const char* const kDescription =
    "Examples:\n"
    "  ballast train configs/quickstart.yaml                  train a small model in a minute\n"
    "  ballast train configs/quickstart.yaml --name hot optim.lr=3e-2\n"
    "                                                         the same under another setting\n"
    "  ballast train configs/quickstart.yaml --resume auto    continue where it was stopped\n"
    "  ballast generate runs/quickstart --prompt 'Once'       sample text from a run\n"
    "  ballast eval runs/quickstart                           validation loss, bits per byte\n"
    "  ballast plan configs/bench/m.yaml                      parameters, FLOPs, memory, time\n"
    "  ballast config check configs/quickstart.yaml           validate a configuration\n"
    "  ballast config show configs/quickstart.yaml optim.lr=3e-3\n"
    "                                                         print it with every key resolved\n"
    "  ballast config diff llama2 olmo2                       what differs: two presets, or two "
    "files\n"
    "\n"
    "Ballast trains small transformer language models on the CPU from a YAML file.\n";

const char* const kFooter =
    "\nkey=value overrides use dotted keys and YAML values:\n"
    "  optim.lr=3e-3  model.norm.kind=layernorm  'optim.betas=[0.9, 0.99]'\n"
    "Exit codes: 0 done, 2 usage or configuration error, 3 data error, 4 no valid checkpoint,\n"
    "  5 I/O error, 16 stopped by a stability policy, 75 interrupted after a good checkpoint";

std::string version_text() {
  return concat("ballast ", program_version(), "\n", compiler(), "\n", matmul_backend(), "\n",
                "instruction set ", instruction_set(), ", kernels compiled for ",
                kernel_instruction_set());
}

std::vector<std::string> command_names(CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

/// CLI11 reports a misspelt command as a surplus argument, or as a missing one.
void check_command_names(CLI::App& app, int argc, const char* const* argv) {
  CLI::App* level = &app;
  std::string path = "ballast";
  for (int i = 1; i < argc; ++i) {
    const std::vector<std::string> names = command_names(*level);
    const std::string word = argv[i];
    if (names.empty() || word.empty() || word[0] == '-') return;
    if (std::find(names.begin(), names.end(), word) == names.end()) {
      std::string hint = did_you_mean(word, names);
      if (hint.empty()) {
        for (const std::string& name : names) hint += (hint.empty() ? "; expected " : " | ") + name;
      }
      throw ConfigError(concat(path, ": unknown command '", printable(word), "'", hint));
    }
    level = level->get_subcommand(word);
    path += " " + word;
  }
}

}  // namespace

int exit_code(const std::exception& error) {
  const auto is = [&](auto* type) { return dynamic_cast<decltype(type)>(&error) != nullptr; };
  if (is(static_cast<const ConfigError*>(nullptr))) return 2;
  if (is(static_cast<const CLI::Error*>(nullptr))) return 2;
  // A call that the configuration made wrong: "data.train is empty; expected at least one file".
  if (is(static_cast<const std::invalid_argument*>(nullptr))) return 2;
  if (is(static_cast<const DataError*>(nullptr))) return 3;
  if (is(static_cast<const CheckpointError*>(nullptr))) return 4;
  if (is(static_cast<const IoError*>(nullptr))) return 5;
  if (is(static_cast<const std::filesystem::filesystem_error*>(nullptr))) return 5;
  if (is(static_cast<const StabilityError*>(nullptr))) return 16;
  if (is(static_cast<const Interrupted*>(nullptr))) return 75;
  return 1;
}

int run_app(int argc, const char* const* argv) {
  CLI::App app(kDescription, "ballast");
  app.footer(kFooter);
  app.set_version_flag("--version", version_text);
  app.require_subcommand(1);
  add_train_command(app);
  add_eval_command(app);
  add_generate_command(app);
  add_config_command(app);
  add_plan_command(app);
  add_presets_command(app);
  add_gradcheck_command(app);
  add_dump_command(app);
  ignore_write_signals();

  try {
    check_command_names(app, argc, argv);
    app.parse(argc, argv);
    std::cout.flush();
    if (!std::cout) throw IoError("stdout: cannot be written");
    return 0;
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::cerr << concat("ballast: ", printable(error.what(), 500), "; see ballast --help\n");
    return exit_code(error);
  } catch (const std::bad_alloc&) {
    std::cerr << "ballast: out of memory\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << concat(printable(error.what(), 8192), "\n");
    return exit_code(error);
  }
}

RunConfig ConfigArguments::load(std::vector<std::string>* notes) const {
  if (path.find('=') != std::string::npos && !std::filesystem::exists(path)) {
    throw ConfigError(concat("command line: ", printable(path),
                             " stands where the configuration file belongs; expected CONFIG "
                             "[key=value ...]"));
  }
  return load_config(path, overrides, notes);
}

void add_config_arguments(CLI::App& command, ConfigArguments& arguments) {
  command.add_option("CONFIG", arguments.path, "configuration file (YAML)")->required();
  // CLI11 2.4 refuses '=' in a positional's own name.
  command.add_option("overrides", arguments.overrides, "settings that win over the file's")
      ->type_name("key=value ...");
  // The tables are read only when help is asked for.
  command.footer([] {
    return concat("\nKeys that are one of several kinds (all keys: ballast config docs):\n",
                  config_kinds());
  });
}

}  // namespace ballast
