// A run that takes milliseconds, and what its folder holds afterwards.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/program.h"
#include "train/checkpoint/checkpoint.h"
#include "train/files/json.h"

namespace ballast {

using Words = std::vector<std::string>;

inline Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// A folder with a text of about 4 kB, a configuration of a model with 2 layers, and its runs.
class SmallRun {
 public:
  SmallRun() {
    std::string text;
    for (int i = 0; text.size() < 4000; ++i) {
      text += concat("line ", i * i % 97, " of the text, after ", i % 13, " others\n");
    }
    put_contents(folder_ / "text.txt", text);
    put_contents(
        config(),
        concat("run: {dir: ", (folder_ / "runs").string(), ", name: a, seed: 7, threads: 1}\n",
               "data: {train: [text.txt], seq_len: 16}\n"
               "model: {d_model: 16, n_layers: 2, n_heads: 2}\n"
               "optim: {lr: 3.0e-3, schedule: {kind: cosine, warmup_steps: 5, decay_steps: 100}}\n"
               "train: {steps: 12, batch_size: 4, eval_batches: 2}\n"));
  }

  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }
  std::string config() const { return (folder_ / "small.yaml").string(); }
  std::filesystem::path run(const std::string& name = "a") const { return folder_ / "runs" / name; }
  std::filesystem::path checkpoint(int64_t step, const std::string& name = "a") const {
    return checkpoints_folder(run(name)) / checkpoint_name(step);
  }

  Outcome train(const Words& arguments = {}) const {
    return run_program(Words{"train", config()} + arguments);
  }
  /// A run that has to end well.
  void must_train(const Words& arguments = {}) const {
    const Outcome outcome = train(arguments);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
  }

  std::vector<Json> lines(const std::string& file, const std::string& name = "a") const {
    std::vector<Json> all;
    std::ifstream in(run(name) / file);
    for (std::string line; std::getline(in, line);) all.push_back(parse_json(line));
    return all;
  }
  std::vector<Json> metrics(const std::string& name = "a") const {
    return lines("metrics.jsonl", name);
  }
  std::vector<Json> events(const std::string& kind, const std::string& name = "a") const {
    std::vector<Json> found;
    for (Json& event : lines("events.jsonl", name)) {
      if (event.at("kind") == kind) found.push_back(std::move(event));
    }
    return found;
  }
  /// metrics.jsonl without what a clock measured.
  std::string untimed_metrics(const std::string& name = "a") const {
    std::string text;
    for (Json line : metrics(name)) {
      for (const char* key : {"time_s", "perf/tokens_per_s", "perf/step_ms"}) line.erase(key);
      text += to_text(line) + "\n";
    }
    return text;
  }
  std::string weights(int64_t step, const std::string& name = "a") const {
    return contents_of(checkpoint(step, name) / "model.safetensors");
  }
  std::string moments(int64_t step, const std::string& name = "a") const {
    return contents_of(checkpoint(step, name) / "optimizer.safetensors");
  }
  /// The steps of all checkpoints, in order.
  std::vector<int64_t> steps(const std::string& name = "a") const {
    std::vector<int64_t> found;
    for (const auto& entry : std::filesystem::directory_iterator(checkpoints_folder(run(name)))) {
      const std::string text = entry.path().filename().string();
      if (is_checkpoint_name(text)) found.push_back(std::stoll(text.substr(5)));
    }
    std::sort(found.begin(), found.end());
    return found;
  }
  int64_t n_lines(const std::string& name = "a") const {
    const std::string text = contents_of(run(name) / "metrics.jsonl");
    return std::count(text.begin(), text.end(), '\n');
  }

 private:
  TemporaryFolder folder_;
};

/// Every file below a folder and its bytes: what must not change.
inline std::map<std::string, std::string> snapshot(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != ".lock") {
      files[entry.path().lexically_relative(folder).string()] = contents_of(entry.path());
    }
  }
  return files;
}

inline bool is_one_line(const std::string& text) {
  return !text.empty() && text.find('\n') == text.size() - 1;
}

inline std::string last_line(const std::string& text) {
  if (text.empty()) return text;
  const size_t end = text.size() - (text.back() == '\n' ? 1 : 0);
  const size_t begin = text.rfind('\n', end == 0 ? 0 : end - 1);
  const size_t first = begin == std::string::npos ? 0 : begin + 1;
  return text.substr(first, end - first);
}

/// One bit of the file is turned over, in its middle.
inline void flip_bit(const std::filesystem::path& path) {
  std::string bytes = contents_of(path);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 16);
  put_contents(path, bytes);
}

inline void cut_in_half(const std::filesystem::path& path) {
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
}

}  // namespace ballast
