#include "layers/position.h"

namespace ballast {

const RopeTable& RopeTables::get(Dtype dtype, int64_t n_positions) {
  const bool fits =
      table_.cos.defined() && table_.cos.dtype == dtype && table_.cos.shape[0] >= n_positions;
  if (fits) return table_;
  const Shape shape{n_positions, width_ / 2};
  const int64_t bytes = shape.size() * size_of(dtype);
  memory_ = allocate_aligned(static_cast<size_t>(2 * bytes));
  table_ = {{memory_.get(), shape, dtype}, {memory_.get() + bytes, shape, dtype}};
  dispatch(dtype, [&]<class T>() {
    rope_table(theta_, width_, n_positions, table_.cos.data<T>(), table_.sin.data<T>());
  });
  return table_;
}

}  // namespace ballast
