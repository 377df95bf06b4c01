#include "core/parameter.h"

#include <algorithm>
#include <vector>

#include "tests/support/catch.h"

namespace ballast {

namespace {

// What of a slab belongs to a parameter.
std::vector<bool> covered(const ParameterStore& store) {
  std::vector<bool> taken(static_cast<size_t>(store.slab_size()));
  for (const Parameter& p : store.parameters()) {
    for (int64_t i = p.begin; i < p.begin + p.shape.size(); ++i) {
      if (taken[static_cast<size_t>(i)]) FAIL(p.name << " overlaps another parameter");
      taken[static_cast<size_t>(i)] = true;
    }
  }
  return taken;
}

std::vector<ParameterStore::Declaration> qkv(int64_t q, int64_t kv, int64_t in) {
  return {{"wq", Shape{q, in}}, {"wk", Shape{kv, in}}, {"wv", Shape{kv, in}}};
}

}  // namespace

TEST_CASE("parameters begin at cache lines, do not overlap, and lie in one slab",
          "[core][parameter]") {
  const Dtype dtype = GENERATE(Dtype::f32, Dtype::f64);
  ParameterStore store;
  store.add("a", Shape{3, 5}, Role::linear);
  store.add("b", Shape{1}, Role::bias);
  store.add("c", Shape{16}, Role::norm);
  store.add("d", Shape{2}, Role::norm);
  store.allocate(dtype);
  covered(store);
  CHECK(store.n_elements() == 15 + 1 + 16 + 2);
  CHECK(store.slab_size() % 16 == 0);
  for (const Parameter& p : store.parameters()) {
    CHECK(p.begin % 16 == 0);
    CHECK(reinterpret_cast<uintptr_t>(p.value.memory) % 64 == 0);
    CHECK(p.value.shape == p.shape);
    CHECK(p.value.dtype == dtype);
    const auto offset =
        static_cast<std::byte*>(p.value.memory) - static_cast<std::byte*>(store.values().memory);
    CHECK(offset == p.begin * size_of(dtype));
    const auto grad_offset =
        static_cast<std::byte*>(p.grad.memory) - static_cast<std::byte*>(store.gradients().memory);
    CHECK(grad_offset == offset);
  }
}

TEST_CASE("joined parameters lie one after another without a gap", "[core][parameter]") {
  ParameterStore store;
  store.add("before", Shape{3}, Role::norm);
  const JoinedParameter joined = store.add_joined(qkv(6, 3, 5), Role::linear);
  store.add("after", Shape{3}, Role::norm);
  store.allocate(Dtype::f32);
  covered(store);
  REQUIRE(joined.parts.size() == 3);
  CHECK(joined.parts[0]->begin % 16 == 0);
  CHECK(joined.parts[1]->begin == joined.parts[0]->begin + 30);
  CHECK(joined.parts[2]->begin == joined.parts[1]->begin + 15);
  CHECK(store.find("after")->begin % 16 == 0);
  CHECK(store.joined_value(joined).shape == Shape{12, 5});
  // Row 7 of the whole is row 1 of the second part.
  joined.parts[1]->value.data<float>()[5] = 4.0F;
  CHECK(store.joined_value(joined).data<float>()[7 * 5] == 4.0F);
  joined.parts[2]->grad.data<float>()[14] = 2.0F;
  CHECK(store.joined_grad(joined).data<float>()[59] == 2.0F);
}

TEST_CASE("joined biases are one vector", "[core][parameter]") {
  ParameterStore store;
  const ParameterStore::Declaration parts[] = {{"a", Shape{3}}, {"b", Shape{4}}};
  const JoinedParameter joined = store.add_joined(parts, Role::bias);
  store.allocate(Dtype::f64);
  CHECK(store.joined_value(joined).shape == Shape{7});
}

TEST_CASE("slabs are zero at first, and gaps stay so", "[core][parameter]") {
  ParameterStore store;
  store.add("a", Shape{3, 5}, Role::linear);
  store.add("b", Shape{7}, Role::bias);
  store.allocate(Dtype::f32);
  const auto all_zero = [](const Tensor& t) {
    return std::all_of(t.data<float>(), t.data<float>() + t.size(), [](float x) { return x == 0; });
  };
  CHECK(all_zero(store.values()));
  CHECK(all_zero(store.gradients()));
  CHECK(all_zero(store.make_slab().tensor()));
  for (Parameter& p : store.parameters()) {
    std::fill_n(p.value.data<float>(), p.value.size(), 1.0F);
    std::fill_n(p.grad.data<float>(), p.grad.size(), 1.0F);
  }
  store.begin_gradients();
  store.finish_gradients();
  const std::vector<bool> taken = covered(store);
  for (size_t i = 0; i < taken.size(); ++i) {
    CHECK(store.values().data<float>()[i] == (taken[i] ? 1.0F : 0.0F));
    CHECK(store.gradients().data<float>()[i] == 0.0F);
  }
}

TEST_CASE("a name can be declared once, is found, and nothing after allocation",
          "[core][parameter]") {
  ParameterStore store;
  Parameter& a = store.add("blocks.0.a", Shape{2}, Role::linear, true);
  CHECK(a.ends_branch);
  CHECK(store.find("blocks.0.a") == &a);
  CHECK(store.find("blocks.0") == nullptr);
  CHECK_THROWS_WITH(store.add("blocks.0.a", Shape{3}, Role::bias),
                    ContainsSubstring("blocks.0.a was declared twice"));
  for (int i = 0; i < 1000; ++i) store.add(concat("p", i), Shape{1}, Role::bias);
  CHECK(store.find("blocks.0.a") == &a);  // references stay valid
  store.allocate(Dtype::f32);
  CHECK_THROWS_WITH(store.add("late", Shape{1}, Role::bias),
                    ContainsSubstring("late was declared after allocate()"));
  CHECK_THROWS_WITH(store.allocate(Dtype::f32), ContainsSubstring("called twice"));
}

TEST_CASE("parts of different width are not joined", "[core][parameter]") {
  ParameterStore store;
  const ParameterStore::Declaration parts[] = {{"a", Shape{3, 4}}, {"b", Shape{3, 5}}};
  CHECK_THROWS_WITH(store.add_joined(parts, Role::linear),
                    ContainsSubstring("b (3, 5) cannot be joined to (3, 4)"));
  ParameterStore other;
  const ParameterStore::Declaration ranks[] = {{"a", Shape{3, 4}}, {"b", Shape{4}}};
  CHECK_THROWS_WITH(other.add_joined(ranks, Role::linear), ContainsSubstring("cannot be joined"));
}

TEST_CASE("gradients that nothing wrote become zero, written ones stay", "[core][parameter]") {
  ParameterStore store;
  Parameter& written = store.add("written", Shape{3}, Role::linear);
  Parameter& stale = store.add("stale", Shape{3}, Role::linear);
  store.allocate(Dtype::f32);
  std::fill_n(written.grad.data<float>(), 3, 5.0F);
  std::fill_n(stale.grad.data<float>(), 3, 5.0F);
  store.begin_gradients();
  written.grad_written = true;
  store.finish_gradients();
  for (int i = 0; i < 3; ++i) {
    CHECK(written.grad.data<float>()[i] == 5.0F);
    CHECK(stale.grad.data<float>()[i] == 0.0F);
  }
  CHECK(stale.grad_written);  // a further contribution adds to the zero
}

TEST_CASE("without gradients a store holds values alone", "[core][parameter]") {
  ParameterStore store;
  Parameter& p = store.add("p", Shape{3}, Role::linear);
  store.allocate(Dtype::f32, false);
  CHECK_FALSE(store.has_gradients());
  CHECK(p.value.defined());
  CHECK_FALSE(p.grad.defined());
}

TEST_CASE("a store refuses more elements than memory could ever hold", "[core][parameter]") {
  ParameterStore store;
  const Shape large{int64_t{1} << 30, int64_t{1} << 28};
  const auto declare = [&] {
    for (int i = 0; i < 64; ++i) store.add(concat("p", i), large, Role::linear);
  };
  CHECK_THROWS_WITH(declare(), ContainsSubstring("overflows"));
}

}  // namespace ballast
