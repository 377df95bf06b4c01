#include "autograd/tape.h"

#include <cmath>
#include <vector>

#include "autograd/ops.h"
#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

namespace {

std::vector<double> values(const Tensor& t) {
  return {t.data<double>(), t.data<double>() + t.size()};
}

// x (2, 3), w (3, 3) and an unused u, with known values.
struct Fixture {
  ParameterStore store;
  Parameter& x = store.add("x", Shape{2, 3}, Role::linear);
  Parameter& w = store.add("w", Shape{3, 3}, Role::linear);
  Parameter& u = store.add("u", Shape{4}, Role::linear);

  Fixture() {
    store.allocate(Dtype::f64);
    fill_normal(store, 5);
    // What an earlier step left must not show.
    for (Parameter& p : store.parameters()) {
      std::fill_n(p.grad.data<double>(), p.grad.size(), std::nan(""));
    }
    store.begin_gradients();
  }

  Var px(Tape& tape) { return tape.parameter(store, x); }
  Var pw(Tape& tape) { return tape.parameter(store, w); }
};

const std::vector<double> kCoefficients = {1.0, -2.0, 3.0, 0.5, 7.0, -1.0};

Var scalar(Tape& tape, Var v) {
  return weighted_sum(tape, v, kCoefficients.data());
}

std::vector<double> scaled(double factor) {
  std::vector<double> c = kCoefficients;
  for (double& v : c) v *= factor;
  return c;
}

// Reads one column of x, as attention and the feed-forward of a parallel block do with theirs.
struct Column final : Node {
  Var x, y;
  int64_t column = 0;

  const char* name() const override { return "column"; }
  void forward(Tape& tape) override {
    const int64_t stride = tape.value(x).shape.back();
    for (int64_t r = 0; r < tape.value(y).size(); ++r) {
      tape.value(y).data<double>()[r] = tape.value(x).data<double>()[r * stride + column];
    }
  }
  void backward(Tape& tape) override {
    const GradRef dx = tape.grad_columns(x, 1);
    const int64_t stride = dx.tensor.shape.back();
    for (int64_t r = 0; r < tape.value(y).size(); ++r) {
      dx.data<double>()[r * stride + column] = tape.output_grad(y).data<double>()[r];
    }
  }
};

Var column(Tape& tape, Var x, int64_t index) {
  auto& node = tape.make<Column>();
  node.x = x;
  node.column = index;
  node.y = tape.output(node, Shape{tape.value(x).shape.rows(), 1}, {x});
  tape.run(node);
  return node.y;
}

// y = factor * x: keeps its output if asked to, and says how often its memory was its own.
struct Scale final : Node {
  Var x, y;
  double factor = 1.0;
  bool keeps = false;

  const char* name() const override { return "scale"; }
  bool keeps_output() const override { return keeps; }
  void forward(Tape& tape) override {
    for (int64_t i = 0; i < tape.value(x).size(); ++i) {
      tape.value(y).data<double>()[i] = factor * tape.value(x).data<double>()[i];
    }
  }
  void backward(Tape& tape) override {
    const GradRef dx = tape.grad(x);
    for (int64_t i = 0; i < dx.tensor.size(); ++i) {
      const double g = factor * tape.output_grad(y).data<double>()[i];
      dx.data<double>()[i] = dx.accumulate ? dx.data<double>()[i] + g : g;
    }
  }
};

Var scale(Tape& tape, Var x, double factor, bool keeps = false) {
  auto& node = tape.make<Scale>();
  node.x = x;
  node.factor = factor;
  node.keeps = keeps;
  node.y = tape.output(node, tape.value(x).shape, {x});
  tape.run(node);
  return node.y;
}

}  // namespace

TEST_CASE("contributions of all uses of a value add up", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var y = scale(tape, f.px(tape), 2.0);
  // y is read three times, once by an operation that passes its gradient on.
  const Var z = add(tape, scale(tape, y, 3.0), scale(tape, y, 5.0));
  tape.backward(scalar(tape, add(tape, y, z)));
  CHECK(values(f.x.grad) == scaled(2.0 * (3.0 + 5.0 + 1.0)));
}

