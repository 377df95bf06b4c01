#include "train/checkpoint/checkpoint.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "train/checkpoint/selection.h"

namespace ballast {

namespace fs = std::filesystem;

namespace {

/// A store of two parameters with one moment, filled with numbers that tell the step.
struct TinyRun {
  ParameterStore store;
  Slab moment;

  TinyRun() {
    store.add("embedding.weight", {4, 3}, Role::embedding);
    store.add("blocks.0.attn.wq.weight", {3, 3}, Role::linear);
    store.allocate(Dtype::f32);
    moment = store.make_slab();
  }
  void fill(int64_t step) {
    for (Parameter& p : store.parameters()) {
      for (int64_t i = 0; i < p.shape.size(); ++i) {
        p.value.data<float>()[i] = static_cast<float>(step) + 0.01f * static_cast<float>(i);
        moment.view(p).data<float>()[i] = -static_cast<float>(step) - 0.1f * static_cast<float>(i);
      }
    }
  }
  std::vector<NamedTensor> model() const { return named_values(store); }
  std::vector<NamedTensor> optimizer() const { return named_views(store, moment, "m."); }
  CheckpointContents contents(int64_t step) {
    fill(step);
    CheckpointContents c;
    c.step = step;
    c.model = model();
    c.optimizer = optimizer();
    c.state = {{"tokens", step * 10}, {"time_s", 0.1 + 0.2}};
    c.identity = {"0.1.0", "abc", "def", "avx2", 4};
    return c;
  }
  float first_value() const { return store.parameters().front().value.data<float>()[0]; }
  float first_moment() const { return moment.view(store.parameters().front()).data<float>()[0]; }
};

/// The step of the newest valid checkpoint, after loading it, or -1.
int64_t load_newest(const fs::path& run_dir) {
  const auto selected = select_checkpoint(run_dir, parse_resume("auto"), CheckpointUse::training);
  if (!selected.checkpoint) return -1;
  TinyRun run;
  selected.checkpoint->load(run.model(), run.optimizer());
  const auto step = static_cast<float>(selected.checkpoint->step());
  CHECK(run.first_value() == step);
  CHECK(run.first_moment() == -step);
  CHECK(selected.checkpoint->state().at("tokens") == selected.checkpoint->step() * 10);
  return selected.checkpoint->step();
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

int64_t count_operations(const fs::path& run_dir, TinyRun& run, int64_t step) {
  int64_t n = 0;
  FileSystem files([&n](FileOp, const fs::path&) {
    ++n;
    return FileSystem::Fault{};
  });
  write_checkpoint(files, run_dir, run.contents(step));
  return n;
}

void flip_bit(const fs::path& path, size_t byte, unsigned bit) {
  std::string text = contents_of(path);
  text[byte] = static_cast<char>(static_cast<unsigned char>(text[byte]) ^ (1U << bit));
  put_contents(path, text);
}

}  // namespace

TEST_CASE("a checkpoint gives back what was written", "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  FileSystem files;
  CheckpointContents contents = run.contents(500);
  contents.val_loss = 1.875;
  const fs::path path = write_checkpoint(files, folder.path(), contents);
  CHECK(path == folder / "checkpoints/step-00000500");
  CHECK(names_in(path) == std::set<std::string>{"model.safetensors", "optimizer.safetensors",
                                                "state.json", "MANIFEST.json"});
  CHECK(names_in(path.parent_path()) == std::set<std::string>{"step-00000500"});

  const Checkpoint checkpoint = Checkpoint::open(path, CheckpointUse::training);
  CHECK(checkpoint.step() == 500);
  CHECK(checkpoint.state().at("time_s").get<double>() == 0.1 + 0.2);
  CHECK(checkpoint.manifest().val_loss == 1.875);
  CHECK(checkpoint.manifest().identity.threads == 4);
  CHECK(checkpoint.manifest().identity.config_hash == "abc");
  TinyRun back;
  checkpoint.load(back.model(), back.optimizer());
  CHECK(std::memcmp(back.store.values().memory, run.store.values().memory,
                    static_cast<size_t>(run.store.values().bytes())) == 0);
  CHECK(std::memcmp(back.moment.tensor().memory, run.moment.tensor().memory,
                    static_cast<size_t>(run.moment.tensor().bytes())) == 0);
  TinyRun weights;
  Checkpoint::open(path, CheckpointUse::weights).load_model(weights.model());
  CHECK(weights.first_value() == 500.0f);
}

TEST_CASE("a state with a non-finite number is refused before anything is written",
          "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  FileSystem files;
  CheckpointContents contents = run.contents(1);
  contents.state["best"] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(write_checkpoint(files, folder.path(), contents), InternalError);
  CHECK_FALSE(path_exists(folder / "checkpoints"));
}

TEST_CASE("an error at any operation leaves the previous checkpoint and no half files",
          "[train][checkpoint]") {
  TinyRun run;
  int64_t n_operations = 0;
  {
    const TemporaryFolder folder;
    FileSystem files;
    write_checkpoint(files, folder.path(), run.contents(1));
    n_operations = count_operations(folder.path(), run, 2);
  }
  REQUIRE(n_operations > 15);
  const int error = GENERATE(ENOSPC, EIO);
  for (int64_t failing = 0; failing < n_operations; ++failing) {
    CAPTURE(failing, error);
    const TemporaryFolder folder;
    FileSystem reliable;
    write_checkpoint(reliable, folder.path(), run.contents(1));
    int64_t index = 0;
    FileOp failed_op{};
    FileSystem files([&](FileOp op, const fs::path&) -> FileSystem::Fault {
      if (index++ != failing) return {};
      failed_op = op;
      return {error, SIZE_MAX};
    });
    CHECK_THROWS_AS(write_checkpoint(files, folder.path(), run.contents(2)), IoError);
    // The last operation, the sync of the parent, comes after the rename: both exist then.
    const bool renamed = failing == n_operations - 1;
    CHECK((failed_op == FileOp::sync_folder) == (renamed || failing == n_operations - 3));
    CHECK(load_newest(folder.path()) == (renamed ? 2 : 1));
    CHECK(names_in(folder / "checkpoints").size() == (renamed ? 2U : 1U));
    // And the next attempt succeeds.
    write_checkpoint(reliable, folder.path(), run.contents(2));
    CHECK(load_newest(folder.path()) == 2);
  }
}

TEST_CASE("a process that dies at any operation leaves the previous checkpoint",
          "[train][checkpoint]") {
  TinyRun run;
  int64_t n_operations = 0;
  const bool replaces = GENERATE(false, true);
  const int64_t step = replaces ? 1 : 2;
  {
    const TemporaryFolder folder;
    FileSystem files;
    write_checkpoint(files, folder.path(), run.contents(1));
    n_operations = count_operations(folder.path(), run, step);
  }
  for (int64_t dying = 0; dying < n_operations; ++dying) {
    CAPTURE(dying, replaces);
    const TemporaryFolder folder;
    FileSystem reliable;
    write_checkpoint(reliable, folder.path(), run.contents(1));
    const pid_t child = ::fork();
    if (child == 0) {
      int64_t index = 0;
      // A write is also cut in half, so that files end in the middle.
      FileSystem files([&](FileOp op, const fs::path&) -> FileSystem::Fault {
        if (index++ == dying) ::_exit(42);
        return {0, op == FileOp::write && index == dying ? size_t{5} : SIZE_MAX};
      });
      try {
        write_checkpoint(files, folder.path(), run.contents(step));
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WEXITSTATUS(status) == 42);
    const int64_t loaded = load_newest(folder.path());
    CHECK((loaded == 1 || loaded == step));
    remove_stale_folders(reliable, folder.path());
    for (const std::string& name : names_in(folder / "checkpoints"))
      CHECK(name.starts_with("step-"));
    CHECK(load_newest(folder.path()) == loaded);
  }
}

TEST_CASE("nothing is renamed before it is synced, and nothing is returned before the rename is",
          "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  std::set<fs::path> unsynced;
  bool renamed = false;
  FileSystem files([&](FileOp op, const fs::path& path) {
    if (op == FileOp::create || op == FileOp::make_folder)
      unsynced.insert({path, path.parent_path()});
    if (op == FileOp::write) unsynced.insert(path);
    if (op == FileOp::sync || op == FileOp::sync_folder) unsynced.erase(path);
    if (op == FileOp::rename) {
      CHECK(unsynced == std::set<fs::path>{folder / "checkpoints"});
      renamed = true;
    }
    return FileSystem::Fault{};
  });
  write_checkpoint(files, folder.path(), run.contents(3));
  CHECK(renamed);
  CHECK(unsynced.empty());
}

TEST_CASE("a checkpoint of the same step is replaced", "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  FileSystem files;
  write_checkpoint(files, folder.path(), run.contents(7));
  CheckpointContents again = run.contents(7);
  again.state["tokens"] = 71;
  write_checkpoint(files, folder.path(), again);
  CHECK(names_in(folder / "checkpoints") == std::set<std::string>{"step-00000007"});
  const auto path = folder / "checkpoints/step-00000007";
  CHECK(Checkpoint::open(path, CheckpointUse::training).state().at("tokens") == 71);
}

TEST_CASE("any bit flip in any file of a checkpoint is detected", "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  FileSystem files;
  write_checkpoint(files, folder.path(), run.contents(1));
  const fs::path path = write_checkpoint(files, folder.path(), run.contents(2));
  const std::string name =
      GENERATE("model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json");
  const std::string original = contents_of(path / name);
  std::mt19937 random(1);
  int unnoticed = 0;
  for (size_t byte = 0; byte < original.size(); ++byte) {
    const unsigned bit = random() % 8;
    CAPTURE(name, byte, bit);
    flip_bit(path / name, byte, bit);
    const auto selected =
        select_checkpoint(folder.path(), parse_resume("latest"), CheckpointUse::training);
    if (selected.rejected.empty()) {
      ++unnoticed;
    } else {
      CHECK(selected.rejected.size() == 1);
      CHECK_THAT(selected.rejected[0], ContainsSubstring("step-00000002"));
      CHECK(selected.rejected[0].find('\n') == std::string::npos);
      CHECK(selected.checkpoint->step() == 1);
    }
    put_contents(path / name, original);
  }
  CHECK(unnoticed == 0);
  CHECK(load_newest(folder.path()) == 2);
}

TEST_CASE("a truncated, empty or missing file is detected", "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  FileSystem files;
  write_checkpoint(files, folder.path(), run.contents(1));
  const fs::path path = write_checkpoint(files, folder.path(), run.contents(2));
  const std::string name =
      GENERATE("model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json");
  const int damage = GENERATE(0, 1, 2);
  CAPTURE(name, damage);
  const auto size = fs::file_size(path / name);
  if (damage == 0) fs::remove(path / name);
  if (damage == 1) fs::resize_file(path / name, 0);
  if (damage == 2) fs::resize_file(path / name, size - 3);
  CHECK(load_newest(folder.path()) == 1);
}

TEST_CASE("a checkpoint with a NaN weight is passed over", "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  FileSystem files;
  write_checkpoint(files, folder.path(), run.contents(1));
  const bool in_moment = GENERATE(false, true);
  const CheckpointContents contents = run.contents(2);
  const Tensor& poisoned = in_moment ? contents.optimizer[1].tensor : contents.model[1].tensor;
  poisoned.data<float>()[4] = std::nanf("");
  write_checkpoint(files, folder.path(), contents);
  const auto selected =
      select_checkpoint(folder.path(), parse_resume("latest"), CheckpointUse::training);
  CHECK(selected.checkpoint->step() == 1);
  REQUIRE(selected.rejected.size() == 1);
  CHECK_THAT(selected.rejected[0],
             ContainsSubstring("blocks.0.attn.wq.weight holds a NaN or an infinity"));
}

TEST_CASE("a checkpoint of another model is refused with nothing changed", "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  FileSystem files;
  const fs::path path = write_checkpoint(files, folder.path(), run.contents(500));
  const Checkpoint checkpoint = Checkpoint::open(path, CheckpointUse::training);

  ParameterStore other;
  other.add("embedding.weight", {4, 3}, Role::embedding);
  other.add("blocks.0.attn.wq.weight", {6, 3}, Role::linear);
  other.allocate(Dtype::f32);
  Slab moment = other.make_slab();
  CHECK_THROWS_WITH(checkpoint.load(named_values(other), named_views(other, moment, "m.")),
                    path.string() +
                        ": parameter blocks.0.attn.wq.weight is (3, 3) in the checkpoint but "
                        "(6, 3) in the model");
  CHECK(other.find("embedding.weight")->value.data<float>()[1] == 0.0f);

  TinyRun same;
  CHECK_THROWS_WITH(
      checkpoint.load(same.model(), named_views(same.store, same.moment, "v.")),
      ContainsSubstring("optimizer state v.embedding.weight is not in the checkpoint"));
  CHECK(same.first_value() == 0.0f);
  const auto fewer = std::vector<NamedTensor>{same.model().front()};
  CHECK_THROWS_WITH(checkpoint.load(fewer, same.optimizer()),
                    ContainsSubstring("parameter blocks.0.attn.wq.weight is not in the model"));
  ParameterStore wider;
  wider.add("embedding.weight", {4, 3}, Role::embedding);
  wider.add("blocks.0.attn.wq.weight", {3, 3}, Role::linear);
  wider.allocate(Dtype::f64);
  CHECK_THROWS_AS(checkpoint.load_model(named_values(wider)), CheckpointError);
}

TEST_CASE("a checkpoint of a later format is refused by its number", "[train][checkpoint]") {
  const TemporaryFolder folder;
  TinyRun run;
  FileSystem files;
  const fs::path path = write_checkpoint(files, folder.path(), run.contents(1));
  Json manifest = parse_json(contents_of(path / "MANIFEST.json"));
  manifest["format"] = 2;
  put_contents(path / "MANIFEST.json", manifest.dump());
  CHECK_THROWS_WITH(Checkpoint::open(path, CheckpointUse::weights),
                    ContainsSubstring("is format 2; this version of the program reads format 1"));
}

TEST_CASE("a changed thread count or instruction set is a warning", "[train][checkpoint]") {
  const RunIdentity saved{"0.1.0", "abc", "def", "avx2", 4};
  CHECK(differences(saved, saved).empty());
  const auto found = differences(saved, {"0.1.0", "abc", "def", "avx512", 2});
  REQUIRE(found.size() == 2);
  CHECK_THAT(found[0],
             ContainsSubstring("the number of threads was 4 when the checkpoint was written and "
                               "is 2 now"));
}

}  // namespace ballast
