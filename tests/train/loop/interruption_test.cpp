// Runs that end before their time: signals, a full disk, a process that is killed.
#include <csignal>

#include "tests/train/small_run.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

const Words kLong = {"train.steps=400", "train.checkpoint_every=25", "train.grad_accum=2",
                     "model.dropout.residual=0.1", "train.eval_every=40"};

/// Starts the run and waits until it has done `n` steps.
class Started {
 public:
  Started(const SmallRun& r, int64_t n, const Words& more = {})
      : program_(Words{"train", r.config()} + kLong + more) {
    REQUIRE(program_.wait_until([&] { return r.n_lines() >= n; }));
  }
  Program* operator->() { return &program_; }

 private:
  Program program_;
};

}  // namespace

TEST_CASE("a signal ends the run after its step with a checkpoint, and it goes on bitwise",
          "[train][loop]") {
  const SmallRun r;
  const int signal = GENERATE(SIGINT, SIGTERM);
  Started run(r, 30);
  run->send(signal);
  const Outcome stopped = run->wait();
  REQUIRE(stopped.code == 75);
  const int64_t step = r.steps().back();
  CHECK(r.n_lines() == step);
  CHECK(step < 400);
  CHECK_THAT(last_line(stopped.err), ContainsSubstring(concat("interrupted after step ", step)) &&
                                         ContainsSubstring("--resume auto") &&
                                         ContainsSubstring(r.checkpoint(step).string()));

  r.must_train(kLong + Words{"--resume", "auto"});
  r.must_train(kLong + Words{"--name", "straight"});
  CHECK(r.untimed_metrics() == r.untimed_metrics("straight"));
  CHECK(r.weights(400) == r.weights(400, "straight"));
  CHECK(r.moments(400) == r.moments(400, "straight"));
}

TEST_CASE("a second signal ends the run at once", "[train][loop]") {
  const SmallRun r;
  // An evaluation that outlasts the test: the first signal cannot end it.
  Program run(Words{"train", r.config(),
                    "data={source: synthetic, synthetic: {corpus: uniform}, seq_len: 16}",
                    "model.vocab_size=64", "train.steps=400", "train.eval_every=5",
                    "train.eval_batches=100000000"});
  REQUIRE(run.wait_until([&] { return r.n_lines() >= 4; }));
  run.send(SIGINT);
  ::usleep(20000);
  CHECK_FALSE(run.has_ended());
  run.send(SIGTERM);
  const Outcome outcome = run.wait();
  CHECK(outcome.code == 128 + SIGTERM);
  CHECK_FALSE(fs::exists(checkpoints_folder(r.run())));
}

TEST_CASE("a run that is killed goes on from its last checkpoint bitwise", "[train][loop]") {
  const SmallRun r;
  {
    Started run(r, 60);
    run->send(SIGKILL);
    CHECK(run->wait().signal == SIGKILL);
  }
  // The last line may be cut where the process died.
  put_contents(r.run() / "metrics.jsonl", contents_of(r.run() / "metrics.jsonl") + "{\"step\":6");
  r.must_train(kLong + Words{"--resume", "auto"});
  r.must_train(kLong + Words{"--name", "straight"});
  CHECK(r.untimed_metrics() == r.untimed_metrics("straight"));
  CHECK(r.weights(400) == r.weights(400, "straight"));
  CHECK(r.moments(400) == r.moments(400, "straight"));
  for (const auto& entry : fs::directory_iterator(checkpoints_folder(r.run()))) {
    CHECK(is_checkpoint_name(entry.path().filename().string()));
  }
}

TEST_CASE("a run that is in use is not entered a second time", "[train][loop]") {
  const SmallRun r;
  Started run(r, 1);
  run->send(SIGSTOP);
  const Outcome second = r.train(kLong + Words{"--resume", "auto"});
  CHECK(second.code == 2);
  CHECK_THAT(second.err, ContainsSubstring(concat("is in use by process ", run->pid())));
  CHECK(is_one_line(second.err));
}

TEST_CASE("a full disk ends the run with code 5 and the checkpoints stay good", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=4", "train.eval_every=4"});
  const std::string weights = r.weights(4);
  // Without checkpoints metrics.jsonl reaches the limit (about 5 kB a step); with them the
  // optimiser's file, of 120 kB, is first.
  const std::string checkpoint_every = GENERATE("0", "3");
  CAPTURE(checkpoint_every);
  const Outcome full =
      run_program({"train", r.config(), "--resume", "auto", "train.steps=400", "train.eval_every=4",
                   "train.checkpoint_every=" + checkpoint_every},
                  100000);
  CHECK(full.code == 5);
  CHECK_THAT(last_line(full.err),
             ContainsSubstring("cannot write: File too large") &&
                 ContainsSubstring(checkpoint_every == "0" ? "metrics.jsonl" : "step-00000006"));
  CHECK(r.weights(4) == weights);
  for (const auto& entry : fs::directory_iterator(checkpoints_folder(r.run()))) {
    CHECK(is_checkpoint_name(entry.path().filename().string()));
  }
  // With room again it continues as if nothing had been.
  r.must_train({"--resume", "auto", "train.eval_every=4"});
  r.must_train({"--name", "straight", "train.eval_every=4"});
  CHECK(r.untimed_metrics() == r.untimed_metrics("straight"));
  CHECK(r.weights(12) == r.weights(12, "straight"));
}

}  // namespace ballast
