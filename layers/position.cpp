#include "layers/position.h"

#include <algorithm>

namespace ballast {

const RopeTable& RopeTables::get(Dtype dtype, int64_t n_positions) {
  const bool has_table = table_.cos.defined() && table_.cos.dtype == dtype;
  const int64_t n_rows = has_table ? table_.cos.shape[0] : 0;
  if (n_positions <= n_rows) return table_;
  // Generation asks for one position more at every token: doubling keeps that cheap.
  const Shape shape{std::max(n_positions, 2 * n_rows), width_ / 2};
  const int64_t bytes = shape.size() * size_of(dtype);
  memory_ = allocate_aligned(static_cast<size_t>(2 * bytes));
  table_ = {{memory_.get(), shape, dtype}, {memory_.get() + bytes, shape, dtype}};
  dispatch(dtype, [&]<class T>() {
    rope_table(theta_, width_, shape[0], table_.cos.data<T>(), table_.sin.data<T>());
  });
  return table_;
}

}  // namespace ballast
