#include "train/logging/jsonl.h"

#include <cerrno>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "train/files/json.h"

namespace ballast {

namespace fs = std::filesystem;

namespace {

std::string line_of(const Record& record) {
  std::string line;
  append_json_line(line, record);
  return line;
}

std::string metric_line(int64_t step) {
  Record record;
  record.begin(step);
  record.add("train/loss", 1.0 / static_cast<double>(step + 3));
  return line_of(record);
}

std::string metric_lines(int64_t begin, int64_t end) {
  std::string text;
  for (int64_t s = begin; s < end; ++s) text += metric_line(s);
  return text;
}

}  // namespace

TEST_CASE("a line is flat strict JSON in the order of its keys", "[train][logging]") {
  Record record;
  record.begin(3);
  record.add("train/loss", 2.5);
  record.add("tokens", int64_t{-12});
  record.add("skipped", true);
  record.add("note", "a \"b\"\\\n\x1b");
  record.add("val/loss", std::nan(""));
  record.add("optim/grad_norm", -std::numeric_limits<double>::infinity());
  CHECK(line_of(record) ==
        "{\"step\":3,\"train/loss\":2.5,\"tokens\":-12,\"skipped\":true,"
        "\"note\":\"a \\\"b\\\"\\\\\\u000a\\u001b\",\"val/loss\":null,\"optim/grad_norm\":null}\n");
  const Json parsed = parse_json(line_of(record));
  CHECK(parsed.at("note") == "a \"b\"\\\n\x1b");
  CHECK(record.step() == 3);
  CHECK(record.number("tokens") == -12.0);
  CHECK_FALSE(record.number("note").has_value());
  record.begin(4);
  CHECK(line_of(record) == "{\"step\":4}\n");
}

TEST_CASE("every double reads back to the same bits", "[train][logging]") {
  for (const double x : {0.1, 1.0 / 3.0, 5e-324, 1.7976931348623157e308, -0.0, 0.1 + 0.2, 1e22,
                         123456789.0, static_cast<double>(0.1f)}) {
    Record record;
    record.begin(0);
    record.add("x", x);
    const double back = parse_json(line_of(record)).at("x").get<double>();
    CHECK(std::memcmp(&back, &x, sizeof x) == 0);
  }
}

TEST_CASE("each record is one write of one whole line", "[train][logging]") {
  const TemporaryFolder folder;
  int writes = 0;
  FileSystem files([&writes](FileOp op, const fs::path&) {
    writes += op == FileOp::write ? 1 : 0;
    return FileSystem::Fault{};
  });
  JsonlFile log(files, folder / "metrics.jsonl");
  Record record;
  for (int64_t s = 0; s < 5; ++s) {
    record.begin(s);
    record.add("train/loss", 1.0 / static_cast<double>(s + 3));
    log.write(record);
  }
  log.sync();
  CHECK(writes == 5);
  CHECK(contents_of(folder / "metrics.jsonl") == metric_lines(0, 5));
}

TEST_CASE("a full disk never leaves half a line", "[train][logging]") {
  const TemporaryFolder folder;
  int writes = 0;
  FileSystem files([&writes](FileOp op, const fs::path&) -> FileSystem::Fault {
    if (op != FileOp::write || ++writes < 3) return {};
    return writes == 3 ? FileSystem::Fault{0, 7} : FileSystem::Fault{ENOSPC, SIZE_MAX};
  });
  JsonlFile log(files, folder / "metrics.jsonl");
  Record record;
  const auto write_step = [&](int64_t s) {
    record.begin(s);
    record.add("train/loss", 1.0 / static_cast<double>(s + 3));
    log.write(record);
  };
  write_step(0);
  write_step(1);
  CHECK_THROWS_WITH(write_step(2), ContainsSubstring("metrics.jsonl: cannot write: No space left"));
  CHECK(contents_of(folder / "metrics.jsonl") == metric_lines(0, 2));
  JsonlFile full(files, "/dev/full");
  CHECK_THROWS_AS(full.write(record), IoError);
}

TEST_CASE("trimmed metrics end before the resumed step", "[train][logging]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "metrics.jsonl";
  FileSystem files;
  CHECK(trim_metrics(files, path, 5).kept == 0);  // no file yet

  const std::string tail = GENERATE(as<std::string>{}, "", "{\"step\":8,\"train/lo", "{\"step\":8}",
                                    std::string(50, '\0'), "\n", "{\"step\":8,\"x\":1\n");
  CAPTURE(tail);
  put_contents(path, metric_lines(0, 8) + tail);
  TrimmedLog trimmed = trim_metrics(files, path, 8);
  CHECK(contents_of(path) == metric_lines(0, 8));
  CHECK(trimmed.kept == 8);
  CHECK(trimmed.last_step == 7);
  CHECK(trimmed.dropped_bytes == static_cast<int64_t>(tail.size()));

  trimmed = trim_metrics(files, path, 5);
  CHECK(contents_of(path) == metric_lines(0, 5));
  CHECK(trimmed.last_step == 4);
  // The resumed run appends and ends with what an uninterrupted one would have written.
  JsonlFile log(files, path);
  Record record;
  for (int64_t s = 5; s < 8; ++s) {
    record.begin(s);
    record.add("train/loss", 1.0 / static_cast<double>(s + 3));
    log.write(record);
  }
  CHECK(contents_of(path) == metric_lines(0, 8));
  trim_metrics(files, path, 0);
  CHECK(contents_of(path).empty());
}

TEST_CASE("lines longer than a read are trimmed as well", "[train][logging]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "metrics.jsonl";
  std::string text;
  for (int s = 0; s < 4; ++s)
    text += concat("{\"step\":", s, ",\"x\":\"", std::string(700000, 'y'), "\"}\n");
  put_contents(path, text);
  FileSystem files;
  CHECK(trim_metrics(files, path, 3).kept == 3);
  CHECK(contents_of(path) == text.substr(0, text.size() / 4 * 3));
}

TEST_CASE("events that a resumed run meets again are dropped", "[train][logging]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "events.jsonl";
  const std::string kept =
      "{\"step\":3,\"kind\":\"spike\"}\n{\"step\":5,\"kind\":\"checkpoint\"}\n"
      "{\"step\":5,\"kind\":\"checkpoint_rejected\"}\n{\"step\":5,\"kind\":\"resume\"}\n";
  put_contents(
      path,
      kept + "{\"step\":5,\"kind\":\"spike\"}\n{\"step\":9,\"kind\":\"checkpoint\"}\n{\"step\":");
  FileSystem files;
  trim_events(files, path, 5);
  CHECK(contents_of(path) == kept);
  CHECK_NOTHROW(trim_events(files, folder / "none", 5));
}

}  // namespace ballast
