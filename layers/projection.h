// A learned linear map with an optional bias; several that read the same input are one product.
#pragma once

#include <span>
#include <string>

#include "autograd/ops.h"
#include "core/parameter.h"

namespace ballast {

class Projection {
 public:
  struct Part {
    std::string name;   ///< "blocks.0.attn.wq"; declares name.weight and, if asked for, name.bias
    int64_t width = 0;  ///< outputs
    bool has_bias = false;
  };

  /// One weight (sum of widths, in), seen as separate parameters under the parts' names. The parts
  /// with a bias must be neighbours.
  Projection(ParameterStore& store, std::span<const Part> parts, int64_t in);
  /// The last map of a branch (wo, w_down), whose initial values depth scaling reduces.
  static Projection branch_end(ParameterStore& store, const Part& part, int64_t in);

  /// x: (..., in), returns (..., sum of widths): the parts' outputs side by side.
  Var operator()(Tape& tape, Var x) const;

 private:
  const ParameterStore* store_;
  JoinedParameter weight_, bias_;
  Columns bias_columns_;  // the outputs with a bias
};

}  // namespace ballast
