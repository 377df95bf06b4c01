#include "train/logging/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "core/error.h"
#include "train/files/printable.h"

namespace ballast {

namespace fs = std::filesystem;

namespace {

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
  return name.data();
}

std::string read_owner(int fd) {
  std::array<char, 300> text;
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  return n > 0 ? printable(std::string_view(text.data(), static_cast<size_t>(n)))
               : "another process";
}

}  // namespace

RunFolder::RunFolder(FileSystem& files, const fs::path& dir, const std::string& name,
                     ExistingRun existing)
    : files_(&files), path_(dir / name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
    throw ConfigError(concat("run.name = '", name, "'; expected a plain folder name"));
  }
  if (!dir.empty()) files.make_folders(dir);
  if (files.make_folder(path_)) {
    files.sync_folder(dir.empty() ? fs::path(".") : dir);
  } else if (!is_folder(path_)) {
    throw_io_error(path_, "create the folder", ENOTDIR);
  } else if (existing == ExistingRun::refuse) {
    throw ConfigError(
        concat(path_.string(),
               ": the run folder exists already; expected a new run.name, or --resume auto "
               "to continue the run"));
  }
  lock();
}

RunFolder::~RunFolder() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

void RunFolder::lock() {
  const fs::path path = path_ / ".lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) throw_io_error(path, "create", errno);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    const std::string owner = read_owner(fd);
    ::close(fd);
    if (error == EWOULDBLOCK)
      throw ConfigError(concat(path_.string(), ": the run is in use by ", owner));
    throw_io_error(path, "lock", error);
  }
  lock_fd_ = fd;
  // Only for the message above: the lock itself ends with the process, however it ends.
  const std::string owner = concat("process ", ::getpid(), " on ", host_name());
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, owner.data(), owner.size(), 0) < 0) {
    const int error = errno;
    ::close(fd);
    lock_fd_ = -1;
    throw_io_error(path, "write", error);
  }
}

}  // namespace ballast
