// The configuration of a run: one struct for each section of the YAML file, no YAML here.
// Every key, its default, its range and its help text are listed once, in fields.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/variant_table.h"
#include "layers/model_config.h"
#include "optim/optim_config.h"
#include "train/data/data_config.h"

namespace ballast {

enum class Precision { fp32 };

struct RunSection {
  std::string name;  ///< resolved: never empty after load_config
  std::string dir = "runs";
  int64_t seed = 1337;
  std::optional<int64_t> init_seed;
  std::optional<int64_t> data_seed;
  int64_t threads = 0;
  Precision precision = Precision::fp32;
};

struct LossConfig {
  double z_loss = 0.0;
};

struct EarlyStoppingConfig {
  int64_t patience = 0;
  double min_delta = 0.0;
};

struct TrainConfig {
  int64_t steps = 0;
  int64_t batch_size = 16;
  int64_t grad_accum = 1;
  int64_t eval_every = 0;
  int64_t eval_batches = 20;
  int64_t checkpoint_every = 0;
  int64_t keep_checkpoints = 3;
  EarlyStoppingConfig early_stopping;
  std::vector<std::array<int64_t, 2>> skip_steps;  ///< ranges [a, b)
};

struct MonitorConfig {
  int64_t grad_norms = 1;
  int64_t update_norms = 1;
  int64_t attention = 0;
  int64_t activations = 0;
  int64_t logits = 1;
  int64_t optimizer = 0;
};

struct LogConfig {
  int64_t console_every = 10;
  bool jsonl = true;
  bool tensorboard = true;
};

struct RunConfig {
  RunSection run;
  DataConfig data;
  std::string preset;  ///< model.preset, already applied to `model`; empty: none
  ModelConfig model;
  LossConfig loss;
  OptimConfig optim;
  TrainConfig train;
  MonitorConfig monitor;
  LogConfig log;

  int64_t init_seed() const { return run.init_seed.value_or(run.seed); }
  int64_t data_seed() const { return run.data_seed.value_or(run.seed); }
  std::filesystem::path run_dir() const { return std::filesystem::path(run.dir) / run.name; }
};

/// Reads a configuration: defaults < model.preset < `extends:` < the file < overrides
/// ("optim.lr=3e-3").
/// Derived values that the run needs (run.name, model.vocab_size, model.max_seq_len, absolute data
/// paths) are filled in, every number is in its range and the model's sizes agree. Opens no data.
/// `notes`, if given, receives remarks on legal settings without effect, such as a clip.max_norm
/// while clip.kind is none.
/// Throws ConfigError "file:line:column: key = value: what is wrong; expected …".
RunConfig load_config(const std::filesystem::path& path,
                      std::span<const std::string> overrides = {},
                      std::vector<std::string>* notes = nullptr);

/// The whole configuration as YAML that load_config reads back to the same.
std::string dump_config(const RunConfig& config);

/// 16 hex digits that depend on dump_config(config) alone.
std::string config_hash(const RunConfig& config);

/// JSON Schema (draft 2020-12) of a configuration file.
std::string json_schema();

/// Every key that takes one of several kinds, with their names: a line each, for --help.
std::string config_kinds();

/// The key reference: configs/README.md.
std::string config_reference_markdown();

template <>
std::span<const VariantRow<Precision>> variant_rows<Precision>();
template <>
std::span<const std::string_view> planned_variants<Precision>();

}  // namespace ballast
