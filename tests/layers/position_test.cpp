#include "layers/position.h"

#include <cmath>

#include "tests/support/catch.h"

namespace ballast::test {

TEST_CASE("rope's table holds cos and sin of t theta^(-2i/d)", "[layers][position]") {
  RopeTables tables(100.0, 6);
  const RopeTable& table = tables.get(Dtype::f64, 5);
  CHECK(table.cos.shape[0] >= 5);
  CHECK(table.cos.shape[1] == 3);
  for (int64_t t = 0; t < 5; ++t) {
    for (int64_t i = 0; i < 3; ++i) {
      const double angle =
          static_cast<double>(t) * std::pow(100.0, -2.0 * static_cast<double>(i) / 6.0);
      CHECK(table.cos.data<double>()[3 * t + i] == Approx(std::cos(angle)).margin(1e-14));
      CHECK(table.sin.data<double>()[3 * t + i] == Approx(std::sin(angle)).margin(1e-14));
    }
  }
}

TEST_CASE("rope's table is made once for all positions up to its size", "[layers][position]") {
  RopeTables tables(100.0, 6);
  const void* memory = tables.get(Dtype::f32, 50).cos.memory;
  CHECK(tables.get(Dtype::f32, 50).cos.memory == memory);
  CHECK(tables.get(Dtype::f32, 3).cos.memory == memory);
  CHECK(tables.get(Dtype::f64, 3).cos.dtype == Dtype::f64);
}

TEST_CASE("rope's table at least doubles, so that token after token does not remake it",
          "[layers][position]") {
  RopeTables tables(100.0, 6);
  tables.get(Dtype::f32, 8);
  const RopeTable& grown = tables.get(Dtype::f32, 9);
  CHECK(grown.cos.shape[0] >= 16);
  const void* memory = grown.cos.memory;
  CHECK(tables.get(Dtype::f32, 16).cos.memory == memory);
}

}  // namespace ballast::test
