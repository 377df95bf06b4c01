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
#include "optim/optimizer.h"
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

void row(const std::string& name, const std::string& value, const std::string& note = "") {
  std::cout << std::left << std::setw(34) << name << std::setw(16) << value << note << '\n';
}

std::string number(double x) {
  std::ostringstream out;
  out << std::setprecision(3) << x;
  return out.str();
}

// kv_bytes: of the cache, a token.
void print_classes(const ModelCost& cost, double kv_bytes, bool tied) {
  const auto line = [](const std::string& name, const std::string& parameters,
                       const std::string& forward, const std::string& backward,
                       const std::string& activations, const std::string& kv_cache,
                       const char* note = "") {
    std::cout << std::left << std::setw(14) << name << std::right << std::setw(14) << parameters
              << std::setw(16) << forward << std::setw(16) << backward << std::setw(14)
              << activations << std::setw(16) << kv_cache << note << '\n';
  };
  const auto of = [&](const std::string& name, const ClassCost& c, double kv = 0.0,
                      const char* note = "") {
    line(name, std::to_string(c.parameters), scaled(c.forward_flops, "FLOP"),
         scaled(c.backward_flops, "FLOP"), scaled(static_cast<double>(c.activation_bytes), "B"),
         scaled(kv, "B"), note);
  };
  line("", "parameters", "forward/token", "backward/token", "activations", "KV cache/token");
  of("embedding", cost.embedding);
  of("attention", cost.attention, kv_bytes);
  of("feed-forward", cost.ffn);
  of("norms", cost.norm);
  of("head", cost.head, 0.0, tied ? "  tied to the embedding" : "");
  of("total", cost.total(), kv_bytes);
}

std::string head_sharing(const ModelConfig& m) {
  const int64_t n = m.kv_heads();
  if (n == m.n_heads) return "this model is MHA";
  if (n == 1) return "this model is MQA";
  return concat("this model is GQA with ", n, " of ", m.n_heads, " heads");
}

// What the other choices of key-value heads would give.
std::string compare_sharing(ModelConfig m, int64_t batch, int64_t positions) {
  m.n_kv_heads = m.n_heads;
  const double mha = decoding_intensity(m, batch, positions);
  m.n_kv_heads = 1;
  return concat("MHA ", number(mha), ", MQA ", number(decoding_intensity(m, batch, positions)));
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
    const int64_t tokens = c.train.batch_size * c.data.seq_len;
    const int64_t micro_tokens = tokens / c.train.grad_accum;
    const ModelCost cost = model_cost(m, c.data.seq_len, micro_tokens);
    const ClassCost total = cost.total();
    const double flops = total.forward_flops + total.backward_flops;
    const auto n_moments = static_cast<double>(traits_of(c.optim.kind).n_moments());
    const auto n_parameters = static_cast<double>(total.parameters);
    const double state = (2.0 + n_moments) * 4.0 * n_parameters;
    const auto activations = static_cast<double>(total.activation_bytes);
    // One training step reads gradients, reads and writes values and moments, and moves activations
    // about thrice.
    const double traffic = (3.0 + 2.0 * n_moments) * 4.0 * n_parameters + 3.0 * activations;
    const double rate = measured_flops(c);
    const double step_s = flops * static_cast<double>(tokens) / rate;
    const int64_t seq_len = c.data.seq_len;
    const auto cache = static_cast<double>(kv_cache_bytes(m, seq_len));
    const double cache_per_token = cache / static_cast<double>(seq_len);
    print_classes(cost, cache_per_token, m.embedding.tie);
    std::cout << '\n';
    row("FLOPs per token, forward", scaled(total.forward_flops, "FLOP"),
        "products; of causal attention half, and what a window leaves");
    row("FLOPs per token, training", scaled(flops, "FLOP"));
    row("tokens per step", std::to_string(tokens));
    row("FLOPs of the run", scaled(flops * static_cast<double>(tokens * c.train.steps), "FLOP"));
    row("memory: weights and optimiser", scaled(state, "B"),
        n_moments == 2.0 ? "values, gradients, two moments" : "values, gradients, one moment");
    row("memory: activations", scaled(activations, "B"), "of one micro-batch");
    const bool has_window = kv_cache_bytes(m, seq_len) < seq_len * kv_cache_bytes(m, 1);
    row("KV cache per token", scaled(cache_per_token, "B"),
        concat(scaled(cache, "B"), " for ", seq_len, " tokens",
               has_window ? "; local layers keep their window" : ""));
    row("arithmetic intensity, training",
        scaled(flops * static_cast<double>(tokens) / traffic, "FLOP/B"),
        "FLOPs over the bytes of weights, state and activations");
    row("  attention, training",
        number(training_intensity(m, c.train.batch_size / c.train.grad_accum, seq_len)),
        "operations a number moved, here and below");
    for (const int64_t users : {int64_t{1}, c.train.batch_size}) {
      row(concat("  attention, decoding batch ", users),
          number(decoding_intensity(m, users, seq_len)),
          concat(head_sharing(m), "; ", compare_sharing(m, users, seq_len)));
      if (c.train.batch_size == 1) break;
    }
    row("time per step, at least", scaled(step_s, "s"),
        concat("at ", scaled(rate, "FLOP/s"), ", measured now on this model's largest product"));
    row("time of the run, at least", duration_text(step_s * static_cast<double>(c.train.steps)));
  });
}

}  // namespace ballast
