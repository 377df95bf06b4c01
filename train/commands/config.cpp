// ballast config check | show | diff | schema | docs: what a configuration says, without running
// it.
#include <CLI/CLI.hpp>
#include <array>
#include <iostream>
#include <memory>

#include "layers/model_cost.h"
#include "train/app.h"
#include "train/config/diff.h"
#include "train/config/run_config.h"

namespace ballast {

void add_config_command(CLI::App& app) {
  CLI::App& config = *app.add_subcommand("config", "validate, print and document configurations");
  config.require_subcommand(1);
  const auto arguments = std::make_shared<ConfigArguments>();

  CLI::App& check = *config.add_subcommand("check", "validate a configuration; opens no data");
  add_config_arguments(check, *arguments);
  check.callback([arguments] {
    std::vector<std::string> notes;
    const RunConfig c = arguments->load(&notes);
    for (const std::string& note : notes) std::cerr << "note: " << note << '\n';
    std::cout << "ok: " << c.run.name << ": " << c.model.n_layers << " layers, d_model "
              << c.model.d_model << ", " << c.model.n_heads << " heads, vocabulary "
              << *c.model.vocab_size << ", " << count_parameters(c.model).total << " parameters; "
              << c.train.steps << " steps of " << c.train.batch_size * c.data.seq_len
              << " tokens\n";
  });

  CLI::App& show = *config.add_subcommand("show", "print a configuration with every key resolved");
  add_config_arguments(show, *arguments);
  show.callback([arguments] { std::cout << dump_config(arguments->load()); });

  const auto sides = std::make_shared<std::array<std::string, 2>>();
  CLI::App& diff = *config.add_subcommand("diff", "print the keys whose values differ");
  diff.add_option("A", (*sides)[0], "configuration file, or the name of a preset")->required();
  diff.add_option("B", (*sides)[1], "the other one")->required();
  diff.callback([sides] {
    for (const ConfigDifference& d : diff_configs((*sides)[0], (*sides)[1])) {
      std::cout << d.key << ": " << d.a << " -> " << d.b << '\n';
    }
  });

  config.add_subcommand("schema", "print the JSON Schema of configurations")->callback([] {
    std::cout << json_schema();
  });
  config.add_subcommand("docs", "print the reference of all keys (configs/README.md)")
      ->callback([] { std::cout << config_reference_markdown(); });
}

}  // namespace ballast
