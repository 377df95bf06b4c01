// ballast gradcheck: float64 finite differences of the whole model that a configuration describes.
#include "autograd/gradcheck.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <memory>

#include "core/parallel.h"
#include "core/random.h"
#include "layers/init.h"
#include "layers/model.h"
#include "train/app.h"

namespace ballast {

void add_gradcheck_command(CLI::App& app) {
  struct Arguments {
    ConfigArguments config;
    GradcheckOptions options{.entries_per_tensor = 8};
    int64_t rows = 2, length = 8;
  };
  const auto a = std::make_shared<Arguments>();
  CLI::App& command = *app.add_subcommand(
      "gradcheck", "compare the model's gradients with float64 finite differences");
  add_config_arguments(command, a->config);
  command
      .add_option("--entries", a->options.entries_per_tensor,
                  "entries drawn from each parameter; 0 = all")
      ->capture_default_str();
  command.add_option("--rows", a->rows, "sequences in the batch")->capture_default_str();
  command.add_option("--length", a->length, "tokens of each (at most data.seq_len)")
      ->capture_default_str();
  command.callback([a] {
    const RunConfig config = a->config.load();
    if (config.run.threads > 0) set_n_threads(static_cast<int>(config.run.threads));
    if (a->rows < 1 || a->length < 1 || a->options.entries_per_tensor < 0) {
      throw ConfigError("--rows and --length: expected at least 1; --entries: at least 0");
    }
    const int64_t length = std::min(a->length, *config.model.max_seq_len);
    ParameterStore store;
    Model model(config.model, store);
    store.allocate(Dtype::f64);
    initialise(config.model, store, static_cast<uint64_t>(config.init_seed()));
    // An untrained model has gradients near 0, which the rounding of the loss would drown: weights
    // move so far that a product keeps the size of its input, gains and biases a little.
    for (Parameter& p : store.parameters()) {
      RandomStream random(3, hash_name(p.name));
      const double scale =
          p.shape.rank() == 2 ? 1.0 / std::sqrt(static_cast<double>(p.shape.back())) : 0.05;
      double* values = p.value.data<double>();
      for (int64_t i = 0; i < p.value.size(); ++i) values[i] += scale * random.normal();
    }
    std::vector<int32_t> tokens(static_cast<size_t>(a->rows * length)), targets(tokens.size());
    RandomStream random(1, 1);
    const auto vocabulary = static_cast<uint64_t>(*config.model.vocab_size);
    for (int32_t& t : tokens) t = static_cast<int32_t>(random.below(vocabulary));
    for (int32_t& t : targets) t = static_cast<int32_t>(random.below(vocabulary));
    ForwardContext context;
    context.training = true;
    const GradcheckReport report = gradcheck(
        store,
        [&](Tape& tape) {
          return model
              .loss(tape, {tokens.data(), a->rows, length}, targets.data(),
                    {.z_loss = config.loss.z_loss, .denominator = a->rows * length}, context)
              .total;
        },
        a->options);
    std::cout << (report.passed ? "passed" : "FAILED") << ": relative error " << report.error
              << " in " << report.tensor << '[' << report.entry << "] (analytic " << report.analytic
              << ", numeric " << report.numeric << "); " << report.n_checked << " entries checked, "
              << report.n_redrawn << " redrawn at kinks; expected at most " << a->options.tolerance
              << '\n';
    if (report.error > a->options.tolerance) {
      throw InternalError(
          "gradcheck: analytic and numeric gradient differ; another --seed tells a wrong gradient "
          "from a "
          "badly conditioned entry");
    }
    if (!report.passed) {
      throw InternalError("gradcheck: too many entries lie at kinks to judge; try --length 2");
    }
  });
}

}  // namespace ballast
