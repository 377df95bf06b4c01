#include "core/tensor.h"

#include <array>

#include "tests/support/catch.h"

namespace ballast {

TEST_CASE("a shape knows its elements, its rows and its last dimension", "[core][shape]") {
  const Shape s{2, 3, 5};
  CHECK(s.rank() == 3);
  CHECK(s.size() == 30);
  CHECK(s.rows() == 6);
  CHECK(s.back() == 5);
  CHECK(s[-2] == 3);
  CHECK(concat(s) == "(2, 3, 5)");
  CHECK(Shape{}.size() == 1);
  CHECK(concat(Shape{}) == "()");
  CHECK(Shape{7}.rows() == 1);
  CHECK(Shape{4, 0}.size() == 0);
  CHECK(Shape{4, 0}.rows() == 0);
}

TEST_CASE("shapes are equal only when all dimensions are", "[core][shape]") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
  CHECK_FALSE(Shape{} == Shape{1});
}

TEST_CASE("a shape refuses what it cannot hold", "[core][shape]") {
  CHECK_THROWS_WITH((Shape{1, 2, 3, 4, 5}), ContainsSubstring("5 dimensions; at most 4"));
  CHECK_THROWS_WITH((Shape{2, -1}), ContainsSubstring("negative dimension -1"));
  Shape full{1, 2, 3, 4};
  CHECK_THROWS_WITH(full.push_back(5), ContainsSubstring("at most 4 dimensions"));
}

TEST_CASE("a shape refuses more elements than memory could ever hold", "[core][shape]") {
  const int64_t big = int64_t{1} << 31;
  CHECK_THROWS_WITH((Shape{big, big, 2}), ContainsSubstring("overflows"));
  // Their bytes would not fit into 64 bits, and wrap around to few.
  CHECK_THROWS_WITH((Shape{big, big}), ContainsSubstring("overflows"));
  CHECK(Shape{big, 1024}.size() == big * 1024);
}

TEST_CASE("a tensor can be seen under another shape of equal size", "[core][tensor]") {
  std::array<float, 12> data{};
  const Tensor t(data.data(), Shape{3, 4}, Dtype::f32);
  CHECK(t.bytes() == 48);
  const Tensor r = t.reshaped(Shape{2, 2, 3});
  CHECK(r.memory == t.memory);
  CHECK(r.shape == Shape{2, 2, 3});
  CHECK_THROWS_WITH(t.reshaped(Shape{5, 2}),
                    ContainsSubstring("[reshape] (3, 4) has 12 elements but (5, 2) has 10"));
}

TEST_CASE("reading a tensor as another type is an error of ours", "[core][tensor]") {
  std::array<float, 2> data{};
  const Tensor t(data.data(), Shape{2}, Dtype::f32);
  CHECK(t.data<float>() == data.data());
  CHECK_THROWS_AS(t.data<double>(), InternalError);
  CHECK_THROWS_WITH(t.data<double>(), ContainsSubstring("a f32 tensor was read as f64"));
}

}  // namespace ballast
