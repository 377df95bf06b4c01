// Owned memory, aligned for vector loads; the two allocators of a training step build on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace ballast {

inline constexpr size_t kAlignment = 64;

constexpr size_t aligned_size(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

struct FreeDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeDeleter>;

/// `bytes` uninitialised bytes at a 64-byte boundary. Throws std::bad_alloc.
inline AlignedBytes allocate_aligned(size_t bytes) {
  void* p = std::aligned_alloc(kAlignment, aligned_size(bytes == 0 ? 1 : bytes));
  if (p == nullptr) throw std::bad_alloc();
  return AlignedBytes(static_cast<std::byte*>(p));
}

}  // namespace ballast