TEST_CASE("contributions of all uses of a parameter add up", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  // Two handles of one parameter, as a tied head makes them.
  const Var z = add(tape, scale(tape, f.px(tape), 3.0), scale(tape, f.px(tape), 4.0));
  tape.backward(scalar(tape, z));
  CHECK(values(f.x.grad) == scaled(7.0));
}

TEST_CASE("a value added to itself has twice the gradient", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var y = scale(tape, f.px(tape), 1.0);
  const std::vector<double> before = values(tape.value(y));
  const Var sum = add(tape, y, y);
  for (size_t i = 0; i < before.size(); ++i) {
    CHECK(values(tape.value(sum))[i] == 2.0 * before[i]);
  }
  tape.backward(scalar(tape, sum));
  CHECK(values(f.x.grad) == scaled(2.0));
}

TEST_CASE("branches that share a gradient each add to a copy of their own", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  // A parallel block: both sums pass one gradient to x, a and b; x and a get more from elsewhere.
  const Var x = scale(tape, f.px(tape), 1.0);
  const Var a = scale(tape, x, 10.0);
  const Var b = scale(tape, x, 100.0);
  const Var a_again = scale(tape, a, 3.0);
  const Var s = add(tape, x, b);
  const Var t = add(tape, s, a);
  const Var r = add(tape, t, a_again);
  const Var end = add(tape, r, s);
  tape.backward(scalar(tape, end));
  // end = 2 (x + b) + a + 3a = (2 + 200 + 40) x
  CHECK(values(f.x.grad) == scaled(242.0));
}

TEST_CASE("a shared gradient that one side changes in place stays as it was for the other",
          "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  // Backward of dropout multiplies its output's gradient in place; x shares that gradient.
  const DropoutKey key{.rate = 0.5, .seed = 1, .step = 0, .site = 3};
  std::vector<double> mask(6, 1.0);
  {
    Tape probe(Dtype::f64);
    mask = values(probe.value(
        dropout(probe, probe.constant({mask.data(), Shape{1, 2, 3}, Dtype::f64}), key)));
  }
  REQUIRE(std::count(mask.begin(), mask.end(), 0.0) > 0);
  REQUIRE(std::count(mask.begin(), mask.end(), 2.0) > 0);
  ParameterStore store;
  Parameter& x = store.add("x", Shape{1, 2, 3}, Role::linear);
  store.allocate(Dtype::f64);
  fill_normal(store, 1);
  const Var stream = scale(tape, tape.parameter(store, x), 1.0);
  const Var branch = dropout(tape, scale(tape, stream, 10.0), key);
  tape.backward(scalar(tape, add(tape, stream, branch)));
  for (size_t i = 0; i < mask.size(); ++i) {
    CHECK(values(x.grad)[i] == Approx(kCoefficients[i] * (1.0 + 10.0 * mask[i])).epsilon(1e-14));
  }
}

TEST_CASE("an operation takes over memory that nobody else reads", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var x = scale(tape, f.px(tape), 1.0);
  const Var branch = scale(tape, x, 2.0);
  const void* memory = tape.value(branch).memory;
  const Var sum = add(tape, x, branch);
  CHECK(tape.value(sum).memory == memory);
  // What was changed in place cannot be read any more.
  CHECK_THROWS_AS(scale(tape, branch, 1.0), InternalError);
  CHECK_THROWS_WITH(add(tape, x, branch), ContainsSubstring("changed in place"));
}

TEST_CASE("an operation does not take over what is read elsewhere", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var x = scale(tape, f.px(tape), 1.0);

  const Var read_before = scale(tape, x, 2.0);
  const Var reader = scale(tape, read_before, 3.0);
  const std::vector<double> kept = values(tape.value(read_before));
  CHECK(tape.value(add(tape, x, read_before)).memory != tape.value(read_before).memory);
  CHECK(values(tape.value(read_before)) == kept);

  const Var needed_in_backward = scale(tape, reader, 2.0, true);
  CHECK(tape.value(add(tape, x, needed_in_backward)).memory !=
        tape.value(needed_in_backward).memory);

  const std::vector<double> weights = values(f.x.value);
  add(tape, x, f.px(tape));  // a parameter is nobody's to change
  CHECK(values(f.x.value) == weights);
  std::vector<double> data(6, 1.0);
  add(tape, x, tape.constant({data.data(), Shape{2, 3}, Dtype::f64}));
  CHECK(data == std::vector<double>(6, 1.0));
}

