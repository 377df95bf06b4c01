#include "train/files/file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"

namespace ballast {

namespace fs = std::filesystem;

namespace {

// Written and hashed piece by piece, so that the hash reads what is still in the cache.
constexpr size_t kPiece = size_t{1} << 20;

constexpr unsigned kNoReplace = 1;  // RENAME_NOREPLACE and RENAME_EXCHANGE of <linux/fs.h>
constexpr unsigned kExchange = 2;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

int open_retrying(const fs::path& path, int flags, mode_t mode = 0) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// File systems without the flags answer EINVAL, old kernels ENOSYS.
bool flags_unsupported(int error) {
  return error == EINVAL || error == ENOSYS;
}

}  // namespace

void throw_io_error(const fs::path& path, std::string_view doing, int error_number) {
  throw IoError(concat(path.string(), ": cannot ", doing, ": ",
                       std::generic_category().message(error_number)));
}

void FileSystem::enter(FileOp op, const fs::path& path, std::string_view doing) {
  const Fault f = fault(op, path);
  if (f.error != 0) throw_io_error(path, doing, f.error);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool path_exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

bool FileSystem::make_folder(const fs::path& path) {
  enter(FileOp::make_folder, path, "create the folder");
  if (::mkdir(path.c_str(), 0777) == 0) return true;
  if (errno == EEXIST) return false;
  throw_io_error(path, "create the folder", errno);
}

void FileSystem::make_folders(const fs::path& path) {
  if (path.empty() || is_folder(path)) return;
  make_folders(path.parent_path());
  if (!make_folder(path)) {
    if (!is_folder(path)) throw_io_error(path, "create the folder", ENOTDIR);
    return;
  }
  sync_folder(parent_of(path));
}

void FileSystem::sync_folder(const fs::path& path) {
  enter(FileOp::sync_folder, path, "sync the folder");
  const Descriptor folder(open_retrying(path, O_RDONLY | O_DIRECTORY));
  if (folder.get() < 0) throw_io_error(path, "open the folder", errno);
  // Some network file systems do not sync folders and say EINVAL; there is nothing more to do
  // there.
  if (::fsync(folder.get()) != 0 && errno != EINVAL) throw_io_error(path, "sync the folder", errno);
}

bool FileSystem::rename_new(const fs::path& from, const fs::path& to) {
  enter(FileOp::rename, to, "rename");
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), kNoReplace) == 0) return true;
  if (errno == EEXIST) return false;
  if (!flags_unsupported(errno)) throw_io_error(to, "rename", errno);
  if (path_exists(to)) return false;
  if (::rename(from.c_str(), to.c_str()) != 0) throw_io_error(to, "rename", errno);
  return true;
}

void FileSystem::rename_over(const fs::path& from, const fs::path& to) {
  enter(FileOp::rename, to, "rename");
  if (!is_folder(from)) {
    if (::rename(from.c_str(), to.c_str()) != 0) throw_io_error(to, "rename", errno);
    return;
  }
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), kExchange) == 0) return;
  if (!flags_unsupported(errno)) throw_io_error(to, "rename", errno);
  const fs::path aside = from.string() + ".old";
  if (::rename(to.c_str(), aside.c_str()) != 0) throw_io_error(to, "rename", errno);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int error = errno;
    ::rename(aside.c_str(), to.c_str());
    throw_io_error(to, "rename", error);
  }
  if (::rename(aside.c_str(), from.c_str()) != 0) throw_io_error(from, "rename", errno);
}

void FileSystem::remove(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) return;
  if (fs::is_directory(status)) {
    std::vector<fs::path> entries;
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      entries.push_back(it->path());
    }
    if (error) throw_io_error(path, "read the folder", error.value());
    for (const fs::path& entry : entries) remove(entry);
  }
  enter(FileOp::remove, path, "remove");
  if (::remove(path.c_str()) != 0 && errno != ENOENT) throw_io_error(path, "remove", errno);
}

void FileSystem::truncate(const fs::path& path, int64_t size) {
  enter(FileOp::truncate, path, "truncate");
  const Descriptor file(open_retrying(path, O_WRONLY));
  if (file.get() < 0) throw_io_error(path, "open", errno);
  if (::ftruncate(file.get(), size) != 0) throw_io_error(path, "truncate", errno);
  enter(FileOp::sync, path, "sync");
  if (::fsync(file.get()) != 0) throw_io_error(path, "sync", errno);
}

