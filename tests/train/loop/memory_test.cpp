#include <fstream>

#include "tests/train/small_run.h"

namespace ballast {
namespace {

/// VmRSS of a process, kB; 0 once it has ended.
int64_t resident_kb(pid_t pid) {
  std::ifstream in(concat("/proc/", pid, "/status"));
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::stoll(line.substr(6));
  }
  return 0;
}

}  // namespace

TEST_CASE("resident memory stays flat over 1000 steps", "[train][loop][slow]") {
  const SmallRun r;
  Program run({"train", r.config(), "train.steps=1500", "train.grad_accum=2", "run.threads=2",
               "train.eval_every=50", "train.checkpoint_every=100", "model.dropout.residual=0.1"});
  REQUIRE(run.wait_until([&] { return r.n_lines() >= 200; }));
  const int64_t early = resident_kb(run.pid());
  REQUIRE(run.wait_until([&] { return r.n_lines() >= 1200; }));
  const int64_t late = resident_kb(run.pid());
  REQUIRE(early > 0);
  REQUIRE(late > 0);
  INFO("after 200 steps " << early << " kB, after 1200 steps " << late << " kB");
  CHECK(late - early < 1024);
}

}  // namespace ballast
