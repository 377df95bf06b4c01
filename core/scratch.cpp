#include "core/scratch.h"

#include <array>
#include <atomic>

namespace ballast {

namespace {

struct Buffer {
  AlignedBytes memory;
  size_t size = 0;
};

std::atomic<int64_t> total_bytes{0};

}  // namespace

int64_t scratch_bytes() {
  return total_bytes.load();
}

std::byte* scratch(ScratchSlot slot, int64_t bytes) {
  // Per thread and never part of a result: the one piece of state that no object owns.
  static thread_local std::array<Buffer, 3> buffers;
  Buffer& buffer = buffers[static_cast<size_t>(slot)];
  const auto wanted = static_cast<size_t>(bytes);
  if (buffer.size < wanted) {
    buffer.memory.reset();
    buffer.memory = allocate_aligned(wanted);
    total_bytes += static_cast<int64_t>(wanted - buffer.size);
    buffer.size = wanted;
  }
  return buffer.memory.get();
}

}  // namespace ballast
