// The tape: operations run as they are recorded; backward() goes through them in reverse.
#pragma once

#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "autograd/node.h"
#include "autograd/observer.h"
#include "core/arena.h"
#include "core/buffer_pool.h"
#include "core/parameter.h"

namespace ballast {

/// Where a contribution to a gradient goes. Undefined: nobody needs that gradient.
struct GradRef {
  Tensor tensor;
  bool accumulate = false;  ///< false: overwrite, the memory is uninitialised; true: add
  explicit operator bool() const { return tensor.defined(); }
  template <class T>
  T* data() const {
    return tensor.defined() ? tensor.data<T>() : nullptr;
  }
};

class Tape {
 public:
  /// dtype: of all values: f32 to train, f64 to check gradients.
  explicit Tape(Dtype dtype = Dtype::f32) : dtype_(dtype) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Forgets all values and nodes and rewinds the arena. Parameters' gradients stay.
  void reset();

  /// With recording off nothing is kept for a backward pass: evaluation, generation.
  void set_recording(bool recording) { recording_ = recording; }
  bool recording() const { return recording_; }
  Dtype dtype() const { return dtype_; }

  // Values

  /// A value nobody differentiates. The memory must outlive the step.
  Var constant(Tensor value);
  /// A parameter; its gradient accumulates in the store's slab over all uses and backward passes
  /// since ParameterStore::begin_gradients().
  Var parameter(const ParameterStore& store, Parameter& p);
  Var parameter(const ParameterStore& store, const JoinedParameter& joined);
  /// By value: the list of values moves as it grows, and operations record more while they read it.
  Tensor value(Var v) const { return slot(v).value; }

  /// Runs the reverse pass from `loss`, a single element, with dL/dloss = 1.
  void backward(Var loss);
  /// Gradient of an intermediate value while a backward pass is under way, or of a parameter.
  Tensor gradient(Var v) const;

  // Scopes and observers

  class Scope {
   public:
    Scope(Tape& tape, std::string_view name);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Tape& tape_;
    size_t parent_length_;
    const char* parent_;
  };
  /// Names what is recorded until the returned object dies: "blocks.3" then "attn" is
  /// "blocks.3.attn".
  [[nodiscard]] Scope scope(std::string_view name) { return Scope(*this, name); }
  /// The observer must outlive the tape or be removed.
  void observe(std::string pattern, TapeObserver& observer);
  void stop_observing(const TapeObserver& observer);

  // For operations

  /// A node in the step arena.
  template <class N>
  N& make() {
    static_assert(std::is_trivially_destructible_v<N>,
                  "nodes own nothing: the arena never destroys them");
    return *new (arena_.allocate(sizeof(N))) N();
  }
  /// A new output of `node`, uninitialised; differentiable if one of the inputs is.
  Var output(Node& node, Shape shape, std::initializer_list<Var> inputs);
  /// An output that takes over the memory of `input`, which nobody reads afterwards: the node
  /// changes it in place. Falls back to new memory where `input` is read elsewhere.
  Var output_in_place(Node& node, Var input, std::initializer_list<Var> inputs);
  /// Runs forward() and, when recording, appends the node.
  void run(Node& node);
  /// Memory until reset() for what backward reads; n elements of the tape's dtype.
  Tensor saved(int64_t n) { return allocate(Shape{n}, dtype_); }
  Tensor allocate(Shape shape, Dtype dtype);
  /// n uninitialised objects until reset().
  template <class T>
  T* allocate_array(int64_t n) {
    static_assert(std::is_trivially_destructible_v<T>);
    return reinterpret_cast<T*>(arena_.allocate(n * static_cast<int64_t>(sizeof(T))));
  }
  bool needs_grad(Var v) const { return recording_ && v.defined() && slot(v).needs_grad; }

  /// In backward(): the gradient of a node's output. Undefined if nothing contributed to it.
  Tensor output_grad(Var output) const { return gradient(output); }
  /// The same, for a node that changes it in place before passing it on.
  Tensor exclusive_output_grad(Var output);
  /// In backward(): the gradient of an output as something to add to: for a node that passes on the
  /// gradient of one output plus what another output contributes.
  GradRef open_grad(Var output);
  /// In backward(): where to put a contribution to an input's gradient.
  GradRef grad(Var input);
  /// In backward(): where to write `width` columns of an input's gradient. For nodes that share an
  /// input and each read columns of their own: nothing is there to add to, and together they must
  /// write all columns.
  GradRef grad_columns(Var input, int64_t width);
  /// In backward(): the whole contribution to `input` equals the gradient of `output`. Costs
  /// nothing for the first contribution: both then share one buffer until somebody adds to it.
  void pass_grad(Var output, Var input);
  /// A buffer for a gradient that is computed ahead of the backward pass; `give_grad` hands it
  /// over.
  BufferPool::Handle acquire_grad(Shape shape);
  Tensor grad_tensor(BufferPool::Handle handle, Shape shape) const;
  void give_grad(BufferPool::Handle handle, Var input);

  // For tests and monitors
  int64_t arena_bytes() const { return arena_.capacity(); }
  int64_t pool_bytes() const { return pool_.capacity(); }
  int64_t n_nodes() const { return static_cast<int64_t>(nodes_.size()); }
  /// Calls fn(scope, op name) for each recorded node.
  template <class F>
  void for_each_node(F&& fn) const {
    for (const Node* node : nodes_) fn(node->record.scope, node->name());
  }

 private:
  struct Slot {
    Tensor value;
    Node* producer = nullptr;
    BufferPool::Handle grad = BufferPool::kNone;
    Parameter* const* parts = nullptr;  // parameters only
    int32_t n_parts = 0;
    int32_t n_uses = 0;
    bool needs_grad = false;
    bool overwritten = false;     // a later node works in its memory
    int64_t columns_written = 0;  // by grad_columns()
    Tensor parameter_grad;
  };
  struct Subscription {
    std::string pattern;
    TapeObserver* observer;
  };

  Slot& slot(Var v);
  const Slot& slot(Var v) const { return const_cast<Tape*>(this)->slot(v); }
  Var add_slot(Slot slot);
  Var add_parameter(Tensor value, Tensor grad, Parameter* const* parts, size_t n_parts);
  const char* copy_scope();
  void notify(const Node& node, bool backward);
  void make_exclusive(Slot& s);
  void check_columns(const Node& node);
  Var add_output(Node& node, Tensor memory, std::initializer_list<Var> inputs);
  void accumulate(BufferPool::Handle from, Var input);

  Dtype dtype_;
  bool recording_ = true;
  StepArena arena_;
  BufferPool pool_;
  std::vector<Slot> slots_;
  std::vector<Node*> nodes_;
  std::vector<Subscription> subscriptions_;
  std::string scope_path_;
  const char* scope_ = "";  // the path's copy in the arena, shared by the nodes recorded under it
  uint32_t generation_ = 0;
};

}  // namespace ballast
