// ballast generate: a sample of text from a run.
#include "train/loop/generate.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "train/app.h"
#include "train/data/tokenizer.h"
#include "train/loop/loaded_run.h"

namespace ballast {

void add_generate_command(CLI::App& app) {
  struct Arguments {
    std::string run;
    std::string step = "latest";
    std::string prompt = "\n";
    int64_t n_tokens = 256;
    SamplingOptions sampling;
    int64_t seed = 1337;
  };
  const auto a = std::make_shared<Arguments>();
  CLI::App& command = *app.add_subcommand("generate", "sample text from a run");
  command.add_option("RUN", a->run, "run folder, or the configuration it was made from")
      ->required();
  command.add_option("--step", a->step, "which weights: N | best | latest")->capture_default_str();
  command.add_option("--prompt", a->prompt, "text to continue (default: a line end)");
  command.add_option("--tokens", a->n_tokens, "tokens to add")->capture_default_str();
  command.add_option("--temperature", a->sampling.temperature, "0 = always the most likely")
      ->capture_default_str();
  command.add_option("--top-k", a->sampling.top_k, "draw among the k most likely; 0 = all")
      ->capture_default_str();
  command
      .add_option("--top-p", a->sampling.top_p, "draw among the fewest holding this probability")
      ->capture_default_str();
  command.add_option("--seed", a->seed, "the same seed gives the same text")->capture_default_str();
  command.callback([a] {
    validate(a->sampling);
    if (a->n_tokens < 0)
      throw ConfigError(concat("--tokens ", a->n_tokens, ": expected 0 or more"));
    if (a->seed < 0) throw ConfigError(concat("--seed ", a->seed, ": expected 0 or more"));
    if (a->prompt.empty()) throw ConfigError("--prompt is empty; expected at least one byte");
    const auto run = load_run(a->run, a->step);
    for (const std::string& warning : run->warnings) std::cerr << "warning: " << warning << '\n';
    if (run->config.data.source == DataKind::tokens || *run->config.model.vocab_size != 256) {
      throw ConfigError(
          concat(a->run,
                 ": its tokens are not bytes, so there is no text to show; expected a run with "
                 "data.tokenizer bytes"));
    }
    std::vector<int32_t> prompt;
    for (const char c : a->prompt) prompt.push_back(static_cast<unsigned char>(c));
    std::cout << a->prompt;
    TokenSampler sampler(a->sampling, static_cast<uint64_t>(a->seed));
    Tape tape;
    generate(*run->model, tape, prompt, a->n_tokens, sampler, [](int32_t token) {
      if (!std::cout.put(static_cast<char>(token)).flush()) {
        throw IoError("stdout: cannot be written");
      }
    });
    std::cout << '\n';
  });
}

}  // namespace ballast