TEST_CASE("nothing is kept without recording", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  tape.set_recording(false);
  const Var y = linear(tape, f.px(tape), f.pw(tape));
  const Var loss = scalar(tape, y);
  CHECK(tape.n_nodes() == 0);
  CHECK_FALSE(tape.needs_grad(y));
  CHECK(tape.pool_bytes() == 0);
  CHECK_THROWS_WITH(tape.backward(loss), ContainsSubstring("not recording"));
  const double without = tape.value(loss).data<double>()[0];
  tape.set_recording(true);
  tape.reset();
  const Var again = scalar(tape, linear(tape, f.px(tape), f.pw(tape)));
  CHECK(tape.n_nodes() == 2);
  CHECK(tape.value(again).data<double>()[0] == without);
}

TEST_CASE("backward starts from a single element", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var y = linear(tape, f.px(tape), f.pw(tape));
  CHECK_THROWS_WITH(tape.backward(y),
                    ContainsSubstring("needs a single element but the value is (2, 3)"));
}

TEST_CASE("backward of what no parameter reaches does nothing", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  std::vector<double> data(6, 1.0);
  const Var y = scale(tape, tape.constant({data.data(), Shape{2, 3}, Dtype::f64}), 2.0);
  tape.backward(scalar(tape, y));
  CHECK_FALSE(f.x.grad_written);
  CHECK(tape.pool_bytes() == 0);
}

TEST_CASE("a branch that the loss does not read contributes nothing", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var x = f.px(tape);
  scale(tape, x, 100.0);
  const Var loss = scalar(tape, scale(tape, x, 2.0));
  scale(tape, x, 1000.0);
  tape.backward(loss);
  CHECK(values(f.x.grad) == scaled(2.0));
}

TEST_CASE("a parameter that no loss reads has gradient zero", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  tape.backward(scalar(tape, f.px(tape)));
  CHECK(std::isnan(values(f.u.grad)[0]));
  f.store.finish_gradients();
  CHECK(values(f.x.grad) == kCoefficients);
  CHECK(values(f.u.grad) == std::vector<double>(4, 0.0));
}

TEST_CASE("gradients of several backward passes add up until the next step begins",
          "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const auto micro_batch = [&](double factor) {
    tape.reset();
    tape.backward(scalar(tape, scale(tape, f.px(tape), factor)));
  };
  micro_batch(2.0);
  micro_batch(3.0);
  f.store.finish_gradients();
  CHECK(values(f.x.grad) == scaled(5.0));
  f.store.begin_gradients();
  micro_batch(4.0);
  f.store.finish_gradients();
  CHECK(values(f.x.grad) == scaled(4.0));
}

TEST_CASE("joined parameters receive their gradient as one matrix", "[autograd][tape]") {
  ParameterStore store;
  const ParameterStore::Declaration parts[] = {{"a", Shape{1, 3}}, {"b", Shape{2, 3}}};
  const JoinedParameter joined = store.add_joined(parts, Role::linear);
  store.allocate(Dtype::f64);
  fill_normal(store, 3);
  Tape tape(Dtype::f64);
  const Var w = tape.parameter(store, joined);
  CHECK(tape.value(w).shape == Shape{3, 3});
  const std::vector<double> c = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  tape.backward(weighted_sum(tape, w, c.data()));
  CHECK(values(store.find("a")->grad) == std::vector<double>{1, 2, 3});
  CHECK(values(store.find("b")->grad) == std::vector<double>{4, 5, 6, 7, 8, 9});
  CHECK(store.find("b")->grad_written);
}

