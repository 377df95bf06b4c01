#include "autograd/observer.h"

#include <algorithm>
#include <string>
#include <vector>

#include "autograd/ops.h"
#include "tests/autograd/gradcheck_cases.h"
#include "tests/support/catch.h"

namespace ballast::test {

namespace {

struct Seen {
  std::string name;
  std::vector<double> values;
};

class Recorder final : public TapeObserver {
 public:
  std::vector<Seen> forward, backward;

  void on_value(std::string_view scope, std::string_view op, const Tensor& value) override {
    forward.push_back({concat(scope, ':', op), copy(value)});
  }
  void on_gradient(std::string_view scope, std::string_view op, const Tensor& gradient) override {
    backward.push_back({concat(scope, ':', op), copy(gradient)});
  }

 private:
  static std::vector<double> copy(const Tensor& t) {
    return {t.data<double>(), t.data<double>() + t.size()};
  }
};

std::vector<std::string> names(const std::vector<Seen>& seen) {
  std::vector<std::string> all;
  for (const Seen& s : seen) all.push_back(s.name);
  return all;
}

// linear in blocks.3.attn, its activation in blocks.3.ffn, and the sum of x and that outside.
class Network {
 public:
  ParameterStore store;
  Tape tape{Dtype::f64};
  const std::vector<double> coefficients = {2.0, -3.0};

  Network() {
    store.add("x", Shape{1, 2}, Role::linear);
    store.add("w", Shape{2, 2}, Role::linear);
    store.allocate(Dtype::f64);
    fill_normal(store, 9);
  }

  void step() {
    tape.reset();
    store.begin_gradients();
    const Var x = parameter(tape, store, "x");
    Var y;
    {
      const auto block = tape.scope("blocks.3");
      {
        const auto attn = tape.scope("attn");
        y = linear(tape, x, parameter(tape, store, "w"));
      }
      const auto ffn = tape.scope("ffn");
      y = activation(tape, y, ActivationKind::relu);
    }
    tape.backward(weighted_sum(tape, add(tape, x, y), coefficients.data()));
  }
};

}  // namespace

TEST_CASE("an observer sees every value and gradient by scope and operation",
          "[autograd][observer]") {
  Network net;
  Recorder all;
  net.tape.observe("*", all);
  net.step();
  const std::vector<std::string> order = {"blocks.3.attn:linear", "blocks.3.ffn:activation", ":add",
                                          ":weighted_sum"};
  CHECK(names(all.forward) == order);
  CHECK(names(all.backward) == std::vector<std::string>(order.rbegin(), order.rend()));

  const double* x = net.store.find("x")->value.data<double>();
  const double* w = net.store.find("w")->value.data<double>();
  for (size_t i = 0; i < 2; ++i) {
    const double h = x[0] * w[2 * i] + x[1] * w[2 * i + 1];
    CHECK(all.forward[0].values[i] == Approx(h));
    CHECK(all.forward[1].values[i] == Approx(std::max(h, 0.0)));
    CHECK(all.forward[2].values[i] == Approx(x[i] + std::max(h, 0.0)));
    CHECK(all.backward[3].values[i] == (h > 0 ? net.coefficients[i] : 0.0));
  }
  CHECK(all.backward[0].values == std::vector<double>{1.0});
  CHECK(all.backward[1].values == net.coefficients);
  CHECK(all.backward[2].values == net.coefficients);
}

TEST_CASE("an observer sees what its pattern names and nothing else", "[autograd][observer]") {
  Network net;
  Recorder exact, block, op, nothing;
  net.tape.observe("blocks.3.attn:linear", exact);
  net.tape.observe("blocks.*", block);
  net.tape.observe("*:add", op);
  net.tape.observe("blocks.4*", nothing);
  net.step();
  CHECK(names(exact.forward) == std::vector<std::string>{"blocks.3.attn:linear"});
  CHECK(names(block.forward) ==
        std::vector<std::string>{"blocks.3.attn:linear", "blocks.3.ffn:activation"});
  CHECK(names(op.backward) == std::vector<std::string>{":add"});
  CHECK(nothing.forward.empty());
  CHECK(nothing.backward.empty());
}

TEST_CASE("an observer that was removed sees nothing more, the others do", "[autograd][observer]") {
  Network net;
  Recorder leaves, stays;
  net.tape.observe("*linear", leaves);
  net.tape.observe("*activation", leaves);
  net.tape.observe("*", stays);
  net.step();
  CHECK(leaves.forward.size() == 2);
  net.tape.stop_observing(leaves);
  net.step();
  CHECK(leaves.forward.size() == 2);
  CHECK(leaves.backward.size() == 2);
  CHECK(stays.forward.size() == 8);
}

TEST_CASE("observing changes no bit", "[autograd][observer]") {
  Network plain, observed;
  Recorder all;
  observed.tape.observe("*", all);
  plain.step();
  observed.step();
  const Tensor a = plain.store.gradients();
  const Tensor b = observed.store.gradients();
  CHECK(std::equal(a.data<double>(), a.data<double>() + a.size(), b.data<double>()));
}

TEST_CASE("an observer sees values without recording", "[autograd][observer]") {
  Network net;
  Recorder all;
  net.tape.observe("*", all);
  net.tape.set_recording(false);
  linear(net.tape, parameter(net.tape, net.store, "x"), parameter(net.tape, net.store, "w"));
  CHECK(names(all.forward) == std::vector<std::string>{":linear"});
  CHECK(all.backward.empty());
}

TEST_CASE("a scope outlives a reset, and an exception ends it", "[autograd][observer]") {
  Network net;
  Recorder all;
  net.tape.observe("*", all);
  const auto record = [&] {
    linear(net.tape, parameter(net.tape, net.store, "x"), parameter(net.tape, net.store, "w"));
  };
  {
    const auto outer = net.tape.scope("outer");
    net.tape.reset();
    record();
    try {
      const auto inner = net.tape.scope("inner");
      record();
      throw DataError("stop");
    } catch (const DataError&) {
    }
    record();
  }
  record();
  CHECK(names(all.forward) ==
        std::vector<std::string>{"outer:linear", "outer.inner:linear", "outer:linear", ":linear"});
}

TEST_CASE("a star in a pattern stands for any run of characters", "[autograd][observer]") {
  CHECK(matches("", ""));
  CHECK(matches("*", ""));
  CHECK(matches("*", "blocks.3.attn:linear"));
  CHECK(matches("blocks.*.attn:*", "blocks.11.attn:causal_attention"));
  CHECK(matches("*:linear", "blocks.3.attn:linear"));
  CHECK(matches("a*b*c", "a-bb-b-xc"));
  CHECK(matches("a**b", "ab"));
  CHECK(matches("*aab", "aaaab"));
  CHECK_FALSE(matches("", "a"));
  CHECK_FALSE(matches("blocks.1*.attn:*", "blocks.2.attn:linear"));
  CHECK_FALSE(matches("*:linear", "blocks.3.attn:linear_two"));
  CHECK_FALSE(matches("blocks.3", "blocks.3.attn:linear"));
  CHECK_FALSE(matches("a*b*c", "a-b-"));
  CHECK_FALSE(matches("a.b", "axb"));  // a dot is a dot
}

}  // namespace ballast::test
