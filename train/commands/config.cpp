// ballast config check | show | schema | docs: what a configuration says, without running it.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "layers/model_cost.h"
#include "train/app.h"
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

  config.add_subcommand("schema", "print the JSON Schema of configurations")->callback([] {
    std::cout << json_schema();
  });
  config.add_subcommand("docs", "print the reference of all keys (configs/README.md)")
      ->callback([] { std::cout << config_reference_markdown(); });
}

}  // namespace ballast
