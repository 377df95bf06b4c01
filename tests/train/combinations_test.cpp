// 200 random legal models: what holds for each variant alone must hold for them together.
#include "tests/support/combinations.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "optim/optimizer.h"
#include "tests/support/catch.h"
#include "tests/support/model_checks.h"
#include "tests/support/threads.h"

namespace ballast::test {

namespace {

constexpr uint64_t kCombinations = 200;
constexpr uint64_t kParts = 8;  // ctest runs them beside each other

Combination combination(uint64_t number) {
  return random_combination(
      std::filesystem::path(BALLAST_SOURCE_DIR) / "tests/configs/combination.yaml", number);
}

template <class Check>
void for_part(uint64_t part, Check&& check_it) {
  const WithThreads one(1);  // nothing here is large enough to share
  for (uint64_t i = part; i < kCombinations; i += kParts) {
    const Combination c = combination(i);
    INFO("combination " << i << ": ballast gradcheck tests/configs/combination.yaml " << c.text());
    check_it(c.config);
  }
}

double loss_of(Model& model, Tape& tape, const TokenBatch& batch, double z_loss) {
  tape.reset();
  return model
      .loss(tape, batch.view(), batch.targets.data(),
            {.z_loss = z_loss, .denominator = batch.size()})
      .stats->ce;
}

void check_learning(const RunConfig& config) {
  ParameterStore store;
  Model model(config.model, store);
  store.allocate(Dtype::f32);
  initialise(config.model, store, 1337);
  OptimConfig optim;
  optim.kind = OptimizerKind::adam;
  optim.weight_decay = 0.0;
  const auto optimizer = make_optimizer(optim, store);
  const TokenBatch batch = random_batch(2, 12, *config.model.vocab_size, 12);
  Tape tape;
  ForwardContext context;
  context.training = true;
  const double before = loss_of(model, tape, batch, config.loss.z_loss);
  for (int step = 0; step < 30; ++step) {
    tape.reset();
    store.begin_gradients();
    context.step = step;
    const LmLoss loss =
        model.loss(tape, batch.view(), batch.targets.data(),
                   {.z_loss = config.loss.z_loss, .denominator = batch.size()}, context);
    tape.backward(loss.total);
    store.finish_gradients();
    optimizer->step(3e-3);
  }
  CHECK(loss_of(model, tape, batch, config.loss.z_loss) < before);
}

}  // namespace

TEST_CASE("every key of the model is drawn, every kind of every table occurs",
          "[train][combinations]") {
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  std::map<std::string, std::set<std::string>> seen;
  for (uint64_t i = 0; i < kCombinations; ++i) {
    for (const std::string& o : combination(i).overrides) {
      const size_t equals = o.find('=');
      seen[o.substr(0, equals)].insert(o.substr(equals + 1));
    }
  }
  for (const Field* field : leaf_fields(fields)) {
    if (!field->path.starts_with("model.")) continue;
    CAPTURE(field->path);
    const std::vector<std::string> values = candidates(*field);
    CHECK(seen[field->path] == std::set<std::string>(values.begin(), values.end()));
  }
}

TEST_CASE("a combination depends on its number alone", "[train][combinations]") {
  CHECK(combination(7).text() == combination(7).text());
  CHECK(combination(7).text() != combination(8).text());
}

TEMPLATE_TEST_CASE_SIG("random combinations have exact gradients", "[train][combinations]",
                       ((uint64_t kPart), kPart), 0, 1, 2, 3, 4, 5, 6, 7) {
  static_assert(kParts == 8);
  for_part(kPart, [](const RunConfig& c) { check_gradients(c, 3); });
}

TEST_CASE("random combinations learn a batch in 30 Adam steps", "[train][combinations]") {
  for (uint64_t part = 0; part < kParts; ++part) for_part(part, check_learning);
}

TEST_CASE("random combinations generate with a cache as without", "[train][combinations]") {
  const std::vector<std::vector<int64_t>> splits = {
      std::vector<int64_t>(12, 1), {7, 1, 1, 1, 1, 1}, {1, 4, 5, 2}};
  for (uint64_t part = 0; part < kParts; ++part) {
    for_part(part, [&](const RunConfig& c) { check_cache(c, splits); });
  }
}

}  // namespace ballast::test
