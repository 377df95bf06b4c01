#include "autograd/tape.h"

#include <cstring>

#include "core/kernels/elementwise.h"

namespace ballast {

namespace {

void copy_values(const Tensor& from, const Tensor& to) {
  dispatch(from.dtype, [&]<class T>() { copy(from.data<T>(), from.size(), to.data<T>()); });
}

}  // namespace

void Tape::reset() {
  slots_.clear();
  nodes_.clear();
  pool_.reset();
  arena_.reset();
  scope_ = scope_path_.empty() ? "" : copy_scope();
  ++generation_;
}

Tape::Slot& Tape::slot(Var v) {
#ifndef NDEBUG
  check_internal(v.defined() && v.generation_ == generation_,
                 "a value was used after its tape was reset");
#endif
  return slots_[static_cast<size_t>(v.index_)];
}

Var Tape::add_slot(Slot s) {
  slots_.push_back(s);
  return {static_cast<int32_t>(slots_.size() - 1), generation_};
}

Var Tape::constant(Tensor value) {
  Slot s;
  s.value = value;
  return add_slot(s);
}

Var Tape::add_parameter(Tensor value, Tensor grad, Parameter* const* parts, size_t n_parts) {
  check(value.dtype == dtype_, "[tape] a ", name_of(value.dtype), " parameter on a ",
        name_of(dtype_), " tape");
  Slot s;
  s.value = value;
  s.parameter_grad = grad;
  s.parts = parts;
  s.n_parts = static_cast<int32_t>(n_parts);
  s.needs_grad = grad.defined();
  return add_slot(s);
}

Var Tape::parameter(const ParameterStore&, Parameter& p) {
  auto** part = allocate_array<Parameter*>(1);
  *part = &p;
  return add_parameter(p.value, p.grad, part, 1);
}

Var Tape::parameter(const ParameterStore& store, const JoinedParameter& joined) {
  return add_parameter(store.joined_value(joined),
                       store.has_gradients() ? store.joined_grad(joined) : Tensor{},
                       joined.parts.data(), joined.parts.size());
}

Tensor Tape::allocate(Shape shape, Dtype dtype) {
  return {arena_.allocate(shape.size() * size_of(dtype)), shape, dtype};
}

Var Tape::add_output(Node& node, Tensor memory, std::initializer_list<Var> inputs) {
  Slot s;
  s.value = memory;
  s.producer = &node;
  for (const Var input : inputs) {
    if (!input.defined()) continue;
    check_internal(!slot(input).overwritten,
                   "an operation reads a value that was changed in place");
    s.needs_grad = s.needs_grad || needs_grad(input);
    ++slot(input).n_uses;
  }
  check_internal(static_cast<size_t>(node.record.n_outputs) < Node::Record::kMaxOutputs,
                 "a node has too many outputs");
  const Var v = add_slot(s);
  node.record.outputs[static_cast<size_t>(node.record.n_outputs++)] = v;
  return v;
}

Var Tape::output(Node& node, Shape shape, std::initializer_list<Var> inputs) {
  return add_output(node, allocate(shape, dtype_), inputs);
}

Var Tape::output_in_place(Node& node, Var input, std::initializer_list<Var> inputs) {
  const Slot from = slot(input);
  const bool exclusive =
      from.n_uses == 0 && from.producer != nullptr && !from.producer->keeps_output();
  Tensor memory = from.value;
  if (!exclusive) {
    memory = allocate(from.value.shape, dtype_);
    copy_values(from.value, memory);
  }
  const Var v = add_output(node, memory, inputs);
  slot(input).overwritten = exclusive;
  return v;
}

void Tape::run(Node& node) {
  node.record.scope = scope_;
  node.forward(*this);
  if (recording_) nodes_.push_back(&node);
  if (!subscriptions_.empty()) notify(node, false);
}

void Tape::backward(Var loss) {
  check(recording_, "[tape] backward() on a tape that was not recording");
  check(value(loss).size() == 1, "[tape] backward() needs a single element but the value is ",
        value(loss).shape);
  if (!needs_grad(loss)) return;
  const GradRef seed = grad(loss);
  dispatch(dtype_, [&]<class T>() { *seed.data<T>() = T(1); });
  for (size_t i = nodes_.size(); i-- > 0;) {
    Node& node = *nodes_[i];
    bool reached = false;
    for (int o = 0; o < node.record.n_outputs; ++o) {
      reached =
          reached || slot(node.record.outputs[static_cast<size_t>(o)]).grad != BufferPool::kNone;
    }
    if (!reached) continue;
    check_columns(node);
    if (!subscriptions_.empty()) notify(node, true);
    node.backward(*this);
    for (int o = 0; o < node.record.n_outputs; ++o) {
      Slot& s = slot(node.record.outputs[static_cast<size_t>(o)]);
      if (s.grad == BufferPool::kNone) continue;
      pool_.release(s.grad);
      s.grad = BufferPool::kNone;
      s.columns_written = 0;
    }
  }
}

void Tape::check_columns(const Node& node) {
  for (int o = 0; o < node.record.n_outputs; ++o) {
    const Slot& s = slot(node.record.outputs[static_cast<size_t>(o)]);
    check_internal(s.columns_written == 0 || s.columns_written == s.value.shape.back(),
                   "some columns of a gradient were never written");
  }
}

Tensor Tape::gradient(Var v) const {
  const Slot& s = slot(v);
  if (s.parts != nullptr) return s.parameter_grad;
  return s.grad == BufferPool::kNone ? Tensor{} : grad_tensor(s.grad, s.value.shape);
}

// Somebody is about to add to a gradient that another value shares: from here on they differ.
void Tape::make_exclusive(Slot& s) {
  if (!pool_.is_shared(s.grad)) return;
  const BufferPool::Handle own = pool_.acquire(s.value.bytes());
  copy_values(grad_tensor(s.grad, s.value.shape), grad_tensor(own, s.value.shape));
  pool_.release(s.grad);
  s.grad = own;
}

GradRef Tape::open_grad(Var output) {
  Slot& s = slot(output);
  const bool has_gradient = s.grad != BufferPool::kNone;
  if (has_gradient) {
    make_exclusive(s);
  } else {
    s.grad = pool_.acquire(s.value.bytes());
  }
  return {grad_tensor(s.grad, s.value.shape), has_gradient};
}

GradRef Tape::grad(Var input) {
  if (!needs_grad(input)) return {};
  Slot& s = slot(input);
  if (s.parts != nullptr) {
    const bool written = s.parts[0]->grad_written;
    for (int32_t i = 0; i < s.n_parts; ++i) s.parts[i]->grad_written = true;
    return {s.parameter_grad, written};
  }
  return open_grad(input);
}

GradRef Tape::grad_columns(Var input, int64_t width) {
  if (!needs_grad(input)) return {};
  Slot& s = slot(input);
  check_internal(s.parts == nullptr, "a parameter's gradient was asked for by columns");
  check_internal((s.grad == BufferPool::kNone) == (s.columns_written == 0),
                 "a value is read both whole and by columns");
  const GradRef gradient = open_grad(input);
  s.columns_written += width;
  return {gradient.tensor, false};
}

Tensor Tape::exclusive_output_grad(Var output) {
  make_exclusive(slot(output));
  return gradient(output);
}

void Tape::pass_grad(Var output, Var input) {
  if (!needs_grad(input)) return;
  const BufferPool::Handle from = slot(output).grad;
  Slot& to = slot(input);
  if (to.parts == nullptr && to.grad == BufferPool::kNone) {
    pool_.add_reference(from);
    to.grad = from;
    return;
  }
  accumulate(from, input);
}

BufferPool::Handle Tape::acquire_grad(Shape shape) {
  return pool_.acquire(shape.size() * size_of(dtype_));
}

Tensor Tape::grad_tensor(BufferPool::Handle handle, Shape shape) const {
  return {pool_.data(handle), shape, dtype_};
}

void Tape::give_grad(BufferPool::Handle handle, Var input) {
  Slot& s = slot(input);
  if (needs_grad(input) && s.parts == nullptr && s.grad == BufferPool::kNone) {
    s.grad = handle;
    return;
  }
  accumulate(handle, input);
  pool_.release(handle);
}

// Adds a buffer to a gradient that somebody contributed to already, or that lives in a slab.
void Tape::accumulate(BufferPool::Handle from, Var input) {
  const GradRef target = grad(input);
  if (!target) return;
  const Tensor source = grad_tensor(from, target.tensor.shape);
  if (!target.accumulate) {
    copy_values(source, target.tensor);
    return;
  }
  dispatch(dtype_,
           [&]<class T>() { add_inplace(source.data<T>(), source.size(), target.data<T>()); });
}

const char* Tape::copy_scope() {
  char* copy = allocate_array<char>(static_cast<int64_t>(scope_path_.size()) + 1);
  std::memcpy(copy, scope_path_.c_str(), scope_path_.size() + 1);
  return copy;
}

Tape::Scope::Scope(Tape& tape, std::string_view name)
    : tape_(tape), parent_length_(tape.scope_path_.size()), parent_(tape.scope_) {
  if (!tape.scope_path_.empty()) tape.scope_path_ += '.';
  tape.scope_path_ += name;
  tape.scope_ = tape.copy_scope();
}

Tape::Scope::~Scope() {
  tape_.scope_path_.resize(parent_length_);
  tape_.scope_ = parent_;
}

void Tape::observe(std::string pattern, TapeObserver& observer) {
  subscriptions_.push_back({std::move(pattern), &observer});
}

void Tape::stop_observing(const TapeObserver& observer) {
  std::erase_if(subscriptions_, [&](const Subscription& s) { return s.observer == &observer; });
}

void Tape::notify(const Node& node, bool backward) {
  const std::string full_name = std::string(node.record.scope) + ':' + node.name();
  for (const Subscription& s : subscriptions_) {
    if (!matches(s.pattern, full_name)) continue;
    for (int o = 0; o < node.record.n_outputs; ++o) {
      const Var v = node.record.outputs[static_cast<size_t>(o)];
      if (!backward) {
        s.observer->on_value(node.record.scope, node.name(), value(v));
      } else if (const Tensor g = gradient(v); g.defined()) {
        s.observer->on_gradient(node.record.scope, node.name(), g);
      }
    }
  }
}

}  // namespace ballast
