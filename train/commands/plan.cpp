// ballast plan: what a configuration costs, before it runs.
#include <CLI/CLI.hpp>
#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>
#include <sstream>
#include <vector>

#include "core/matmul.h"
#include "core/parallel.h"
#include "layers/model_cost.h"
#include "train/app.h"
#include "train/logging/console.h"

namespace ballast {

namespace {

std::string scaled(double x, const char* unit) {
  const char* const prefixes[] = {"", " k", " M", " G", " T", " P"};
  size_t i = 0;
  while (x >= 1000.0 && i + 1 < std::size(prefixes)) {
    x /= 1000.0;
    ++i;
  }
  std::ostringstream out;
  out << std::setprecision(i == 0 ? 4 : 3) << x << (i == 0 ? " " : prefixes[i]) << unit;
  return out.str();
}

// FLOP/s of the product that most of the model's work looks like, best of a few. Its sizes are
// bounded: a plan is also for models that do not fit.
double measured_flops(const RunConfig& c) {
  const int64_t m =
      std::min<int64_t>(c.train.batch_size / c.train.grad_accum * c.data.seq_len, 4096);
  const int64_t n = std::min<int64_t>(c.model.d_ff(), 4096);
  const int64_t k = std::min<int64_t>(c.model.d_model, 1024);
  std::vector<float> a(static_cast<size_t>(m * k), 1.0F), b(static_cast<size_t>(n * k), 1.0F);
  std::vector<float> out(static_cast<size_t>(m * n));
  double best = 0.0;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    matmul<float>(m, n, k, {a.data(), k}, {b.data(), k, true}, false, {out.data(), n});
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * static_cast<double>(m * n * k) / seconds.count());
  }
  return best;
}

}  // namespace

void add_plan_command(CLI::App& app) {
  struct Arguments {
    ConfigArguments config;
    bool flops = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *app.add_subcommand(
      "plan", "parameters, FLOPs, memory and estimated time of a configuration");
  add_config_arguments(command, arguments->config);
  command.add_flag("--flops", arguments->flops,
                   "print the FLOPs of training on one token and nothing else");
  command.callback([arguments] {
    const RunConfig c = arguments->config.load();
    if (arguments->flops) {
      std::cout << std::fixed << std::setprecision(0)
                << train_flops_per_token(c.model, c.data.seq_len) << '\n';
      return;
    }
    if (c.run.threads > 0) set_n_threads(static_cast<int>(c.run.threads));
    const ModelConfig& m = c.model;
    const ParameterCounts n = count_parameters(m);
    const double flops = train_flops_per_token(m, c.data.seq_len);
    const int64_t tokens = c.train.batch_size * c.data.seq_len;
    const int64_t micro_tokens = tokens / c.train.grad_accum;
    const double state = 16.0 * static_cast<double>(n.total);
    const auto activations = static_cast<double>(activation_bytes(m, micro_tokens));
    // One training step moves values, gradients and moments once each way, activations about
    // thrice.
    const double traffic = 28.0 * static_cast<double>(n.total) + 3.0 * activations;
    const double rate = measured_flops(c);
    const double step_s = flops * static_cast<double>(tokens) / rate;
    const auto row = [](const char* name, const std::string& value, const char* note = "") {
      std::cout << std::left << std::setw(34) << name << std::setw(16) << value << note << '\n';
    };
    row("parameters", std::to_string(n.total));
    row("  embedding", std::to_string(n.embedding));
    row("  attention", std::to_string(n.attention));
    row("  feed-forward", std::to_string(n.ffn));
    row("  norms", std::to_string(n.norm));
    row("  head", std::to_string(n.head), m.embedding.tie ? "tied to the embedding" : "");
    row("FLOPs per token, forward", scaled(flops / 3.0, "FLOP"));
    row("FLOPs per token, training", scaled(flops, "FLOP"), "causal attention counted at half");
    row("tokens per step", std::to_string(tokens));
    row("FLOPs of the run", scaled(flops * static_cast<double>(tokens * c.train.steps), "FLOP"));
    row("memory: weights and optimiser", scaled(state, "B"), "values, gradients, two moments");
    row("memory: activations", scaled(activations, "B"), "of one micro-batch");
    row("KV cache per token", scaled(static_cast<double>(kv_cache_bytes_per_token(m)), "B"));
    row("arithmetic intensity, training",
        scaled(flops * static_cast<double>(tokens) / traffic, "FLOP/B"),
        "FLOPs over the bytes of weights, state and activations");
    row("time per step, at least", scaled(step_s, "s"),
        concat("at ", scaled(rate, "FLOP/s"), ", measured now on this model's largest product")
            .c_str());
    row("time of the run, at least", duration_text(step_s * static_cast<double>(c.train.steps)));
  });
}

}  // namespace ballast
