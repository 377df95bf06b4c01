#include <cmath>
#include <sstream>

#include "tests/train/small_run.h"

namespace ballast {
namespace {

/// "name value" lines; a name may have blanks.
std::map<std::string, double> values_of(const std::string& out) {
  std::map<std::string, double> values;
  std::istringstream in(out);
  for (std::string line; std::getline(in, line);) {
    const size_t blank = line.rfind(' ');
    values[line.substr(0, blank)] = std::stod(line.substr(blank + 1));
  }
  return values;
}

}  // namespace

TEST_CASE("eval finds the validation loss of the training log", "[train][commands]") {
  const SmallRun r;
  const std::string eval_batches = GENERATE("0", "3");
  r.must_train({"train.eval_batches=" + eval_batches, "train.eval_every=6",
                "train.checkpoint_every=6", "model.dropout.residual=0.2", "train.grad_accum=2"});
  for (const int64_t step : {6, 12}) {
    const Outcome outcome = run_program({"eval", r.run().string(), "--step", std::to_string(step)});
    REQUIRE(outcome.code == 0);
    const auto values = values_of(outcome.out);
    const double logged = r.metrics()[static_cast<size_t>(step - 1)].at("val/loss");
    CHECK(values.at("step") == static_cast<double>(step));
    CHECK(values.at("val/loss") == Approx(logged).margin(6e-5));  // printed with 4 decimals
    CHECK(values.at("perplexity") == Approx(std::exp(logged)).epsilon(1e-4));
    CHECK(values.at("bits per byte") == Approx(logged / std::log(2.0)).margin(6e-5));
  }
}

TEST_CASE("eval accepts the configuration in place of the folder, and other settings",
          "[train][commands]") {
  const SmallRun r;
  r.must_train();
  const Outcome by_folder = run_program({"eval", r.run().string()});
  const Outcome by_config = run_program({"eval", r.config()});
  CHECK(by_config.code == 0);
  CHECK(by_config.out == by_folder.out);
  const Outcome whole = run_program({"eval", r.run().string(), "train.eval_batches=0"});
  CHECK(values_of(whole.out).at("targets") > values_of(by_folder.out).at("targets"));
}

TEST_CASE("eval of a synthetic corpus prints its entropy and the regret", "[train][commands]") {
  const SmallRun r;
  r.must_train({"data={source: synthetic, synthetic: {corpus: uniform}, seq_len: 8}",
                "model.vocab_size=32", "train.steps=2"});
  const auto values = values_of(run_program({"eval", r.run().string()}).out);
  CHECK(values.at("entropy floor") == Approx(std::log(32.0)).margin(6e-5));
  CHECK(values.at("regret") ==
        Approx(values.at("val/loss") - values.at("entropy floor")).margin(2e-4));
  CHECK(values.count("bits per byte") == 0);
}

TEST_CASE("eval refuses settings that the weights do not fit", "[train][commands]") {
  const SmallRun r;
  r.must_train({"train.steps=1"});
  const Outcome outcome = run_program({"eval", r.run().string(), "model.d_model=32"});
  CHECK(outcome.code == 4);
  CHECK_THAT(outcome.err, ContainsSubstring("in the checkpoint but"));
  CHECK(is_one_line(outcome.err));
}

}  // namespace ballast
