// Gradients of intermediate values: buffers that return to a free-list as soon as they were read.
#pragma once

#include <cstdint>
#include <vector>

#include "core/memory.h"

namespace ballast {

/// Buffers are counted references: a residual sum hands one gradient to both of its inputs.
class BufferPool {
 public:
  using Handle = int32_t;
  static constexpr Handle kNone = -1;

  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  /// A buffer of at least `bytes`, uninitialised, with one reference.
  Handle acquire(int64_t bytes);
  void add_reference(Handle h) { ++buffers_[static_cast<size_t>(h)].references; }
  /// Drops one reference; the last one frees the buffer for reuse.
  void release(Handle h);
  bool is_shared(Handle h) const { return buffers_[static_cast<size_t>(h)].references > 1; }
  std::byte* data(Handle h) const { return buffers_[static_cast<size_t>(h)].memory.get(); }

  /// Drops all references.
  void reset();
  int64_t capacity() const { return capacity_; }

 private:
  struct Buffer {
    AlignedBytes memory;
    int64_t size = 0;
    int32_t references = 0;
  };
  std::vector<Buffer> buffers_;
  int64_t capacity_ = 0;
};

}  // namespace ballast
