#include <cmath>

#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

void add_attention_cases(GradcheckCases& cases) {
  struct Heads {
    int64_t h, k, hd, t;
  };
  for (const Heads z : {Heads{2, 2, 4, 5}, Heads{4, 2, 3, 7}, Heads{3, 1, 5, 6}, Heads{1, 1, 2, 1},
                        Heads{2, 1, 3, 70}}) {
    for (const double rate : {0.0, 0.3}) {
      cases.push_back({concat("causal_attention ", z.h, "/", z.k, " heads of ", z.hd, ", T ", z.t,
                              ", dropout ", rate),
                       [=](ParameterStore& s) {
                         s.add("qkv", Shape{2, z.t, (z.h + 2 * z.k) * z.hd}, Role::linear);
                       },
                       [=](Tape& tape, ParameterStore& s) {
                         AttentionOptions options;
                         options.n_heads = z.h;
                         options.n_kv_heads = z.k;
                         options.head_dim = z.hd;
                         options.scale = 0.7;
                         options.dropout = {.rate = rate, .seed = 5, .step = 3, .site = 9};
                         return causal_attention(tape, parameter(tape, s, "qkv"), options);
                       }});
    }
  }
}

TEST_CASE("causal_attention never looks ahead and starts with the first value",
          "[autograd][attention]") {
  ParameterStore store;
  Parameter& qkv = store.add("qkv", Shape{1, 3, 6}, Role::linear);
  store.allocate(Dtype::f64);
  fill_normal(store, 2);
  AttentionOptions options;
  options.n_heads = options.n_kv_heads = 1;
  options.head_dim = 2;
  const auto run_once = [&] {
    Tape tape(Dtype::f64);
    const Var y = causal_attention(tape, tape.parameter(store, qkv), options);
    const double* d = tape.value(y).data<double>();
    return std::vector<double>(d, d + 6);
  };
  const auto before = run_once();
  double* x = qkv.value.data<double>();
  CHECK(before[0] == Approx(x[4]));
  CHECK(before[1] == Approx(x[5]));
  for (int i = 12; i < 18; ++i) x[i] += 10.0;
  const auto after = run_once();
  for (size_t i = 0; i < 4; ++i) CHECK(before[i] == after[i]);
  CHECK(before[4] != after[4]);
}

TEST_CASE("causal_attention names heads that do not fit", "[autograd][attention]") {
  double x[12] = {};
  Tape tape(Dtype::f64);
  const Var qkv = tape.constant({x, Shape{1, 2, 6}, Dtype::f64});
  AttentionOptions options;
  options.n_heads = 3;
  options.n_kv_heads = 2;
  options.head_dim = 1;
  CHECK_THROWS_WITH(causal_attention(tape, qkv, options),
                    ContainsSubstring("2 key-value heads do not divide 3 heads"));
  options.n_kv_heads = 3;
  CHECK_THROWS_WITH(causal_attention(tape, qkv, options), ContainsSubstring("need 9"));
}

}  // namespace ballast::test
