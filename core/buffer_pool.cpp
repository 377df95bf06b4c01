#include "core/buffer_pool.h"

#include "core/error.h"

namespace ballast {

BufferPool::Handle BufferPool::acquire(int64_t bytes) {
  // A step asks for few distinct sizes, so the list stays short; exact sizes keep addresses stable.
  for (size_t i = 0; i < buffers_.size(); ++i) {
    Buffer& buffer = buffers_[i];
    if (buffer.references == 0 && buffer.size == bytes) {
      buffer.references = 1;
      return static_cast<Handle>(i);
    }
  }
  Buffer& buffer = buffers_.emplace_back();
  buffer.memory = allocate_aligned(static_cast<size_t>(bytes));
  buffer.size = bytes;
  buffer.references = 1;
  capacity_ += bytes;
  return static_cast<Handle>(buffers_.size() - 1);
}

void BufferPool::release(Handle h) {
  Buffer& buffer = buffers_[static_cast<size_t>(h)];
  check_internal(buffer.references > 0, "a gradient buffer was released twice");
  --buffer.references;
}

void BufferPool::reset() {
  for (Buffer& buffer : buffers_) buffer.references = 0;
}

}  // namespace ballast
