// Where tokens come from: files or a generator, both with a training and a validation split.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>

#include "train/data/data_config.h"

namespace ballast {

enum class Split { train, val };

/// Immutable once open: every function is a pure one and may be called from several threads.
class DataSource {
 public:
  virtual ~DataSource() = default;

  /// Tokens of a split; none: the split is a generator without end.
  virtual std::optional<int64_t> n_tokens(Split split) const = 0;

  /// Fills `out` with consecutive tokens. Files: those from position `index` of the split on, which
  /// must all exist. Generators: the start of the independent sequence of that number.
  /// Throws DataError if a file changed under us.
  virtual void window(Split split, int64_t index, std::span<int32_t> out) const = 0;

  /// The lowest expected cross-entropy, nats a token, of predicting T tokens from the one before
  /// each window and those inside it. Exact, or a lower bound where the generator says so.
  virtual std::optional<double> floor(int64_t /*seq_len*/) const { return std::nullopt; }

  /// Bytes of text behind a token; none: the tokens are not text that we know.
  virtual std::optional<double> bytes_per_token() const { return std::nullopt; }

  /// Equal for equal data: of every byte of the files, or of the generator's tables and seed.
  virtual uint64_t fingerprint() const = 0;
};

/// Opens what `config` describes; every file is read and checked once. Paths are relative to
/// `config_dir`, then to the working directory. Generators derive from `data_seed`.
/// Throws DataError naming file and position for data that cannot be used, IoError if reading
/// fails, std::invalid_argument for a config that validate() refuses.
std::unique_ptr<DataSource> open_data(const DataConfig& config, int64_t vocab_size,
                                      uint64_t data_seed,
                                      const std::filesystem::path& config_dir = {});

}  // namespace ballast
