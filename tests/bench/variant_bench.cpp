// Step time of single variants as a ratio to the plain model: both run in one process, a step of
// one after a step of the other, so that what else the machine does falls on both.
//   variant_bench CONFIG PAIRS LIST [key=value …]     LIST: lines `name key=value …`
// Prints a Markdown row for each line: the median of the ratios of neighbouring steps.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "layers/init.h"
#include "layers/model_cost.h"
#include "train/config/run_config.h"
#include "train/data/data_source.h"
#include "train/loop/train_step.h"

namespace ballast {
namespace {

/// A model that trains, with all that belongs to it.
class Contender {
 public:
  Contender(const std::string& file, const std::vector<std::string>& overrides)
      : config_(load_config(file, overrides)),
        model_(config_.model, allocated()),
        data_(open_data(config_.data, *config_.model.vocab_size, 0)),
        sampler_(*data_, config_.data.order, config_.train.batch_size, config_.data.seq_len, 0) {
    store_.allocate(Dtype::f32);
    initialise(config_.model, store_, 1);
    optimizer_ = make_optimizer(config_.optim, store_);
    step_ = std::make_unique<TrainStep>(config_, model_, store_, *optimizer_, sampler_, tape_);
  }

  /// Seconds of one step.
  double run() {
    const auto begin = std::chrono::steady_clock::now();
    step_->update(step_->measure(n_steps_++), true);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  double flops_per_token() const {
    return train_flops_per_token(config_.model, config_.data.seq_len);
  }

 private:
  ParameterStore& allocated() { return store_; }

  RunConfig config_;
  ParameterStore store_;
  Model model_;
  std::unique_ptr<DataSource> data_;
  BatchSampler sampler_;
  std::unique_ptr<Optimizer> optimizer_;
  Tape tape_;
  std::unique_ptr<TrainStep> step_;
  int64_t n_steps_ = 0;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace
}  // namespace ballast

int main(int argc, char** argv) {
  using namespace ballast;
  if (argc < 4) {
    std::fprintf(stderr, "usage: variant_bench CONFIG PAIRS LIST [key=value ...]\n");
    return 2;
  }
  const int pairs = std::atoi(argv[2]);
  std::ifstream list(argv[3]);
  const std::vector<std::string> common(argv + 4, argv + argc);
  Contender plain(argv[1], common);
  for (int i = 0; i < 3; ++i) plain.run();
  std::printf("| variant | step time | model FLOPs |\n|---|---|---|\n");
  for (std::string line; std::getline(list, line);) {
    std::istringstream words(line);
    std::string name;
    if (!(words >> name) || name == "#") continue;
    std::vector<std::string> overrides = common;
    for (std::string word; words >> word;) overrides.push_back(word);
    Contender variant(argv[1], overrides);
    for (int i = 0; i < 2; ++i) variant.run();
    std::vector<double> ratios;
    for (int i = 0; i < pairs; ++i) {
      // Who goes first takes turns: the first finds less of its own in the caches.
      double time = i % 2 == 0 ? variant.run() : 0.0;
      const double reference = plain.run();
      if (i % 2 != 0) time = variant.run();
      ratios.push_back(time / reference);
    }
    std::printf("| %s | %.2f | %.2f |\n", name.c_str(), median(ratios),
                variant.flops_per_token() / plain.flops_per_token());
    std::fflush(stdout);
  }
  return 0;
}
