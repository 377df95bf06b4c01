#include "core/arena.h"

#include <algorithm>

namespace ballast {

namespace {
constexpr size_t kSmallestBlock = size_t{1} << 20;
}

void StepArena::add_block(size_t size) {
  Block& block = blocks_.emplace_back();
  block.memory = allocate_aligned(size);
  block.size = size;
  capacity_ += static_cast<int64_t>(size);
}

std::byte* StepArena::allocate(int64_t bytes) {
  const size_t size = aligned_size(static_cast<size_t>(bytes));
  if (blocks_.empty() || blocks_.back().size - blocks_.back().filled < size) {
    add_block(std::max(size, kSmallestBlock));
  }
  Block& block = blocks_.back();
  std::byte* p = block.memory.get() + block.filled;
  block.filled += size;
  used_ += static_cast<int64_t>(size);
  return p;
}

void StepArena::reset() {
  if (blocks_.size() > 1) {
    const auto needed = static_cast<size_t>(used_);
    blocks_.clear();
    capacity_ = 0;
    add_block(needed);
  }
  for (Block& block : blocks_) block.filled = 0;
  used_ = 0;
}

}  // namespace ballast
