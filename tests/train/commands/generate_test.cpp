#include "tests/train/small_run.h"

namespace ballast {
namespace {

Outcome generate(const SmallRun& r, const Words& more) {
  return run_program(Words{"generate", r.run().string(), "--prompt", "line 1", "--tokens", "40"} +
                     more);
}

}  // namespace

TEST_CASE("generate: the same seed gives the same text, another seed another",
          "[train][commands]") {
  const SmallRun r;
  r.must_train();
  const Outcome a = generate(r, {"--seed", "3"});
  REQUIRE(a.code == 0);
  CHECK(a.err.empty());
  CHECK(a.out.substr(0, 6) == "line 1");
  CHECK(a.out.size() == 6 + 40 + 1);
  CHECK(generate(r, {"--seed", "3"}).out == a.out);
  CHECK(generate(r, {"--seed", "4"}).out != a.out);

  const Outcome greedy = generate(r, {"--temperature", "0"});
  CHECK(generate(r, {"--temperature", "0", "--seed", "4"}).out == greedy.out);
  CHECK(generate(r, {"--top-k", "1"}).out == greedy.out);
  CHECK(generate(r, {"--top-p", "1e-9"}).out == greedy.out);
}

TEST_CASE("generate and eval take the weights of a step, the best or the latest",
          "[train][commands]") {
  const SmallRun r;
  // The rate explodes after the first half, so that the best weights are not the last.
  r.must_train({"train.steps=10", "train.eval_every=2", "train.checkpoint_every=2",
                "train.keep_checkpoints=2"});
  r.must_train({"train.steps=20", "train.eval_every=2", "train.checkpoint_every=2",
                "train.keep_checkpoints=2", "--resume", "auto", "optim.lr=3"});
  std::pair<double, int64_t> best = {1e9, 0};
  for (const Json& line : r.metrics()) {
    if (!line.contains("val/loss")) continue;
    best = std::min(best, {line.at("val/loss").get<double>(), line.at("step").get<int64_t>() + 1});
  }
  REQUIRE(best.second < 20);
  const auto eval = [&](const char* step) {
    return run_program({"eval", r.run().string(), "--step", step});
  };
  CHECK(eval("best").out.find(concat("step ", best.second, "\n")) == 0);
  CHECK(eval("latest").out.find("step 20\n") == 0);
  CHECK(eval("18").out.find("step 18\n") == 0);
  const std::string number = std::to_string(best.second);
  CHECK(generate(r, {"--step", "best"}).out == generate(r, {"--step", number}).out);
  CHECK(generate(r, {"--step", "best"}).out != generate(r, {}).out);
  CHECK(generate(r, {}).out == generate(r, {"--step", "20"}).out);

  // The damaged newest is passed over with a warning.
  flip_bit(r.checkpoint(20) / "model.safetensors");
  const Outcome fallen = eval("latest");
  CHECK(fallen.code == 0);
  CHECK(fallen.out.find("step 18\n") == 0);
  CHECK_THAT(fallen.err, ContainsSubstring("warning: ") && ContainsSubstring("step-00000020"));
  CHECK(is_one_line(fallen.err));
}

TEST_CASE("generate refuses what it cannot do in one line", "[train][commands]") {
  const SmallRun r;
  r.must_train({"train.steps=1"});
  r.must_train({"train.steps=1", "--name", "tokens", "model.vocab_size=64",
                "data={source: synthetic, synthetic: {corpus: uniform}, seq_len: 16}"});
  r.must_train({"train.steps=1", "--name", "bare"});
  std::filesystem::remove_all(checkpoints_folder(r.run("bare")));
  std::filesystem::create_directory(r / "empty");
  const std::string run = r.run().string();
  struct Case {
    Words arguments;
    int code;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {{run, "--temperature", "-1"}, 2, "--temperature -1: expected a number >= 0"},
      {{run, "--temperature", "nan"}, 2, "--temperature nan"},
      {{run, "--temperature", "warm"}, 2, "--temperature"},
      {{run, "--top-k", "-2"}, 2, "--top-k -2"},
      {{run, "--top-p", "0"}, 2, "--top-p 0: expected 0 < p <= 1"},
      {{run, "--top-p", "1.5"}, 2, "--top-p 1.5"},
      {{run, "--tokens", "-1"}, 2, "--tokens -1"},
      {{run, "--seed", "-1"}, 2, "--seed"},
      {{run, "--prompt", ""}, 2, "--prompt is empty"},
      {{run, "--step", "first"}, 2, "--step first: expected a step number, best or latest"},
      {{run, "--step", "7"}, 4, "has no checkpoint of step 7; it has: 1"},
      {{r.run("bare").string()}, 4, "has no checkpoint"},
      {{r.run("bare").string(), "--step", "best"}, 4, "no valid checkpoint"},
      {{(r / "empty").string()}, 2, "no run is here"},
      {{(r / "nowhere").string()}, 2, "nowhere"},
      {{r.run("tokens").string()}, 2, "its tokens are not bytes"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.arguments);
    const Outcome outcome = run_program(Words{"generate"} + c.arguments);
    CHECK(outcome.code == c.code);
    CHECK(outcome.out.empty());
    CHECK_THAT(outcome.err, ContainsSubstring(c.expected));
    CHECK(is_one_line(outcome.err));
  }
}

}  // namespace ballast