void FileSystem::write_durably(const fs::path& path, std::string_view text) {
  const fs::path temporary = path.string() + ".tmp";
  remove(temporary);  // left by a process that ended while it wrote
  try {
    OutputFile out(*this, temporary, OutputFile::Mode::create);
    out.write(text);
    out.sync();
    rename_over(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(parent_of(path));
}

OutputFile::OutputFile(FileSystem& files, fs::path path, Mode mode)
    : files_(&files), path_(std::move(path)) {
  files.enter(FileOp::create, path_, "create");
  const int flags =
      mode == Mode::create ? O_WRONLY | O_CREAT | O_EXCL : O_WRONLY | O_CREAT | O_APPEND;
  fd_ = open_retrying(path_, flags, 0666);
  if (fd_ < 0) throw_io_error(path_, mode == Mode::create ? "create" : "open for writing", errno);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : files_(other.files_),
      path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      hash_(std::move(other.hash_)) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

size_t OutputFile::write_some(const char* data, size_t n) {
  const FileSystem::Fault fault = files_->fault(FileOp::write, path_);
  errno = fault.error;
  const ssize_t written = fault.error != 0 ? -1 : ::write(fd_, data, std::min(n, fault.at_most));
  if (written >= 0) return static_cast<size_t>(written);
  if (errno == EINTR) return 0;
  throw_io_error(path_, "write", errno);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(kPiece, bytes.size()));
    const char* data = reinterpret_cast<const char*>(piece.data());
    for (size_t done = 0; done < piece.size();)
      done += write_some(data + done, piece.size() - done);
    hash_.update(piece);
    size_ += static_cast<int64_t>(piece.size());
    bytes = bytes.subspan(piece.size());
  }
}

void OutputFile::append_whole(std::string_view line) {
  size_t done = 0;
  try {
    while (done < line.size()) done += write_some(line.data() + done, line.size() - done);
  } catch (const IoError&) {
    struct stat status;
    if (done > 0 && ::fstat(fd_, &status) == 0 && S_ISREG(status.st_mode)) {
      const off_t whole = status.st_size - static_cast<off_t>(done);
      if (::ftruncate(fd_, whole) != 0) throw_io_error(path_, "truncate", errno);
    }
    throw;
  }
}

void OutputFile::sync() {
  files_->enter(FileOp::sync, path_, "sync");
  // A pipe or a device such as /dev/null has nothing to sync and says EINVAL.
  if (::fsync(fd_) != 0 && errno != EINVAL) throw_io_error(path_, "sync", errno);
}

InputFile::InputFile(fs::path path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  fd_ = open_retrying(path_, O_RDONLY | O_NONBLOCK);
  if (fd_ < 0) throw_io_error(path_, "open", errno);
  struct stat status;
  const bool known = ::fstat(fd_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    const int error = known ? 0 : errno;
    ::close(std::exchange(fd_, -1));
    if (!known) throw_io_error(path_, "read", error);
    throw IoError(concat(path_.string(), ": cannot read: not a regular file"));
  }
  size_ = status.st_size;
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void InputFile::read(int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_io_error(path_, "read", errno);
    if (n == 0)
      throw IoError(concat(path_.string(), ": cannot read: the file ends at byte ", offset));
    out = out.subspan(static_cast<size_t>(n));
    offset += n;
  }
}

Hash128 InputFile::hash() const {
  Hasher hasher;
  std::vector<std::byte> piece(static_cast<size_t>(std::min<int64_t>(kPiece, size_)));
  for (int64_t offset = 0; offset < size_;) {
    const auto n = static_cast<size_t>(std::min<int64_t>(kPiece, size_ - offset));
    read(offset, std::span(piece).first(n));
    hasher.update(std::span(piece).first(n));
    offset += static_cast<int64_t>(n);
  }
  return hasher.value();
}

std::string read_text_file(const fs::path& path, int64_t max_bytes) {
  const InputFile file(path);
  if (file.size() > max_bytes) {
    throw IoError(
        concat(path.string(), ": has ", file.size(), " bytes; expected at most ", max_bytes));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace ballast
