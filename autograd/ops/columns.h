// What operations over a column range of wider rows share.
#pragma once

#include "autograd/ops.h"

namespace ballast {

/// The range with its width filled in. Throws std::invalid_argument if it leaves the rows.
inline Columns resolved(Columns columns, const Shape& in, const char* op) {
  check(in.rank() >= 1, op, " x is ", in, "; expected at least one dimension");
  const int64_t width = columns.width == 0 ? in.back() - columns.begin : columns.width;
  check(columns.begin >= 0 && width >= 0 && columns.begin + width <= in.back(), op, " columns ",
        columns.begin, " to ", columns.begin + width, " are not in x, which is ", in);
  return {columns.begin, width};
}

inline Shape with_last_dimension(const Shape& in, int64_t width) {
  Shape out;
  for (int i = 0; i + 1 < in.rank(); ++i) out.push_back(in[i]);
  out.push_back(width);
  return out;
}

/// Where the gradient of these columns of `x` goes: all of them are an ordinary input.
inline GradRef grad_of(Tape& tape, Var x, Columns columns) {
  const bool is_whole = columns.width == tape.value(x).shape.back();
  return is_whole ? tape.grad(x) : tape.grad_columns(x, columns.width);
}

}  // namespace ballast
