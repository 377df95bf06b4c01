// A checkpoint: the folder checkpoints/step-00000500 of a run, holding the state after 500 updates
// in model.safetensors, optimizer.safetensors, state.json and, written last, MANIFEST.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/parameter.h"
#include "core/tensor.h"
#include "train/checkpoint/safetensors.h"
#include "train/files/file_system.h"
#include "train/files/json.h"

namespace ballast {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// The values of a store under their own names.
std::vector<NamedTensor> named_values(const ParameterStore& store);
/// One moment of the optimiser under prefixed names: "m.blocks.0.attn.wq.weight".
std::vector<NamedTensor> named_views(const ParameterStore& store, const Slab& slab,
                                     const std::string& prefix);

/// What a run must share with the one that wrote its checkpoint to repeat it bit for bit.
struct RunIdentity {
  std::string version;           ///< of this program
  std::string config_hash;       ///< of the resolved configuration
  std::string data_fingerprint;  ///< of the training data
  std::string isa;               ///< instruction set in use: "avx2", "avx512"
  int64_t threads = 0;
};

/// One sentence for each difference that a resumed run should warn of.
std::vector<std::string> differences(const RunIdentity& saved, const RunIdentity& now);

struct CheckpointContents {
  int64_t step = 0;  ///< number of updates done
  std::vector<NamedTensor> model;
  std::vector<NamedTensor> optimizer;
  Json state = Json::object();     ///< whatever the trainer needs besides; finite numbers only
  std::optional<double> val_loss;  ///< of exactly these weights, if it was measured: decides "best"
  RunIdentity identity;
};

struct Manifest {
  struct File {
    int64_t size = 0;
    std::string hash;
  };
  int64_t step = 0;
  RunIdentity identity;
  std::optional<double> val_loss;
  std::map<std::string, File> files;
};

std::filesystem::path checkpoints_folder(const std::filesystem::path& run_dir);
/// "step-00000500".
std::string checkpoint_name(int64_t step);
/// "step-" and digits.
bool is_checkpoint_name(std::string_view name);

/// Writes a temporary folder, syncs it and renames it, so that the checkpoint exists whole or not
/// at all. A checkpoint of the same step is replaced. Returns its path. Throws IoError (disk full,
/// unwritable); the checkpoints that were there are as they were.
std::filesystem::path write_checkpoint(FileSystem& files, const std::filesystem::path& run_dir,
                                       const CheckpointContents& contents);

/// Throws CheckpointError "path: reason": missing, damaged, or of a format this version does not
/// know.
Manifest read_manifest(const std::filesystem::path& checkpoint);

/// What a checkpoint is opened for: weights alone do not need the optimiser's file.
enum class CheckpointUse { training, weights };

/// A checkpoint whose files agree with its manifest and whose tensors are all finite.
class Checkpoint {
 public:
  /// Throws CheckpointError "path: reason" if anything is missing, truncated, altered or
  /// non-finite.
  static Checkpoint open(const std::filesystem::path& path, CheckpointUse use);

  const std::filesystem::path& path() const { return path_; }
  int64_t step() const { return manifest_.step; }
  const Manifest& manifest() const { return manifest_; }
  const Json& state() const { return state_; }
  const SafetensorsFile& model() const { return *model_; }

  /// Fills the tensors. Names, shapes and types of everything are compared before the first byte is
  /// copied: throws CheckpointError "path: parameter blocks.3.attn.wq.weight is (256, 256) in the
  /// checkpoint but (384, 256) in the model" with all tensors as they were.
  void load_model(std::span<const NamedTensor> model) const;
  void load(std::span<const NamedTensor> model, std::span<const NamedTensor> optimizer) const;

 private:
  Checkpoint() = default;

  std::filesystem::path path_;
  Manifest manifest_;
  Json state_;
  std::optional<SafetensorsFile> model_, optimizer_;
};

}  // namespace ballast
