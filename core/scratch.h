// Memory for intermediate results of a kernel: one buffer a thread, which only ever grows.
#pragma once

#include <cstdint>

#include "core/memory.h"

namespace ballast {

/// Bytes ever reserved by scratch buffers of all threads; a test sees that it stops growing.
int64_t scratch_bytes();

/// At least `bytes` uninitialised bytes that belong to the calling thread until its next call with
/// the same slot. Kernels that call each other use different slots.
enum class ScratchSlot { kernel, node, matmul };
std::byte* scratch(ScratchSlot slot, int64_t bytes);

template <class T>
T* scratch(ScratchSlot slot, int64_t n) {
  return reinterpret_cast<T*>(scratch(slot, n * static_cast<int64_t>(sizeof(T))));
}

}  // namespace ballast
