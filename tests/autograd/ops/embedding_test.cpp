#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

namespace {
constexpr int32_t kTokens[] = {0, 4, 2, 4, 4, 1};
}

void add_embedding_cases(GradcheckCases& cases) {
  for (const bool has_position : {false, true}) {
    cases.push_back({concat("embedding with repeated tokens", has_position ? " and positions" : ""),
                     [=](ParameterStore& s) {
                       s.add("table", Shape{6, 3}, Role::embedding);
                       if (has_position) s.add("position", Shape{5, 3}, Role::position);
                     },
                     [=](Tape& tape, ParameterStore& s) {
                       return embedding(tape, {kTokens, 2, 3}, parameter(tape, s, "table"),
                                        has_position ? parameter(tape, s, "position") : Var{}, 0,
                                        1.5);
                     }});
  }
}

TEST_CASE("embedding refuses a token outside its table", "[autograd][embedding]") {
  ParameterStore store;
  store.add("table", Shape{4, 3}, Role::embedding);
  store.allocate(Dtype::f32);
  Tape tape;
  CHECK_THROWS_WITH(embedding(tape, {kTokens, 2, 3}, parameter(tape, store, "table")),
                    "[embedding] token 4 at position 1; expected 0 <= token < 4");
}

TEST_CASE("embedding refuses more positions than it has", "[autograd][embedding]") {
  ParameterStore store;
  store.add("table", Shape{6, 3}, Role::embedding);
  store.add("position", Shape{2, 3}, Role::position);
  store.allocate(Dtype::f32);
  Tape tape;
  CHECK_THROWS_WITH(embedding(tape, {kTokens, 2, 3}, parameter(tape, store, "table"),
                              parameter(tape, store, "position")),
                    ContainsSubstring("3 positions are needed but the table has 2"));
}

}  // namespace ballast::test
