#include "core/parameter.h"

#include <cstring>

namespace ballast {

namespace {

// Parameters (or joined runs of them) begin at multiples of a cache line of floats.
constexpr int64_t kSlabAlignment = 16;

int64_t round_up(int64_t n) {
  return (n + kSlabAlignment - 1) / kSlabAlignment * kSlabAlignment;
}

Tensor slice(const Tensor& slab, int64_t begin, Shape shape) {
  auto* bytes = static_cast<std::byte*>(slab.memory);
  return {bytes + begin * size_of(slab.dtype), shape, slab.dtype};
}

}  // namespace

Slab::Slab(int64_t size, Dtype dtype)
    : memory_(allocate_aligned(static_cast<size_t>(size * size_of(dtype)))),
      size_(size),
      dtype_(dtype) {
  std::memset(memory_.get(), 0, static_cast<size_t>(size * size_of(dtype)));
}

Tensor Slab::view(const Parameter& p) const {
  return slice(tensor(), p.begin, p.shape);
}

Parameter& ParameterStore::add(std::string name, Shape shape, Role role, bool ends_branch) {
  check(!allocated_, "[parameter] ", name, " was declared after allocate()");
  check(find(name) == nullptr, "[parameter] ", name, " was declared twice");
  slab_size_ = round_up(slab_size_);
  check(shape.size() <= Shape::kMaxSize - kSlabAlignment - slab_size_,
        "[parameter] the number of all elements overflows at ", name);
  Parameter& p = parameters_.emplace_back();
  p.name = std::move(name);
  p.shape = shape;
  p.role = role;
  p.ends_branch = ends_branch;
  p.initial = role == Role::norm ? 1.0 : 0.0;
  p.begin = slab_size_;
  slab_size_ += shape.size();
  return p;
}

JoinedParameter ParameterStore::add_joined(std::span<const Declaration> declarations, Role role) {
  JoinedParameter joined;
  for (const Declaration& d : declarations) {
    const int64_t end = slab_size_;
    Parameter& p = add(d.name, d.shape, role);
    if (!joined.parts.empty()) {
      const Shape& first = joined.parts.front()->shape;
      check(first.rank() == d.shape.rank() && (first.rank() == 1 || first.back() == d.shape.back()),
            "[parameter] ", d.name, " ", d.shape, " cannot be joined to ", first);
      p.begin = end;
      slab_size_ = end + d.shape.size();
    }
    joined.parts.push_back(&p);
  }
  return joined;
}

void ParameterStore::allocate(Dtype dtype, bool with_gradients) {
  check(!allocated_, "[parameter] allocate() was called twice");
  slab_size_ = round_up(slab_size_);
  dtype_ = dtype;
  allocated_ = true;
  has_gradients_ = with_gradients;
  values_ = make_slab();
  if (with_gradients) gradients_ = make_slab();
  for (Parameter& p : parameters_) {
    p.value = values_.view(p);
    if (with_gradients) p.grad = gradients_.view(p);
  }
}

Parameter* ParameterStore::find(std::string_view name) {
  for (Parameter& p : parameters_) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

int64_t ParameterStore::n_elements() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.shape.size();
  return n;
}

Shape ParameterStore::joined_shape(const JoinedParameter& joined) const {
  int64_t rows = 0;
  for (const Parameter* p : joined.parts) rows += p->shape[0];
  const Shape& first = joined.parts.front()->shape;
  return first.rank() == 1 ? Shape{rows} : Shape{rows, first.back()};
}

Tensor ParameterStore::joined_value(const JoinedParameter& joined) const {
  return slice(values_.tensor(), joined.parts.front()->begin, joined_shape(joined));
}

Tensor ParameterStore::joined_grad(const JoinedParameter& joined) const {
  return slice(gradients_.tensor(), joined.parts.front()->begin, joined_shape(joined));
}

void ParameterStore::begin_gradients() {
  for (Parameter& p : parameters_) p.grad_written = false;
}

void ParameterStore::finish_gradients() {
  for (Parameter& p : parameters_) {
    if (p.grad_written) continue;
    std::memset(p.grad.memory, 0, static_cast<size_t>(p.grad.bytes()));
    p.grad_written = true;
  }
}

}  // namespace ballast
