#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "autograd/ops.h"
#include "layers/model.h"
#include "tests/support/catch.h"
#include "train/config/fields.h"
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

TEST_CASE("every operation of a shipped configuration is one whose gradient is checked",
          "[configs]") {
  namespace fs = std::filesystem;
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(BALLAST_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    if (entry.path().parent_path().filename() == "studies") continue;  // no run configurations
    const std::vector<std::string> one_layer = {"model.n_layers=1"};
    const RunConfig config = load_config(entry.path(), one_layer);
    ParameterStore store;
    Model model(config.model, store);
    store.allocate(Dtype::f32, false);
    const int32_t tokens[] = {1, 2}, targets[] = {2, 3};
    Tape tape;
    ForwardContext context;
    context.training = true;
    model.loss(tape, {tokens, 1, 2}, targets, {.denominator = 2}, context);
    CHECK(tape.n_nodes() > 5);
    tape.for_each_node([&](const char* scope, std::string_view op) {
      CAPTURE(entry.path(), scope, op);
      CHECK(std::find(kOpNames.begin(), kOpNames.end(), op) != kOpNames.end());
    });
  }
}

TEST_CASE("every file of autograd/ops records an operation of the list", "[configs]") {
  namespace fs = std::filesystem;
  std::set<std::string> named;
  for (const auto& entry :
       fs::directory_iterator(fs::path(BALLAST_SOURCE_DIR) / "autograd" / "ops")) {
    std::ifstream file(entry.path());
    const std::string text((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    // What a node's name() returns: the literals between "name() const override {" and "}", and of
    // the norms' shared node those in "kName = …;" and "kAddName = …;".
    const auto next = [&](size_t at) {
      return std::min({text.find("name() const override {", at), text.find(" kName = ", at),
                       text.find(" kAddName = ", at)});
    };
    for (size_t at = 0; (at = next(at)) != std::string::npos;) {
      const size_t end = text.find_first_of("};", at);
      for (size_t quote = text.find('"', at); quote < end;) {
        const size_t close = text.find('"', quote + 1);
        named.insert(text.substr(quote + 1, close - quote - 1));
        quote = text.find('"', close + 1);
      }
      at = end;
    }
  }
  CHECK(named == std::set<std::string>(kOpNames.begin(), kOpNames.end()));
}

TEST_CASE("the list of timed variants has every kind of every table", "[configs]") {
  namespace fs = std::filesystem;
  const fs::path source(BALLAST_SOURCE_DIR);
  std::map<std::string, std::set<std::string>> seen;
  std::set<std::pair<std::string, std::string>> ffns;
  std::ifstream list(source / "scripts/bench/variants.txt");
  for (std::string line; std::getline(list, line);) {
    std::istringstream words(line);
    std::string name;
    if (!(words >> name) || name == "#") continue;
    std::vector<std::string> overrides;
    for (std::string word; words >> word;) overrides.push_back(word);
    for (const char* model : {"s", "m"}) {
      INFO(name << " on " << model);
      RunConfig config = load_config(source / "configs/bench" / concat(model, ".yaml"), overrides);
      const std::vector<Field> fields = run_config_fields(config);
      for (const Field* field : leaf_fields(fields)) {
        seen[field->path].insert(flow_text(field->write()));
      }
      ffns.insert({std::string(name_of(config.model.ffn.activation)),
                   config.model.ffn.gated ? "gated" : "plain"});
    }
  }
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  for (const Field* field : leaf_fields(fields)) {
    const bool is_timed = field->path.starts_with("model.") || field->path == "optim.kind";
    const bool costs_nothing =
        field->path == "model.preset" || field->path.starts_with("model.init.");
    if (!is_timed || costs_nothing) continue;
    CAPTURE(field->path, seen[field->path]);
    if (field->type.kind == ValueType::Kind::boolean) CHECK(seen[field->path].size() == 2);
    if (field->type.kind != ValueType::Kind::choice) continue;
    CHECK(seen[field->path].size() >= field->type.choices.size());  // null stands for one of them
  }
  CHECK(ffns.size() == 2 * variant_rows<ActivationKind>().size());
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
