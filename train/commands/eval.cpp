// ballast eval: the validation loss of a run's weights.
#include <CLI/CLI.hpp>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <memory>

#include "train/app.h"
#include "train/data/data_source.h"
#include "train/loop/evaluator.h"
#include "train/loop/loaded_run.h"

namespace ballast {

void add_eval_command(CLI::App& app) {
  struct Arguments {
    ConfigArguments run;
    std::string step = "latest";
  };
  const auto a = std::make_shared<Arguments>();
  CLI::App& command =
      *app.add_subcommand("eval", "validation loss, perplexity and bits per byte of a run");
  command.add_option("RUN", a->run.path, "run folder, or the configuration it was made from")
      ->required();
  command.add_option("overrides", a->run.overrides, "settings that win over the run's")
      ->type_name("key=value ...");
  command.add_option("--step", a->step, "which weights: N | best | latest")->capture_default_str();
  command.callback([a] {
    const auto run = load_run(a->run.path, a->step, a->run.overrides);
    for (const std::string& warning : run->warnings) std::cerr << "warning: " << warning << '\n';
    const RunConfig& c = run->config;
    const auto data = open_data(c.data, *c.model.vocab_size, static_cast<uint64_t>(c.data_seed()));
    const EvalSampler sampler(*data, c.train.batch_size, c.data.seq_len, c.train.eval_batches);
    Tape tape;
    const Evaluation evaluation =
        evaluate(*run->model, tape, sampler, c.train.batch_size / c.train.grad_accum);
    std::cout << std::fixed << std::setprecision(4) << "step " << run->step << "\nval/loss "
              << evaluation.ce << "\nperplexity " << std::exp(evaluation.ce) << '\n';
    if (const auto bytes = data->bytes_per_token()) {
      std::cout << "bits per byte " << evaluation.ce / std::log(2.0) / *bytes << '\n';
    }
    if (const auto floor = data->floor(c.data.seq_len)) {
      std::cout << "entropy floor " << *floor << "\nregret " << evaluation.ce - *floor << '\n';
    }
    std::cout << "targets " << evaluation.n_targets << '\n';
  });
}

}  // namespace ballast
