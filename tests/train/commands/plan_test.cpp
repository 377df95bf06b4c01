#include <sstream>

#include "tests/train/small_run.h"

namespace ballast {
namespace {

/// The words of the line that begins with `name`.
Words line_of(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(name, 0) != 0) continue;
    std::istringstream words(line.substr(name.size()));
    Words found;
    for (std::string word; words >> word;) found.push_back(word);
    return found;
  }
  return {};
}

}  // namespace

TEST_CASE("plan counts each class of layers and in total", "[train][commands]") {
  const SmallRun r;  // d_model 16, 2 layers, 2 heads, d_ff 48, vocabulary 256, 16 tokens
  const Outcome plan = run_program({"plan", r.config()});
  REQUIRE(plan.code == 0);
  CHECK(line_of(plan.out, "embedding").at(0) == "4096");
  CHECK(line_of(plan.out, "attention").at(0) == std::to_string(2 * 4 * 16 * 16));
  CHECK(line_of(plan.out, "feed-forward").at(0) == std::to_string(2 * 3 * 16 * 48));
  CHECK(line_of(plan.out, "norms").at(0) == std::to_string(5 * 16));
  CHECK(line_of(plan.out, "head").at(0) == "4096");
  const Words total = line_of(plan.out, "total");
  CHECK(total.at(0) == std::to_string(2 * 4096 + 2048 + 4608 + 80));
  // 2 * (2048 + 4608 + 4096) + 2 layers * 4 * 16 * 8, and twice that backwards.
  CHECK(total.at(1) + total.at(2) == "22.5kFLOP");
  CHECK(total.at(3) + total.at(4) == "45.1kFLOP");
  CHECK(run_program({"plan", r.config(), "--flops"}).out == "67584\n");
}

TEST_CASE("plan knows what an optimiser keeps and what sharing keys saves", "[train][commands]") {
  const SmallRun r;
  const auto memory = [&](const Words& words) {
    return line_of(run_program(Words{"plan", r.config()} + words).out,
                   "memory: weights and optimiser");
  };
  CHECK(memory({}).at(0) == "239");                  // 16 bytes a weight
  CHECK(memory({"optim.kind=sgd"}).at(0) == "179");  // 12 of 14928
  const Outcome mqa = run_program({"plan", r.config(), "model.n_kv_heads=1"});
  CHECK_THAT(mqa.out, ContainsSubstring("this model is MQA; MHA ") &&
                          ContainsSubstring("attention, decoding batch 4"));
  // 2 layers, a key and a value of 8 channels, 4 bytes each.
  CHECK(line_of(mqa.out, "KV cache per token").at(0) == "128");
}

}  // namespace ballast
