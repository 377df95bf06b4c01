// Parameters: named views into slabs that hold all values, or all gradients, one after another.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/memory.h"
#include "core/tensor.h"

namespace ballast {

/// What a parameter is for; decides its initial value and whether weight decay reaches it.
enum class Role {
  embedding,  ///< token embedding, also when it serves as a tied head
  position,   ///< learned positions; decays as the embedding does
  linear,     ///< weight (out, in) of a product
  head,       ///< untied output head (V, D)
  norm,       ///< gains of norms, layer scales: start at 1
  offset,     ///< gains stored as w and applied as 1 + w: start at 0, otherwise as norm
  bias,       ///< biases, sinks, bias tables: start at 0
};

struct Parameter {
  std::string name;  ///< as in checkpoints: "blocks.3.attn.wq.weight"
  Shape shape;
  Role role = Role::linear;
  bool ends_branch = false;  ///< wo and w_down: `init.depth_scale` applies
  double initial = 0.0;      ///< of a parameter that starts as a constant
  int64_t begin = 0;         ///< first element in every slab of the store
  Tensor value;
  Tensor grad;
  /// False until a backward pass has written the gradient: the first contribution overwrites.
  bool grad_written = false;
};

/// Consecutive parameters seen as one matrix: wq, wk, wv are one product. Rows add up, columns
/// agree.
struct JoinedParameter {
  std::vector<Parameter*> parts;
  bool defined() const { return !parts.empty(); }
};

/// One number for each parameter element, laid out as the store says: moments, saved copies.
class Slab {
 public:
  Slab() = default;
  Slab(int64_t size, Dtype dtype);  ///< zero-filled

  Tensor tensor() const { return {memory_.get(), Shape{size_}, dtype_}; }
  Tensor view(const Parameter& p) const;
  int64_t size() const { return size_; }

 private:
  AlignedBytes memory_;
  int64_t size_ = 0;
  Dtype dtype_ = Dtype::f32;
};

class ParameterStore {
 public:
  ParameterStore() = default;
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  /// Declares a parameter. The reference stays valid for the store's life.
  /// Throws std::invalid_argument if the name is taken or the store is allocated already.
  Parameter& add(std::string name, Shape shape, Role role, bool ends_branch = false);

  /// Declares parameters that lie one after another without a gap, so that they also form one
  /// matrix (or, of rank 1, one vector). All but the first dimension must agree.
  struct Declaration {
    std::string name;
    Shape shape;
  };
  JoinedParameter add_joined(std::span<const Declaration> declarations, Role role);

  /// Makes the slabs, zero-filled. Nothing can be declared afterwards.
  /// without_gradients: for evaluation and generation.
  void allocate(Dtype dtype, bool with_gradients = true);

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  Parameter* find(std::string_view name);
  Dtype dtype() const { return dtype_; }
  bool has_gradients() const { return has_gradients_; }

  /// Number of elements of all parameters (gaps between them are not counted).
  int64_t n_elements() const;
  /// Number of elements of a slab, gaps included; gaps are always zero.
  int64_t slab_size() const { return slab_size_; }
  Slab make_slab() const { return Slab(slab_size_, dtype_); }
  Tensor values() const { return values_.tensor(); }
  Tensor gradients() const { return gradients_.tensor(); }

  /// Values and gradients of joined parameters as one tensor.
  Tensor joined_value(const JoinedParameter& joined) const;
  Tensor joined_grad(const JoinedParameter& joined) const;

  /// Before the first backward pass of a step: the next contribution to each gradient overwrites
  /// it.
  void begin_gradients();
  /// After the last backward pass of a step: gradients that nothing contributed to become zero.
  void finish_gradients();

 private:
  Shape joined_shape(const JoinedParameter& joined) const;

  std::deque<Parameter> parameters_;
  Slab values_, gradients_;
  int64_t slab_size_ = 0;
  Dtype dtype_ = Dtype::f32;
  bool allocated_ = false;
  bool has_gradients_ = false;
};

}  // namespace ballast
