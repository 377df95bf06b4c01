// A contiguous row-major view of memory that somebody else owns.
#pragma once

#include "core/dtype.h"
#include "core/shape.h"

namespace ballast {

struct Tensor {
  void* memory = nullptr;
  Shape shape;
  Dtype dtype = Dtype::f32;

  Tensor() = default;
  Tensor(void* data, Shape s, Dtype type) : memory(data), shape(s), dtype(type) {}

  template <class T>
  T* data() const {
    check_internal(dtype == dtype_of<T>(), "a ", name_of(dtype), " tensor was read as ",
                   name_of(dtype_of<T>()));
    return static_cast<T*>(memory);
  }
  int64_t size() const { return shape.size(); }
  int64_t bytes() const { return size() * size_of(dtype); }
  bool defined() const { return memory != nullptr; }

  /// The same memory under another shape of equal size.
  Tensor reshaped(Shape s) const {
    check(s.size() == size(), "[reshape] ", shape, " has ", size(), " elements but ", s, " has ",
          s.size());
    return {memory, s, dtype};
  }
};

}  // namespace ballast