TEST_CASE("after reset the same operations have the same nodes and addresses", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const auto step = [&] {
    tape.reset();
    const Var h = linear(tape, f.px(tape), f.pw(tape));
    const Var y = activation(tape, h, ActivationKind::silu);
    const Var loss = scalar(tape, add(tape, f.px(tape), y));
    tape.backward(loss);
    return std::vector<const void*>{tape.value(h).memory, tape.value(y).memory,
                                    tape.value(loss).memory};
  };
  step();
  const std::vector<const void*> second = step();
  const int64_t n_nodes = tape.n_nodes();
  const int64_t arena = tape.arena_bytes();
  const int64_t pool = tape.pool_bytes();
  CHECK(n_nodes == 4);
  for (int i = 0; i < 3; ++i) {
    CHECK(step() == second);
    CHECK(tape.n_nodes() == n_nodes);
    CHECK(tape.arena_bytes() == arena);
    CHECK(tape.pool_bytes() == pool);
  }
}

#ifndef NDEBUG
TEST_CASE("debug builds notice a value that outlived its step", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var old = f.px(tape);
  tape.reset();
  f.px(tape);
  CHECK_THROWS_WITH(tape.value(old), ContainsSubstring("after its tape was reset"));
}
#endif

TEST_CASE("two tapes live side by side", "[autograd][tape]") {
  Fixture f;
  Tape training(Dtype::f64);
  const Var y = linear(training, f.px(training), f.pw(training));
  const std::vector<double> before = values(training.value(y));
  Tape evaluation(Dtype::f64);
  evaluation.set_recording(false);
  const Var z = scalar(evaluation, linear(evaluation, f.px(evaluation), f.pw(evaluation)));
  CHECK(evaluation.value(z).size() == 1);
  evaluation.reset();
  CHECK(values(training.value(y)) == before);
  training.backward(scalar(training, y));
  // d/dw of sum_ij c_ij (x w^T)_ij = c^T x
  const std::vector<double> x = values(f.x.value);
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 3; ++j) {
      const double expected = kCoefficients[i] * x[j] + kCoefficients[3 + i] * x[3 + j];
      CHECK(values(f.w.grad)[3 * i + j] == Approx(expected).epsilon(1e-14));
    }
  }
}

TEST_CASE("what a tape says of a value stays valid while it records more", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var x = f.px(tape);  // the first of its values
  const Shape& shape = tape.value(x).shape;
  const Tensor& value = tape.value(x);
  for (int i = 0; i < 1000; ++i) f.pw(tape);  // moves the tape's list of values in memory
  CHECK(shape == Shape{2, 3});
  CHECK(value.memory == f.x.value.memory);
}

TEST_CASE("a tape refuses parameters of another type", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f32);
  CHECK_THROWS_WITH(f.px(tape), ContainsSubstring("a f64 parameter on a f32 tape"));
}

TEST_CASE("readers of columns write one gradient together", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var wide = linear(tape, f.px(tape), f.pw(tape));  // (2, 3)
  const Var sum =
      add(tape, add(tape, column(tape, wide, 0), column(tape, wide, 2)), column(tape, wide, 1));
  static const double ones[] = {1.0, 1.0};
  tape.backward(weighted_sum(tape, sum, ones));
  // d/dx of the sum of all outputs: the column sums of w, for each row.
  const auto w = values(f.w.value);
  for (size_t c = 0; c < 3; ++c) {
    CHECK(values(f.x.grad)[c] == Approx(w[c] + w[3 + c] + w[6 + c]));
    CHECK(values(f.x.grad)[3 + c] == values(f.x.grad)[c]);
  }
}

TEST_CASE("a column that no reader wrote is an internal error", "[autograd][tape]") {
  Fixture f;
  Tape tape(Dtype::f64);
  const Var wide = linear(tape, f.px(tape), f.pw(tape));
  const Var sum = add(tape, column(tape, wide, 0), column(tape, wide, 2));
  static const double ones[] = {1.0, 1.0};
  CHECK_THROWS_WITH(tape.backward(weighted_sum(tape, sum, ones)),
                    ContainsSubstring("never written"));
}

}  // namespace ballast::test
