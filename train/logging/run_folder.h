// The folder of one run, and the lock that keeps a second process out of it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "train/files/file_system.h"

namespace ballast {

/// What an existing run folder means.
enum class ExistingRun {
  refuse,    ///< a new run
  continue_  ///< a resumed one; a missing folder is made
};

/// Holds the lock of the run as long as it lives.
class RunFolder {
 public:
  /// Makes dir/name with all missing parents, or enters it. Throws ConfigError if `name` is not a
  /// plain name, if the folder exists (refuse), or if another process uses it; IoError if it cannot
  /// be made.
  RunFolder(FileSystem& files, const std::filesystem::path& dir, const std::string& name,
            ExistingRun existing);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder();

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path events() const { return path_ / "events.jsonl"; }
  /// The resolved configuration, and what it runs on (environment_text). Replaced durably.
  void write_config(std::string_view yaml) { files_->write_durably(path_ / "config.yaml", yaml); }
  void write_environment(std::string_view json) { files_->write_durably(path_ / "env.json", json); }

 private:
  void lock();

  FileSystem* files_;
  std::filesystem::path path_;
  int lock_fd_ = -1;
};

}  // namespace ballast
