#include "core/kernels/t5_bias.h"

#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"
#include "tests/support/reference.h"

namespace ballast::test {

void add_t5_bias_cases(GradcheckCases& cases) {
  cases.push_back({"t5_bias",
                   [](ParameterStore& s) {
                     s.add("table", Shape{8, 3}, Role::bias);
                   },
                   [](Tape& tape, ParameterStore& s) {
                     static const std::vector<int32_t> buckets = t5_buckets(8, 20);
                     return t5_bias(tape, parameter(tape, s, "table"), buckets, 40);
                   }});
}

TEST_CASE("t5_bias reads the bucket of each distance, one column of the table for each head",
          "[autograd][t5_bias]") {
  const int64_t n_buckets = GENERATE(2, 7, 8, 32);
  const int64_t max_distance = GENERATE(20, 128);
  constexpr int64_t kH = 3, kN = 300;
  std::vector<float> table;
  for (int64_t i = 0; i < n_buckets * kH; ++i) table.push_back(static_cast<float>(i));
  const std::vector<int32_t> buckets = t5_buckets(n_buckets, max_distance);
  Tape tape;
  const Var y =
      t5_bias(tape, tape.constant({table.data(), Shape{n_buckets, kH}, Dtype::f32}), buckets, kN);
  CHECK(tape.value(y).shape == Shape{kH, kN});
  int64_t wrong = 0;
  for (int64_t h = 0; h < kH; ++h) {
    for (int64_t d = 0; d < kN; ++d) {
      const int64_t bucket = reference::t5_bucket(d, n_buckets, max_distance);
      wrong += tape.value(y).data<float>()[h * kN + d] != static_cast<float>(bucket * kH + h);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("t5_bias refuses a table without its buckets, and distances without logarithmic buckets",
          "[autograd][t5_bias]") {
  float table[32] = {};
  const std::vector<int32_t> buckets = t5_buckets(32, 128);
  Tape tape;
  const Var flat = tape.constant({table, Shape{32}, Dtype::f32});
  CHECK_THROWS_WITH(t5_bias(tape, flat, buckets, 10),
                    ContainsSubstring("[t5_bias] table is (32); expected (n_buckets, n_heads)"));
  const Var small = tape.constant({table, Shape{31, 1}, Dtype::f32});
  CHECK_THROWS_WITH(t5_bias(tape, small, buckets, 10),
                    ContainsSubstring("[t5_bias] buckets 0 to 31 in a table of 31"));
  const Var good = tape.constant({table, Shape{32, 1}, Dtype::f32});
  CHECK_THROWS_WITH(t5_bias(tape, good, {}, 10), ContainsSubstring("no distance has a bucket"));
  CHECK_THROWS_WITH(t5_bias(tape, good, buckets, 0), ContainsSubstring("n_positions is 0"));
  CHECK_THROWS_WITH(t5_buckets(32, 16),
                    ContainsSubstring("max_distance is 16; expected more than 16"));
  CHECK_THROWS_WITH(t5_buckets(1, 16), ContainsSubstring("at least 2"));
}

}  // namespace ballast::test
