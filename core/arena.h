// Memory of one training step: bump allocation, rewound as a whole.
#pragma once

#include <cstdint>
#include <vector>

#include "core/memory.h"

namespace ballast {

/// The first step finds out how much is needed; from the second reset() on it is one block and
/// nothing is allocated. Addresses repeat when the same sizes are asked for in the same order.
class StepArena {
 public:
  StepArena() = default;
  StepArena(const StepArena&) = delete;
  StepArena& operator=(const StepArena&) = delete;

  /// `bytes` uninitialised bytes at a 64-byte boundary, valid until reset().
  std::byte* allocate(int64_t bytes);

  /// Takes everything back. If the last step did not fit into one block, makes one that fits.
  void reset();

  int64_t used() const { return used_; }
  int64_t capacity() const { return capacity_; }

 private:
  struct Block {
    AlignedBytes memory;
    size_t size = 0;
    size_t filled = 0;
  };
  void add_block(size_t size);

  std::vector<Block> blocks_;
  int64_t used_ = 0;
  int64_t capacity_ = 0;
};

}  // namespace ballast
