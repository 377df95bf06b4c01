// Layers and optimiser together: what a training step does as a whole.
#include <cmath>

#include "optim/clip.h"
#include "optim/grad_norm.h"
#include "optim/optimizer.h"
#include "tests/layers/support.h"
#include "tests/support/catch.h"

namespace ballast::test {

namespace {

std::vector<double> losses_on_one_batch(const ModelConfig& config, int steps) {
  ParameterStore store;
  Model model(config, store);
  store.allocate(Dtype::f32);
  initialise(config, store, 1337);
  OptimConfig optim;
  optim.weight_decay = 0.0;
  const auto optimizer = make_optimizer(optim, store);
  const TokenBatch batch = random_batch(4, 8, kVocabulary, 12);
  Tape tape;
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    tape.reset();
    store.begin_gradients();
    const LmLoss loss =
        model.loss(tape, batch.view(), batch.targets.data(), {.denominator = batch.size()});
    losses.push_back(loss.stats->ce);
    tape.backward(loss.total);
    store.finish_gradients();
    optimizer->step(0.01);
  }
  return losses;
}

}  // namespace

TEST_CASE("a model starts at the loss of a uniform guess and learns a batch by heart",
          "[layers][training]") {
  ModelConfig c = GENERATE(llama_style(), gpt2_style());
  c.d_model = 48;
  const std::vector<double> losses = losses_on_one_batch(c, 30);
  // Logits are small at first: the loss is that of guessing among 19 tokens.
  CHECK(losses.front() == Approx(std::log(19.0)).margin(0.05));
  CHECK(losses.back() < 0.25 * losses.front());
}

}  // namespace ballast::test
