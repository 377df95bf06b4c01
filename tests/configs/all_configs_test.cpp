#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "train/config/run_config.h"

namespace ballast {

TEST_CASE("every configuration that ships loads, without idle keys, and round-trips", "[configs]") {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(BALLAST_SOURCE_DIR) / "configs";
  int64_t n_files = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.path().extension() != ".yaml") continue;
    if (entry.path().parent_path().filename() == "studies") continue;  // no run configurations
    ++n_files;
    CAPTURE(entry.path());
    std::vector<std::string> notes;
    const RunConfig config = load_config(entry.path(), {}, &notes);
    CHECK(notes.empty());
    CHECK(config.run.name == entry.path().stem());
    CHECK_FALSE(dump_config(config).empty());
  }
  CHECK(n_files >= 7);
}

TEST_CASE("the benchmark models have the sizes their names stand for", "[configs]") {
  const auto load = [](const char* name) {
    return load_config(std::filesystem::path(BALLAST_SOURCE_DIR) / "configs" / name);
  };
  const RunConfig s = load("bench/s.yaml");
  CHECK(s.model.d_ff() == 688);
  CHECK(s.model.head_size() == 64);
  CHECK(s.train.batch_size * s.data.seq_len == 4096);
  const RunConfig m = load("bench/m.yaml");
  CHECK(m.model.d_ff() == 1376);
  CHECK_FALSE(m.model.embedding.tie);
  CHECK(m.train.batch_size * m.data.seq_len == 4096);
  const RunConfig gpt2 = load("bench/gpt2.yaml");
  CHECK(gpt2.model.embedding.tie);
  CHECK(gpt2.model.max_seq_len == 1024);
  CHECK_FALSE(gpt2.model.bias.head);
}

}  // namespace ballast
