// Which checkpoint of a run to use, which to keep, and what a resumed run leaves behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "train/checkpoint/checkpoint.h"

namespace ballast {

struct CheckpointSelection {
  enum class Kind {
    automatic,  ///< the newest valid one, or none if the run has none yet
    latest,     ///< the newest valid one
    best,       ///< the valid one with the lowest recorded validation loss
    step,       ///< exactly this one
    path,       ///< a checkpoint folder, or the newest valid one of another run's folder
  };
  Kind kind = Kind::automatic;
  int64_t step = 0;
  std::filesystem::path path;
};

/// auto | latest | step:N | PATH. Throws ConfigError for "step:x".
CheckpointSelection parse_resume(std::string_view text);
/// N | best | latest. Throws ConfigError otherwise.
CheckpointSelection parse_step(std::string_view text);

struct CheckpointRef {
  int64_t step = 0;
  std::filesystem::path path;
};

/// All folders named step-…, newest first; their contents are not looked at.
std::vector<CheckpointRef> find_checkpoints(const std::filesystem::path& run_dir);

struct SelectedCheckpoint {
  std::optional<Checkpoint> checkpoint;  ///< empty only for `automatic`
  std::vector<std::string> rejected;     ///< "path: reason" of each newer one that was passed over
};

/// Falls back from a damaged checkpoint to the one before it for automatic, latest, best and a
/// run's folder; one asked for by its step or path is that one or an error. Throws CheckpointError
/// if there is none, or if there are some and none is valid: an `automatic` run never starts over
/// what it cannot read.
SelectedCheckpoint select_checkpoint(const std::filesystem::path& run_dir,
                                     const CheckpointSelection& selection, CheckpointUse use);

/// Removes what ended processes left half-written or half-deleted. Only the owner of the run's lock
/// may.
void remove_stale_folders(FileSystem& files, const std::filesystem::path& run_dir);

/// Keeps the newest `keep` checkpoints (at least one) and the one with the lowest validation loss,
/// and removes the rest. A checkpoint without a readable manifest, or whose files have another size
/// than it says, is not counted, and is removed only if it is older than the newest `keep` that are
/// counted.
void prune_checkpoints(FileSystem& files, const std::filesystem::path& run_dir, int64_t keep);

/// A run resumed at `step` takes another course than the checkpoints after it (an explicit step:N,
/// or damaged ones): they are renamed to step-….abandoned, out of every later selection, and can be
/// deleted by hand. Returns their new paths.
std::vector<std::filesystem::path> abandon_checkpoints_after(FileSystem& files,
                                                             const std::filesystem::path& run_dir,
                                                             int64_t step);

}  // namespace ballast
