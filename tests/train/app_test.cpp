#include "train/app.h"

#include <iostream>
#include <sstream>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"

namespace ballast {
namespace {

struct Outcome {
  int code;
  std::string out, err;
};

/// Runs the application with its streams redirected.
Outcome run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "ballast");
  std::ostringstream out, err;
  std::streambuf* const out_before = std::cout.rdbuf(out.rdbuf());
  std::streambuf* const err_before = std::cerr.rdbuf(err.rdbuf());
  const int code = run_app(static_cast<int>(arguments.size()), arguments.data());
  std::cout.rdbuf(out_before);
  std::cerr.rdbuf(err_before);
  return {code, out.str(), err.str()};
}

const char* const kTiny = BALLAST_SOURCE_DIR "/configs/base/tiny.yaml";

}  // namespace

TEST_CASE("each class of error has its exit code", "[train][app]") {
  CHECK(exit_code(ConfigError("")) == 2);
  CHECK(exit_code(std::invalid_argument("")) == 2);
  CHECK(exit_code(DataError("")) == 3);
  CHECK(exit_code(CheckpointError("")) == 4);
  CHECK(exit_code(IoError("")) == 5);
  CHECK(exit_code(StabilityError("")) == 16);
  CHECK(exit_code(Interrupted("")) == 75);
  CHECK(exit_code(std::runtime_error("")) == 1);
  CHECK(exit_code(InternalError("")) == 1);
}

TEST_CASE("a command's help lists the kinds of every table", "[train][app]") {
  const Outcome help = run({"train", "--help"});
  CHECK(help.code == 0);
  const auto has = [&](auto rows) {
    for (const auto& row : rows) CHECK_THAT(help.out, ContainsSubstring(std::string(row.name)));
  };
  has(variant_rows<NormKind>());
  has(variant_rows<ActivationKind>());
  has(variant_rows<PositionKind>());
  has(variant_rows<OptimizerKind>());
  for (const char* key : {"model.preset", "model.attention.qk_norm", "model.position.layers"}) {
    CHECK_THAT(help.out, ContainsSubstring(key));
  }
}

TEST_CASE("help leads with examples and the version names compiler and oneDNN", "[train][app]") {
  const Outcome help = run({"--help"});
  CHECK(help.code == 0);
  CHECK(help.out.find("Examples:") == 0);
  CHECK_THAT(help.out, ContainsSubstring("Exit codes: 0 done, 2 usage"));
  CHECK_THAT(help.out, ContainsSubstring("config"));
  const Outcome version = run({"--version"});
  CHECK(version.code == 0);
  CHECK_THAT(version.out, ContainsSubstring("ballast ") && ContainsSubstring("oneDNN "));
}

TEST_CASE("a wrong command line is one line on stderr and exit code 2", "[train][app]") {
  struct Case {
    std::vector<const char*> arguments;
    const char* expected;
  };
  const std::vector<Case> cases = {
      {{}, "ballast: "},
      {{"confgi", "check", kTiny}, "ballast: unknown command 'confgi'; did you mean 'config'?"},
      {{kTiny}, "unknown command '"},
      {{"config"}, "ballast: "},
      {{"config", "chekc", kTiny},
       "ballast config: unknown command 'chekc'; did you mean 'check'?"},
      {{"config", "check"}, "CONFIG is required"},
      {{"config", "check", "optim.lr=3"}, "optim.lr=3 stands where the configuration file belongs"},
      {{"config", "check", "none.yaml"}, "none.yaml: no such file"},
      {{"config", "check", "--wibble", kTiny}, "--wibble"},
      {{"config", "check", kTiny, "x"}, "command line: x: not an override"},
      {{"config", "check", kTiny, "optim.lr=-1"}, "command line: optim.lr = -1: out of range"},
      {{"config", "schema", "x"}, "ballast: "},
  };
  for (const Case& c : cases) {
    CAPTURE(c.expected);
    const Outcome outcome = run(c.arguments);
    CHECK(outcome.code == 2);
    CHECK(outcome.out.empty());
    CHECK_THAT(outcome.err, ContainsSubstring(c.expected));
    CHECK(outcome.err.find('\n') == outcome.err.size() - 1);
  }
}

TEST_CASE("config prints data on stdout and remarks on stderr", "[train][app]") {
  const Outcome check = run({"config", "check", kTiny, "optim.clip={kind: none, max_norm: 2}"});
  CHECK(check.code == 0);
  CHECK(check.out.substr(0, 9) == "ok: tiny:");
  CHECK_THAT(check.err, ContainsSubstring("note: command line: optim.clip.max_norm has no effect"));
  const Outcome show = run({"config", "show", kTiny, "optim.betas=[0.1,0.2]", "optim.lr=1e-3"});
  CHECK(show.code == 0);
  CHECK(show.err.empty());
  CHECK_THAT(show.out,
             ContainsSubstring("  betas: [0.1, 0.2]\n") && ContainsSubstring("  lr: 0.001\n"));
  CHECK(run({"config", "schema"}).out == json_schema());
  CHECK(run({"config", "docs"}).out == config_reference_markdown());
}

}  // namespace ballast
