#include "train/files/file_system.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "train/files/json.h"

namespace ballast {

namespace fs = std::filesystem;

TEST_CASE("a hash equals what xxh128sum prints", "[train][files]") {
  CHECK(hash_of("").hex() == "99aa06d3014798d86001c324468d497f");
  Hasher hasher;
  const std::string text(100000, 'x');
  for (size_t i = 0; i < text.size(); i += 1000) {
    hasher.update(std::as_bytes(std::span(text).subspan(i, 1000)));
  }
  CHECK(hasher.value() == hash_of(text));
}

TEST_CASE("a write that is interrupted or short is continued", "[train][files]") {
  const TemporaryFolder folder;
  int calls = 0;
  FileSystem files([&calls](FileOp op, const fs::path&) -> FileSystem::Fault {
    if (op != FileOp::write) return {};
    return ++calls % 2 == 0 ? FileSystem::Fault{EINTR, SIZE_MAX} : FileSystem::Fault{0, 3};
  });
  const std::string text = "twelve bytes";
  {
    OutputFile out(files, folder / "a", OutputFile::Mode::create);
    out.write(text);
    CHECK(out.size() == 12);
    CHECK(out.hash() == hash_of(text));
  }
  CHECK(contents_of(folder / "a") == text);
  CHECK(calls == 7);  // four pieces of three bytes, three interruptions between them
}

TEST_CASE("a failed durable write leaves the old file and no other", "[train][files]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "config.yaml";
  FileSystem().write_durably(path, "old");
  int n_operations = 0;
  FileSystem counting([&n_operations](FileOp, const fs::path&) {
    ++n_operations;
    return FileSystem::Fault{};
  });
  counting.write_durably(path, "old");
  REQUIRE(n_operations == 5);  // create, write, sync, rename, sync of the folder
  for (int failing = 0; failing < n_operations; ++failing) {
    CAPTURE(failing);
    FileSystem().write_durably(path, "old");
    int index = 0;
    FileSystem files([&](FileOp, const fs::path&) {
      return FileSystem::Fault{index++ == failing ? ENOSPC : 0, SIZE_MAX};
    });
    CHECK_THROWS_WITH(files.write_durably(path, "new"),
                      ContainsSubstring("No space left on device"));
    // After the rename the new file is there, only not yet proof against a power loss.
    CHECK(contents_of(path) == (failing == n_operations - 1 ? "new" : "old"));
    CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
  }
}

TEST_CASE("append_whole removes what a full disk cut off", "[train][files]") {
  const TemporaryFolder folder;
  int writes = 0;
  FileSystem files([&writes](FileOp op, const fs::path&) -> FileSystem::Fault {
    if (op != FileOp::write) return {};
    ++writes;
    if (writes == 2) return {0, 4};               // the kernel takes what still fits …
    return {writes == 3 ? ENOSPC : 0, SIZE_MAX};  // … and refuses the rest
  });
  OutputFile out(files, folder / "log", OutputFile::Mode::append);
  out.append_whole("first\n");
  CHECK_THROWS_AS(out.append_whole("second\n"), IoError);
  CHECK(contents_of(folder / "log") == "first\n");
  out.append_whole("third\n");
  CHECK(contents_of(folder / "log") == "first\nthird\n");
}

TEST_CASE("a real full device is an I/O error", "[train][files]") {
  FileSystem files;
  OutputFile out(files, "/dev/full", OutputFile::Mode::append);
  CHECK_THROWS_WITH(out.write("x"), "/dev/full: cannot write: No space left on device");
}

TEST_CASE("a file size limit is an I/O error once SIGXFSZ is ignored", "[train][files]") {
  const TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100, 100};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 1;
    try {
      FileSystem files;
      OutputFile out(files, folder / "big", OutputFile::Mode::append);
      out.append_whole(std::string(90, 'a'));
      try {
        out.append_whole(std::string(90, 'b'));
      } catch (const IoError&) {
        code = 0;
      }
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(contents_of(folder / "big") == std::string(90, 'a'));
}

TEST_CASE("folders are made with their parents and renamed without overwriting", "[train][files]") {
  const TemporaryFolder folder;
  FileSystem files;
  files.make_folders(folder / "a/b/c");
  CHECK(is_folder(folder / "a/b/c"));
  CHECK_FALSE(files.make_folder(folder / "a"));
  files.make_folder(folder / "d");
  put_contents(folder / "d/inside", "d");
  CHECK_FALSE(files.rename_new(folder / "a", folder / "d"));
  CHECK(contents_of(folder / "d/inside") == "d");
  files.rename_over(folder / "a", folder / "d");
  CHECK(is_folder(folder / "d/b/c"));
  CHECK(contents_of(folder / "a/inside") == "d");
  files.remove(folder / "d");
  CHECK_FALSE(path_exists(folder / "d"));
  CHECK_NOTHROW(files.remove(folder / "d"));
  put_contents(folder / "file", "");
  CHECK_THROWS_WITH(files.make_folders(folder / "file/x"), ContainsSubstring("Not a directory"));
  CHECK_THROWS_AS(files.make_folder("/proc/ballast"), IoError);
}

TEST_CASE("only regular files are read, and never past their end", "[train][files]") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(InputFile(folder / "none"), ContainsSubstring("No such file or directory"));
  CHECK_THROWS_WITH(InputFile(folder.path()), ContainsSubstring("not a regular file"));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(InputFile(folder / "pipe"), ContainsSubstring("not a regular file"));
  put_contents(folder / "shrinks", "0123456789");
  const InputFile file(folder / "shrinks");
  fs::resize_file(folder / "shrinks", 4);
  std::string out(10, ' ');
  CHECK_THROWS_WITH(file.read(0, std::as_writable_bytes(std::span(out))),
                    ContainsSubstring("the file ends at byte 4"));
}

TEST_CASE("JSON with duplicate keys, NUL bytes or deep nesting is refused", "[train][files]") {
  CHECK(parse_json(R"({"a": {"x": 1}, "b": [{"x": 2}]})").at("b").at(0).at("x") == 2);
  CHECK_THROWS_WITH(parse_json(R"({"a": 1, "b": {"a": 1}, "a": 2})"),
                    ContainsSubstring("duplicate key"));
  CHECK_THROWS_WITH(parse_json(std::string("{}\0{}", 5)), ContainsSubstring("NUL"));
  CHECK_THROWS_WITH(parse_json(std::string(100000, '[')), ContainsSubstring("too deeply"));
  CHECK_THROWS_WITH(parse_json("{} {}"), ContainsSubstring("not JSON"));
  CHECK_THROWS_WITH(parse_json("{\"a\": NaN}"), ContainsSubstring("not JSON"));
  CHECK_THROWS_AS(to_text(Json({{"a", {1.0, std::numeric_limits<double>::infinity()}}})),
                  InternalError);
}

}  // namespace ballast
