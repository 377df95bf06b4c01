#include "layers/presets.h"

#include "tests/train/small_run.h"

namespace ballast {

TEST_CASE("presets list names each preset with its source, one a line", "[train][commands]") {
  const Outcome list = run_program({"presets", "list"});
  CHECK(list.code == 0);
  CHECK(list.err.empty());
  CHECK(std::count(list.out.begin(), list.out.end(), '\n') ==
        static_cast<int64_t>(presets().size()));
  for (const Preset& preset : presets()) {
    CHECK_THAT(list.out, ContainsSubstring(concat("\n", preset.name, " ")) ||
                             ContainsSubstring(concat(preset.name, "        GPT-2")));
    CHECK_THAT(list.out, ContainsSubstring(concat(preset.source, "\n")));
  }
}

TEST_CASE("what presets show prints is the preset, as a configuration file has it",
          "[train][commands]") {
  const SmallRun r;
  for (const char* name : {"llama2", "gpt2"}) {
    const Outcome show = run_program({"presets", "show", name});
    REQUIRE(show.code == 0);
    CHECK(show.err.empty());
    CHECK(show.out.find(concat("# ", name, ": ")) == 0);
    put_contents(r / "written.yaml",
                 show.out + "  d_model: 16\n  n_layers: 2\n  n_heads: 2\ntrain: {steps: 1}\n");
    const Outcome diff = run_program({"config", "diff", name, (r / "written.yaml").string()});
    CHECK(diff.code == 0);
    CHECK((diff.out + diff.err).empty());
  }
}

TEST_CASE("config diff prints a line for each key that differs", "[train][commands]") {
  const Outcome diff = run_program({"config", "diff", "llama2", "llama3"});
  CHECK(diff.code == 0);
  CHECK(diff.err.empty());
  CHECK(diff.out == "model.ffn.ratio: 2.6875 -> 3.5\nmodel.position.theta: 10000.0 -> 5.0e+5\n");
}

TEST_CASE("unknown presets end presets show and config diff with one line", "[train][commands]") {
  const SmallRun r;
  const std::vector<Words> wrong = {{"presets", "show", "lama2"},
                                    {"config", "diff", "lama2", "gpt2"},
                                    {"config", "diff", r.config(), "lama2"}};
  for (const Words& words : wrong) {
    const Outcome outcome = run_program(words);
    CHECK(outcome.code == 2);
    CHECK(outcome.out.empty());
    CHECK(is_one_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring("did you mean 'llama2'?"));
  }
  CHECK_THAT(run_program({"presets", "show", "wibble"}).err,
             ContainsSubstring("see ballast presets list"));
}

TEST_CASE("a run keeps its preset and goes on without the file that named it",
          "[train][commands]") {
  const SmallRun r;
  r.must_train({"model.preset=llama2", "model.norm.eps=1e-4"});
  const std::string resolved = contents_of(r.run() / "config.yaml");
  CHECK_THAT(resolved, ContainsSubstring("  preset: llama2\n") &&
                           ContainsSubstring("eps: 1.0e-4") &&
                           ContainsSubstring("ratio: 2.6875\n"));
  CHECK(run_program({"eval", r.run().string()}).code == 0);
}

}  // namespace ballast
