#include "train/checkpoint/selection.h"

#include <set>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace ballast {

namespace fs = std::filesystem;

namespace {

constexpr auto kTraining = CheckpointUse::training;

/// Writes a checkpoint of one number.
fs::path write_step(const fs::path& run_dir, int64_t step, std::optional<double> val_loss = {}) {
  auto value = static_cast<float>(step);
  FileSystem files;
  CheckpointContents contents;
  contents.step = step;
  contents.model = {{"w", Tensor(&value, {1}, Dtype::f32)}};
  contents.optimizer = {{"m.w", Tensor(&value, {1}, Dtype::f32)}};
  contents.val_loss = val_loss;
  return write_checkpoint(files, run_dir, contents);
}

void damage(const fs::path& checkpoint) {
  put_contents(checkpoint / "model.safetensors", "x");
}

/// Same size, other bytes: only the hash can tell.
void alter(const fs::path& checkpoint) {
  std::string text = contents_of(checkpoint / "model.safetensors");
  text.back() ^= 1;
  put_contents(checkpoint / "model.safetensors", text);
}

std::vector<int64_t> steps_of(const fs::path& run_dir) {
  std::vector<int64_t> steps;
  for (const CheckpointRef& ref : find_checkpoints(run_dir)) steps.push_back(ref.step);
  return steps;
}

int64_t selected_step(const fs::path& run_dir, const CheckpointSelection& selection) {
  const auto selected = select_checkpoint(run_dir, selection, kTraining);
  return selected.checkpoint ? selected.checkpoint->step() : -1;
}

}  // namespace

TEST_CASE("the forms of --resume and --step are read strictly", "[train][checkpoint]") {
  using Kind = CheckpointSelection::Kind;
  CHECK(parse_resume("auto").kind == Kind::automatic);
  CHECK(parse_resume("latest").kind == Kind::latest);
  CHECK(parse_resume("step:500").kind == Kind::step);
  CHECK(parse_resume("step:500").step == 500);
  CHECK(parse_resume("runs/a").path == "runs/a");
  CHECK(parse_step("best").kind == Kind::best);
  CHECK(parse_step("12").step == 12);
  for (const char* wrong :
       {"step:", "step:-1", "step:5x", "step: 5", "step:99999999999999999999", ""}) {
    CHECK_THROWS_AS(parse_resume(wrong), ConfigError);
  }
  for (const char* wrong : {"", "-1", "5x", "auto", "1.0"})
    CHECK_THROWS_AS(parse_step(wrong), ConfigError);
}

TEST_CASE("only folders of the exact name form are checkpoints", "[train][checkpoint]") {
  const TemporaryFolder run;
  CHECK(steps_of(run.path()).empty());
  for (const char* name :
       {"step-00000005", "step-00000100", "step-123456789", "step-5", "step-0000000x",
        ".tmp-step-00000006-1", "step-00000007.abandoned", "latest"}) {
    fs::create_directories(run.path() / "checkpoints" / name);
  }
  CHECK(steps_of(run.path()) == std::vector<int64_t>{123456789, 100, 5});
}

TEST_CASE("auto starts afresh without checkpoints, latest does not", "[train][checkpoint]") {
  const TemporaryFolder run;
  CHECK(selected_step(run.path(), parse_resume("auto")) == -1);
  CHECK(selected_step(run / "missing", parse_resume("auto")) == -1);
  CHECK_THROWS_WITH(selected_step(run.path(), parse_resume("latest")),
                    run.path().string() + ": has no checkpoint");
  CHECK_THROWS_AS(selected_step(run.path(), parse_step("best")), CheckpointError);
  CHECK_THROWS_WITH(selected_step(run.path(), parse_resume("step:3")),
                    ContainsSubstring("has no checkpoint of step 3; it has: none"));
  CHECK_THROWS_AS(selected_step(run.path(), parse_resume((run / "missing").string())),
                  CheckpointError);
}

TEST_CASE("each form selects its checkpoint", "[train][checkpoint]") {
  const TemporaryFolder run;
  write_step(run.path(), 100, 2.0);
  write_step(run.path(), 200, 1.5);
  write_step(run.path(), 300, 1.75);
  write_step(run.path(), 400);
  CHECK(selected_step(run.path(), parse_resume("auto")) == 400);
  CHECK(selected_step(run.path(), parse_resume("latest")) == 400);
  CHECK(selected_step(run.path(), parse_resume("step:300")) == 300);
  CHECK(selected_step(run.path(), parse_step("best")) == 200);
  CHECK(selected_step("elsewhere", parse_resume(run.path().string())) == 400);
  CHECK(selected_step("elsewhere", parse_resume((run / "checkpoints/step-00000100").string())) ==
        100);
  CHECK_THROWS_WITH(selected_step(run.path(), parse_resume("step:250")),
                    ContainsSubstring("it has: 400, 300, 200, 100"));
}

