// The bytes of a file that stay readable for the length of a run.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ballast {

/// A regular, non-empty file, opened for reading. Up to `copy_limit` bytes are copied into memory,
/// where nobody can take them away; a larger file is mapped. Reading a mapping beyond the end of a
/// file that was cut short since kills the process with SIGBUS, so check_unchanged() goes first:
/// what remains is the instant between that check and the read.
class MappedFile {
 public:
  static constexpr int64_t kCopyLimit = int64_t{64} << 20;

  /// Throws DataError if there is no such file, it is empty, or it is not a regular file; IoError
  /// if it cannot be read.
  explicit MappedFile(std::string path, int64_t copy_limit = kCopyLimit);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::string& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return bytes_; }

  /// Throws DataError if the file is a mapped one and is now shorter than it was.
  void check_unchanged() const;

 private:
  std::string path_;
  std::vector<uint8_t> copy_;
  int descriptor_ = -1;  ///< open while mapped
  std::span<const uint8_t> bytes_;
};

}  // namespace ballast
