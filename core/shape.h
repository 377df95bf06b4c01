// The sizes of a tensor: up to four dimensions, row-major.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>

#include "core/error.h"

namespace ballast {

class Shape {
 public:
  static constexpr int kMaxRank = 4;
  /// So that the bytes of any element type can be counted in 64 bits.
  static constexpr int64_t kMaxSize = (int64_t{1} << 60) - 1;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    check(dims.size() <= kMaxRank, "[shape] ", dims.size(), " dimensions; at most 4 are supported");
    for (const int64_t d : dims) push_back(d);
  }

  void push_back(int64_t d) {
    check(rank_ < kMaxRank, "[shape] at most 4 dimensions are supported");
    check(d >= 0, "[shape] negative dimension ", d);
    int64_t n;
    check(!__builtin_mul_overflow(size(), d, &n) && n <= kMaxSize,
          "[shape] the number of elements overflows");
    dims_[static_cast<size_t>(rank_++)] = d;
  }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i < 0 ? i + rank_ : i)]; }
  int64_t back() const { return (*this)[-1]; }

  /// Number of elements; 1 for rank 0.
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= (*this)[i];
    return n;
  }
  /// Product of all dimensions but the last.
  int64_t rows() const { return back() == 0 ? 0 : size() / back(); }

  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i) {
      if ((*this)[i] != other[i]) return false;
    }
    return true;
  }

  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '(';
    for (int i = 0; i < shape.rank(); ++i) out << (i == 0 ? "" : ", ") << shape[i];
    return out << ')';
  }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace ballast
