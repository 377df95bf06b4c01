// A node of the tape: one operation with its forward and its backward. One without the other does
// not compile.
//
// The gradient contract:
//  - forward() writes every element of its outputs; they arrive uninitialised.
//  - backward() adds to the gradients of its inputs: Tape::grad(x) says where, and whether the
//  first
//    contribution (overwrite, the old content may be anything) or a later one (add).
//  - backward() never reads an input's gradient and changes no value.
//  - A node saves only what its backward reads, in Tape::saved(); kernels allocate nothing.
//  - A node that hands its output's memory to nobody and needs its value in backward says so with
//    keeps_output(), so that the next operation does not overwrite it in place.
#pragma once

#include <array>
#include <cstdint>

#include "core/tensor.h"

namespace ballast {

class Tape;

/// Handle of a value on a tape; valid until Tape::reset().
class Var {
 public:
  Var() = default;
  bool defined() const { return index_ >= 0; }

 private:
  friend class Tape;
  Var(int32_t index, uint32_t generation) : index_(index), generation_(generation) {}
  int32_t index_ = -1;
  uint32_t generation_ = 0;  // of the tape when the value was made; checked in debug builds
};

class Node {
 public:
  /// Name of the operation, one of kOpNames.
  virtual const char* name() const = 0;
  virtual void forward(Tape& tape) = 0;
  virtual void backward(Tape& tape) = 0;
  /// True if backward() reads the value of an output.
  virtual bool keeps_output() const { return false; }

  /// What the tape knows of a recorded node.
  struct Record {
    static constexpr size_t kMaxOutputs = 2;
    std::array<Var, kMaxOutputs> outputs;
    int n_outputs = 0;
    const char* scope = "";
  };
  Record record;

 protected:
  // Nodes live in the step arena and are never destroyed: they own nothing.
  ~Node() = default;
};

}  // namespace ballast
