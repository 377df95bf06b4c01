// Tokens from files: UTF-8 text taken as bytes, or raw little-endian uint16 ids.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "train/data/data_source.h"
#include "train/data/mapped_file.h"

namespace ballast {

/// Files joined in the given order, without anything between them; windows may cross from one to
/// the next. Without files for validation, the training split is the first floor(n * (1 -
/// val_fraction)) tokens and the validation split the rest, as nanoGPT cuts them; the cut may fall
/// inside a character of several bytes.
class FileData final : public DataSource {
 public:
  /// Reads everything once: well-formed UTF-8 (text), ids below vocab_size, enough tokens in each
  /// split for one window.
  FileData(const DataConfig& config, int64_t vocab_size, const std::filesystem::path& config_dir,
           int64_t copy_limit = MappedFile::kCopyLimit);

  std::optional<int64_t> n_tokens(Split split) const override;
  void window(Split split, int64_t index, std::span<int32_t> out) const override;
  std::optional<double> bytes_per_token() const override;
  uint64_t fingerprint() const override { return fingerprint_; }

 private:
  /// Positions [begin, end) in the joined files.
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
  };
  const Range& range(Split split) const { return split == Split::train ? train_ : val_; }
  int64_t open_files(const std::vector<std::string>& paths, int64_t vocab_size,
                     const std::filesystem::path& config_dir, int64_t copy_limit);

  DataKind kind_;
  std::vector<MappedFile> files_;
  std::vector<int64_t> ends_;  ///< position after each file's last token
  Range train_;
  Range val_;
  uint64_t fingerprint_ = 0;
};

}  // namespace ballast
