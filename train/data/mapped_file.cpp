#include "train/data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace ballast {
namespace {

/// Closes a descriptor unless it is released.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

std::string reason() {
  return std::strerror(errno);
}

void read_all(int descriptor, std::span<uint8_t> out, const std::string& path) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::read(descriptor, out.data() + done, out.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw IoError(concat(path, ": cannot be read: ", reason()));
    if (n == 0) {
      throw DataError(concat(path, ": ends after ", done, " of ", out.size(),
                             " bytes; it was cut short while it was read"));
    }
    done += static_cast<size_t>(n);
  }
}

}  // namespace

MappedFile::MappedFile(std::string path, int64_t copy_limit) : path_(std::move(path)) {
  // Without O_NONBLOCK the open of a named pipe would wait for a writer.
  Descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw DataError(concat(path_, ": no such file"));
    throw IoError(concat(path_, ": cannot be read: ", reason()));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) {
    throw IoError(concat(path_, ": cannot be read: ", reason()));
  }
  if (S_ISDIR(status.st_mode)) {
    throw DataError(concat(path_, ": is a directory; expected a file"));
  }
  if (!S_ISREG(status.st_mode)) {
    throw DataError(concat(path_, ": is not a regular file; expected a file"));
  }
  if (status.st_size == 0) throw DataError(concat(path_, ": is empty; expected data"));

  const auto size = static_cast<size_t>(status.st_size);
  if (status.st_size <= copy_limit) {
    copy_.resize(size);
    read_all(file.get(), copy_, path_);
    bytes_ = copy_;
    return;
  }
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) throw IoError(concat(path_, ": cannot be mapped: ", reason()));
  bytes_ = {static_cast<const uint8_t*>(memory), size};
  descriptor_ = file.release();
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      copy_(std::move(other.copy_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
  if (descriptor_ < 0) return;
  ::munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size());
  ::close(descriptor_);
}

void MappedFile::check_unchanged() const {
  if (descriptor_ < 0) return;
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    throw IoError(concat(path_, ": cannot be read: ", reason()));
  }
  if (static_cast<size_t>(status.st_size) < bytes_.size()) {
    throw DataError(concat(path_, ": has ", status.st_size, " bytes but had ", bytes_.size(),
                           " when it was opened; restore it and resume"));
  }
}

}  // namespace ballast
