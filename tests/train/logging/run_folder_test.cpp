#include "train/logging/run_folder.h"

#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "train/files/json.h"
#include "train/logging/environment.h"

namespace ballast {

namespace {

constexpr auto kNew = ExistingRun::refuse;
constexpr auto kResumed = ExistingRun::continue_;

}  // namespace

TEST_CASE("a new run makes its folder, an existing one is refused unless resumed",
          "[train][logging]") {
  const TemporaryFolder folder;
  FileSystem files;
  {
    RunFolder run(files, folder / "runs/deep", "a", kNew);
    CHECK(run.path() == folder / "runs/deep/a");
    run.write_config("model: {}\n");
    run.write_config("model: {d_model: 8}\n");
    CHECK(contents_of(folder / "runs/deep/a/config.yaml") == "model: {d_model: 8}\n");
  }
  CHECK_THROWS_AS(RunFolder(files, folder / "runs/deep", "a", kNew), ConfigError);
  CHECK_THROWS_WITH(
      RunFolder(files, folder / "runs/deep", "a", kNew),
      (folder / "runs/deep/a").string() +
          ": the run folder exists already; expected a new run.name, or --resume auto to "
          "continue the run");
  CHECK_NOTHROW(RunFolder(files, folder / "runs/deep", "a", kResumed));
  CHECK_NOTHROW(RunFolder(files, folder / "runs", "fresh", kResumed));
}

TEST_CASE("a run name that is a path is refused", "[train][logging]") {
  const TemporaryFolder folder;
  FileSystem files;
  for (const char* name : {"", ".", "..", "a/b", "/a"}) {
    CHECK_THROWS_AS(RunFolder(files, folder.path(), name, kNew), ConfigError);
  }
}

TEST_CASE("a folder that cannot be made is one line of I/O error", "[train][logging]") {
  const TemporaryFolder folder;
  FileSystem files;
  put_contents(folder / "file", "");
  CHECK_THROWS_WITH(RunFolder(files, folder / "file", "a", kNew),
                    (folder / "file").string() + ": cannot create the folder: Not a directory");
  CHECK_THROWS_AS(RunFolder(files, folder.path(), "file", kResumed), IoError);
  CHECK_THROWS_AS(RunFolder(files, "/proc", "ballast", kNew), IoError);
  CHECK_THROWS_AS(RunFolder(files, folder.path(), std::string(300, 'x'), kNew), IoError);
}

TEST_CASE("a second process on the same run is refused until the first ends", "[train][logging]") {
  const TemporaryFolder folder;
  FileSystem files;
  int ready[2];
  int leave[2];
  REQUIRE(::pipe(ready) == 0);
  REQUIRE(::pipe(leave) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      const RunFolder run(files, folder.path(), "a", kNew);
      char byte = 'r';
      if (::write(ready[1], &byte, 1) == 1 && ::read(leave[0], &byte, 1) == 1) ::_exit(0);
    } catch (...) {
    }
    ::_exit(1);
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK_THROWS_AS(RunFolder(files, folder.path(), "a", kResumed), ConfigError);
  CHECK_THROWS_WITH(RunFolder(files, folder.path(), "a", kResumed),
                    ContainsSubstring(concat("/a: the run is in use by process ", child, " on ")));
  REQUIRE(::write(leave[1], &byte, 1) == 1);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK_NOTHROW(RunFolder(files, folder.path(), "a", kResumed));
  for (const int fd : {ready[0], ready[1], leave[0], leave[1]}) ::close(fd);
}

TEST_CASE("env.json names the program, compiler, machine and libraries", "[train][logging]") {
  const Json json = parse_json(environment_text({"0.1.0", "2.6.3", 3}));
  CHECK(json.at("version") == "0.1.0");
  CHECK(json.at("onednn") == "2.6.3");
  CHECK(json.at("threads") == 3);
  CHECK(json.at("isa") == instruction_set());
  CHECK_THAT(json.at("compiler").get<std::string>(), ContainsSubstring("+"));
  CHECK_FALSE(json.at("cpu").get<std::string>().empty());
  CHECK(json.at("cores") >= 1);
}

}  // namespace ballast
