// Writing files so that a crash, a full disk or a failing disk never leaves half of one behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "train/files/hash.h"

namespace ballast {

enum class FileOp { make_folder, create, write, sync, rename, sync_folder, truncate, remove };

/// Every change to the disk goes through here, so that a test can fail, shorten or end the process
/// at any one of them. All functions throw IoError "path: cannot …: reason"; EINTR and short writes
/// are retried, a failed fsync never is (the kernel may have dropped the data it could not write).
class FileSystem {
 public:
  /// What befalls an operation: it fails with `error` (an errno), or a write takes `at_most` bytes.
  struct Fault {
    int error = 0;
    size_t at_most = SIZE_MAX;
  };
  /// Asked before each operation.
  using Hook = std::function<Fault(FileOp, const std::filesystem::path&)>;

  FileSystem() = default;
  explicit FileSystem(Hook hook) : hook_(std::move(hook)) {}

  /// The parent must exist. Returns false if the folder (or a file of that name) exists already.
  bool make_folder(const std::filesystem::path& path);
  /// With all missing parents; an existing folder is fine.
  void make_folders(const std::filesystem::path& path);
  void sync_folder(const std::filesystem::path& path);
  /// Returns false, and changes nothing, if `to` exists.
  bool rename_new(const std::filesystem::path& from, const std::filesystem::path& to);
  /// A file replaces the file `to` in one step. A folder changes places with the folder `to` and is
  /// then found under `from` (in two steps on file systems that cannot exchange).
  void rename_over(const std::filesystem::path& from, const std::filesystem::path& to);
  /// A file, or a folder with all it holds; what does not exist is fine.
  void remove(const std::filesystem::path& path);
  /// Cuts the file to its first `size` bytes and syncs it.
  void truncate(const std::filesystem::path& path, int64_t size);
  /// Replaces or creates the file: temporary file beside it, fsync, rename, fsync of the folder.
  void write_durably(const std::filesystem::path& path, std::string_view text);

 private:
  friend class OutputFile;
  Fault fault(FileOp op, const std::filesystem::path& path) {
    return hook_ ? hook_(op, path) : Fault{};
  }
  void enter(FileOp op, const std::filesystem::path& path, std::string_view doing);

  Hook hook_;
};

/// A file being written from its beginning or at its end, and the hash of what was written.
class OutputFile {
 public:
  enum class Mode {
    create,  ///< must not exist yet
    append,  ///< created if missing; each write lands at the end
  };
  OutputFile(FileSystem& files, std::filesystem::path path, Mode mode);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// All of `line` or nothing: what a full disk cut off is removed again before IoError is thrown.
  void append_whole(std::string_view line);
  void sync();

  const std::filesystem::path& path() const { return path_; }
  /// Bytes written by this object with write().
  int64_t size() const { return size_; }
  Hash128 hash() const { return hash_.value(); }

 private:
  size_t write_some(const char* data, size_t n);

  FileSystem* files_;
  std::filesystem::path path_;
  int fd_ = -1;
  int64_t size_ = 0;
  Hasher hash_;
};

/// A regular file opened for reading at any position. Reads copy (never map): a file that shrinks
/// under us is an error and not a SIGBUS.
class InputFile {
 public:
  /// Throws IoError if it cannot be opened or is not a regular file.
  explicit InputFile(std::filesystem::path path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const { return size_; }
  /// Fills `out`. Throws IoError if the file ends before.
  void read(int64_t offset, std::span<std::byte> out) const;
  Hash128 hash() const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

/// False also for what cannot be looked at: opening it then says why.
bool is_folder(const std::filesystem::path& path);
bool path_exists(const std::filesystem::path& path);

/// The whole file. Throws IoError; also if it is larger than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, int64_t max_bytes);

/// "path: cannot write: No space left on device".
[[noreturn]] void throw_io_error(const std::filesystem::path& path, std::string_view doing,
                                 int error_number);

}  // namespace ballast
