#include <vector>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

namespace {

// Tables for d_rot channels, as the model makes them.
struct Tables {
  std::vector<double> cos, sin;
  RopeTable table;
  Tables(int64_t d_rot, int64_t n) : cos(static_cast<size_t>(n * d_rot / 2)), sin(cos.size()) {
    rope_table(10000.0, d_rot, n, cos.data(), sin.data());
    table = {{cos.data(), Shape{n, d_rot / 2}, Dtype::f64},
             {sin.data(), Shape{n, d_rot / 2}, Dtype::f64}};
  }
};

}  // namespace

void add_rope_cases(GradcheckCases& cases) {
  for (const RopeLayout layout : {RopeLayout::half, RopeLayout::interleaved}) {
    for (const int64_t d_rot : {2, 4, 6}) {
      // Two rotated heads of six channels, one head that stays.
      static const Tables tables[] = {{2, 5}, {4, 5}, {6, 5}};
      const RopeTable& table = tables[d_rot / 2 - 1].table;
      const auto declare = [](ParameterStore& s) { s.add("x", Shape{2, 5, 18}, Role::linear); };
      cases.push_back({concat("rope of ", d_rot, " channels, layout ", static_cast<int>(layout)),
                       declare, [=](Tape& tape, ParameterStore& s) {
                         return rope(tape, parameter(tape, s, "x"), table,
                                     {.n_heads = 2, .head_dim = 6, .layout = layout});
                       }});
      cases.push_back(
          {concat("rope in place of ", d_rot, " channels, layout ", static_cast<int>(layout)),
           [](ParameterStore& s) {
             s.add("x", Shape{2, 5, 3}, Role::linear);
             s.add("w", Shape{18, 3}, Role::linear);
           },
           [=](Tape& tape, ParameterStore& s) {
             const Var y = linear(tape, parameter(tape, s, "x"), parameter(tape, s, "w"));
             return rope(tape, y, table, {.n_heads = 2, .head_dim = 6, .layout = layout});
           }});
    }
  }
}

TEST_CASE("rope keeps lengths and makes products depend on the distance alone",
          "[autograd][rope]") {
  const Tables tables(4, 16);
  double x[16 * 8];  // the same query and key at every position
  for (int t = 0; t < 16; ++t) {
    for (int i = 0; i < 8; ++i) x[t * 8 + i] = 1.0 + i * 0.3;
  }
  Tape tape(Dtype::f64);
  const Var y = rope(tape, tape.constant({x, Shape{1, 16, 8}, Dtype::f64}), tables.table,
                     {.n_heads = 2, .head_dim = 4});
  const double* r = tape.value(y).data<double>();
  const auto product = [&](int i, int j) {
    double sum = 0.0;
    for (int c = 0; c < 4; ++c) sum += r[i * 8 + c] * r[j * 8 + 4 + c];
    return sum;
  };
  CHECK(product(5, 2) == Approx(product(12, 9)));
  CHECK(product(5, 2) != Approx(product(5, 3)));
}

TEST_CASE("rope refuses positions beyond its table", "[autograd][rope]") {
  const Tables tables(4, 3);
  double x[32] = {};
  Tape tape(Dtype::f64);
  const Var in = tape.constant({x, Shape{1, 4, 8}, Dtype::f64});
  CHECK_THROWS_WITH(rope(tape, in, tables.table, {.n_heads = 2, .head_dim = 4}),
                    ContainsSubstring("4 positions are needed but the table has 3"));
}

}  // namespace ballast::test
