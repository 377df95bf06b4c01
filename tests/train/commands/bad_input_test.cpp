// What a person gets wrong: one line, an exit code, and nothing lost.
#include "tests/train/small_run.h"

namespace ballast {

namespace fs = std::filesystem;

TEST_CASE("each bad input of train gives one line and its exit code, and no run folder",
          "[train][commands]") {
  const SmallRun r;
  put_contents(r / "empty.txt", "");
  put_contents(r / "short.txt", "fifteen letters");
  put_contents(r / "latin1.txt", std::string(500, 'a') + "\n\xe9" + std::string(500, 'a'));
  put_contents(r / "odd.bin", std::string(501, 'a'));
  put_contents(r / "ids.bin", std::string(1000, '\1'));  // ids 257
  put_contents(r / "tabs.yaml", "model:\n\td_model: 16\n");
  put_contents(r / "list.yaml", "- 1\n");
  fs::create_directory(r / "folder");
  struct Case {
    Words arguments;
    int code;
    std::string expected;
  };
  const std::string config = r.config();
  const std::vector<Case> cases = {
      {{(r / "none.yaml").string()}, 2, "none.yaml: no such file"},
      {{(r / "folder").string()}, 2, "folder"},
      {{(r / "tabs.yaml").string()}, 2, "tabs.yaml:2"},
      {{(r / "list.yaml").string()}, 2, "list.yaml"},
      {{config, "data.train=[none.txt]"}, 3, "none.txt: no such file"},
      {{config, "data.train=[folder]"}, 3, "is a directory"},
      {{config, "data.train=[empty.txt]"}, 3, "empty.txt: is empty"},
      {{config, "data.train=[short.txt]"}, 3, "expected at least data.seq_len + 1 = 17"},
      {{config, "data.val=[short.txt]"}, 3, "the validation split has 15 tokens"},
      {{config, "data.train=[latin1.txt]"}, 3, "byte 501, on line 2, is not valid UTF-8"},
      {{config, "data.train=[]"}, 2, "data.train"},
      {{config, "data.source=tokens", "model.vocab_size=300", "data.train=[odd.bin]"},
       3,
       "odd.bin"},
      {{config, "data.source=tokens", "model.vocab_size=257", "data.train=[ids.bin]"},
       3,
       "has the id 257; expected ids below model.vocab_size = 257"},
      {{config, "model.vocab_size=90"}, 2, "bytes need 256"},
      {{config, "model.nlayers=3"}, 2, "did you mean 'n_layers'?"},
      {{config, "trian.steps=3"}, 2, "did you mean 'train'?"},
      {{config, "model.d_model=wide"}, 2, "model.d_model"},
      {{config, "optim.lr=true"}, 2, "optim.lr"},
      {{config, "train.steps=1.5"}, 2, "train.steps"},
      {{config, "model.n_heads=3"}, 2, "model.n_heads = 3 does not divide model.d_model = 16"},
      {{config, "train.grad_accum=3"}, 2, "train.grad_accum"},
      {{config, "run.name=a/b"}, 2, "run.name"},
      {{config, "--name", ".."}, 2, "run.name"},
      {{config, "--naem", "b"}, 2, "--naem"},
      {{config, "run.dir=" + (r / "text.txt").string()}, 5, "text.txt"},
      {{config, "run.dir=/proc/runs"}, 5, "/proc/runs"},
      {{config, "run.precision=bf16"}, 2, "not in this version"},
      {{}, 2, "CONFIG is required"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.arguments);
    const Outcome outcome = run_program(Words{"train"} + c.arguments);
    CHECK(outcome.code == c.code);
    CHECK(outcome.out.empty());
    CHECK_THAT(outcome.err, ContainsSubstring(c.expected));
    CHECK(is_one_line(outcome.err));
    CHECK_FALSE(fs::exists(r / "runs"));
  }
}

TEST_CASE("an existing run folder is refused and kept as it is", "[train][commands]") {
  const SmallRun r;
  r.must_train();
  const auto before = snapshot(r.run());
  const Outcome again = r.train({"optim.lr=1e-5"});
  CHECK(again.code == 2);
  CHECK_THAT(again.err, ContainsSubstring("runs/a: the run folder exists already; expected a new "
                                          "run.name, or --resume auto"));
  CHECK(is_one_line(again.err));
  CHECK(snapshot(r.run()) == before);
}

TEST_CASE("a file where the run folder belongs is an error of the disk", "[train][commands]") {
  const SmallRun r;
  fs::create_directory(r / "runs");
  put_contents(r.run(), "precious");
  const Words resume = GENERATE(Words{}, Words{"--resume", "auto"});
  const Outcome outcome = r.train(resume);
  CHECK(outcome.code == 5);
  CHECK(is_one_line(outcome.err));
  CHECK(contents_of(r.run()) == "precious");
}

TEST_CASE("an unknown command is named and the nearest one proposed", "[train][commands]") {
  const Outcome outcome = run_program({"trian", "x.yaml"});
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.err, ContainsSubstring("unknown command 'trian'; did you mean 'train'?"));
  CHECK(is_one_line(outcome.err));
}

TEST_CASE("plan, gradcheck and config open no data and make no folder", "[train][commands]") {
  const SmallRun r;
  fs::remove(r / "text.txt");
  const auto before = snapshot(r / "");
  const Outcome plan = run_program({"plan", r.config()});
  CHECK(plan.code == 0);
  CHECK(plan.err.empty());
  CHECK_THAT(plan.out, ContainsSubstring("parameters") && ContainsSubstring("time of the run"));
  for (const char* command : {"check", "show"}) {
    const Outcome config = run_program({"config", command, r.config()});
    CHECK(config.code == 0);
    CHECK(config.err.empty());
  }
  const Outcome gradcheck = run_program({"gradcheck", r.config()});
  CHECK(gradcheck.code == 0);
  CHECK_THAT(gradcheck.out, ContainsSubstring("passed"));
  CHECK(snapshot(r / "") == before);
  CHECK_FALSE(fs::exists(r / "runs"));
}

TEST_CASE("the program says what it is and how it is used", "[train][commands]") {
  const Outcome version = run_program({"--version"});
  CHECK(version.code == 0);
  CHECK_THAT(version.out, ContainsSubstring("ballast 0.") && ContainsSubstring("g++ ") &&
                              ContainsSubstring("oneDNN ") &&
                              ContainsSubstring("instruction set "));
  const Outcome help = run_program({"--help"});
  CHECK(help.code == 0);
  CHECK(help.out.find("Examples:\n") == 0);
  for (const char* command :
       {"train", "eval", "generate", "config", "plan", "presets", "gradcheck", "dump"}) {
    const Outcome one = run_program({command, "--help"});
    CHECK(one.code == 0);
    CHECK_FALSE(one.out.empty());
  }
}

TEST_CASE("a reader that leaves ends the output without a signal", "[train][commands]") {
  const SmallRun r;
  r.must_train({"train.steps=1"});
  const std::string command = concat(
      "{ ", BALLAST_BINARY_DIR, "/ballast generate ", r.run().string(), " --tokens 100000 2>",
      (r / "err").string(), "; echo $? >", (r / "code").string(), "; } | head -c 1 >/dev/null");
  CHECK(std::system(command.c_str()) == 0);
  CHECK(contents_of(r / "code") == "5\n");
  CHECK_THAT(contents_of(r / "err"), ContainsSubstring("stdout: cannot be written"));
}

}  // namespace ballast