TEST_CASE("a damaged checkpoint falls back to the one before, and says so", "[train][checkpoint]") {
  const TemporaryFolder run;
  write_step(run.path(), 1, 3.0);
  alter(write_step(run.path(), 2, 2.0));
  damage(write_step(run.path(), 3, 1.0));
  const auto selected = select_checkpoint(run.path(), parse_resume("auto"), kTraining);
  CHECK(selected.checkpoint->step() == 1);
  REQUIRE(selected.rejected.size() == 2);
  CHECK_THAT(selected.rejected[0],
             ContainsSubstring("step-00000003: model.safetensors has 1 bytes"));
  CHECK_THAT(selected.rejected[1],
             ContainsSubstring("step-00000002: model.safetensors does not match its hash"));
  CHECK(selected_step(run.path(), parse_step("best")) == 1);
  CHECK_THROWS_AS(selected_step(run.path(), parse_resume("step:2")), CheckpointError);

  damage(run / "checkpoints/step-00000001");
  CHECK_THROWS_WITH(selected_step(run.path(), parse_resume("auto")),
                    ContainsSubstring("none of its 3 checkpoints is valid; the newest: "));
}

TEST_CASE("weights can be used when only the optimiser's file is damaged", "[train][checkpoint]") {
  const TemporaryFolder run;
  put_contents(write_step(run.path(), 1) / "optimizer.safetensors", "x");
  CHECK(select_checkpoint(run.path(), parse_step("latest"), CheckpointUse::weights)
            .checkpoint->step() == 1);
  CHECK_THROWS_AS(select_checkpoint(run.path(), parse_step("latest"), kTraining), CheckpointError);
}

TEST_CASE("retention keeps the newest whole checkpoints and the best", "[train][checkpoint]") {
  const TemporaryFolder run;
  FileSystem files;
  for (int64_t step = 1; step <= 6; ++step) write_step(run.path(), step, step == 2 ? 1.0 : 2.0);
  prune_checkpoints(files, run.path(), 3);
  CHECK(steps_of(run.path()) == std::vector<int64_t>{6, 5, 4, 2});
  damage(run / "checkpoints/step-00000006");
  prune_checkpoints(files, run.path(), 2);
  CHECK(steps_of(run.path()) == std::vector<int64_t>{6, 5, 4, 2});
  prune_checkpoints(files, run.path(), 0);  // the newest whole one always stays
  CHECK(steps_of(run.path()) == std::vector<int64_t>{6, 5, 2});
  CHECK(selected_step(run.path(), parse_resume("latest")) == 5);
  for (const auto& entry : fs::directory_iterator(run / "checkpoints")) {
    CHECK(entry.path().filename().string().starts_with("step-"));
  }
}

TEST_CASE("a removal that dies half-way leaves no half checkpoint", "[train][checkpoint]") {
  for (int failing = 0;; ++failing) {
    CAPTURE(failing);
    const TemporaryFolder run;
    for (int64_t step = 1; step <= 3; ++step) write_step(run.path(), step);
    int index = 0;
    FileSystem files([&](FileOp, const fs::path&) {
      return FileSystem::Fault{index++ >= failing ? EIO : 0, SIZE_MAX};
    });
    bool done = false;
    try {
      prune_checkpoints(files, run.path(), 2);
      done = true;
    } catch (const IoError&) {
    }
    FileSystem reliable;
    remove_stale_folders(reliable, run.path());
    for (const CheckpointRef& ref : find_checkpoints(run.path())) {
      CHECK_NOTHROW(Checkpoint::open(ref.path, kTraining));
    }
    CHECK(selected_step(run.path(), parse_resume("latest")) == 3);
    if (done) {
      CHECK(failing == 6);  // a rename, four files and the folder
      break;
    }
  }
}

TEST_CASE("checkpoints after the resumed step are set aside, not lost", "[train][checkpoint]") {
  const TemporaryFolder run;
  FileSystem files;
  for (int64_t step = 1; step <= 3; ++step) write_step(run.path(), step);
  const auto moved = abandon_checkpoints_after(files, run.path(), 1);
  CHECK(moved.size() == 2);
  CHECK(steps_of(run.path()) == std::vector<int64_t>{1});
  const fs::path aside = run / "checkpoints/step-00000003.abandoned";
  CHECK(selected_step("elsewhere", parse_resume(aside.string())) == 3);
  write_step(run.path(), 3);
  CHECK(abandon_checkpoints_after(files, run.path(), 2).size() == 1);
  CHECK(steps_of(run.path()) == std::vector<int64_t>{1});
}

TEST_CASE("a checkpoint under the name of another step is refused", "[train][checkpoint]") {
  const TemporaryFolder run;
  fs::rename(write_step(run.path(), 4), run / "checkpoints/step-00000009");
  CHECK_THROWS_WITH(selected_step(run.path(), parse_resume("step:9")),
                    ContainsSubstring("step-00000009: holds step 4; was the folder renamed?"));
}

}  // namespace ballast
