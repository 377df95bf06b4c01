// The command line: one command for each file in train/commands, and the exit codes.
#pragma once

#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "train/config/run_config.h"

namespace CLI {
class App;
}

namespace ballast {

/// Parses the arguments, runs the command and returns the exit code. Data goes to stdout; what is
/// wrong is one line on stderr.
int run_app(int argc, const char* const* argv);

/// The exit code of an exception that ended a command.
int exit_code(const std::exception& error);

/// CONFIG [key=value ...], as most commands take them.
struct ConfigArguments {
  std::string path;
  std::vector<std::string> overrides;

  /// Throws ConfigError, with a hint if the path was forgotten.
  RunConfig load(std::vector<std::string>* notes = nullptr) const;
};

/// Adds both positional arguments to a command.
void add_config_arguments(CLI::App& command, ConfigArguments& arguments);

// One registration a command; the command's callback throws the errors of core/error.h.
void add_train_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_config_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_presets_command(CLI::App& app);
void add_gradcheck_command(CLI::App& app);
void add_dump_command(CLI::App& app);

}  // namespace ballast
