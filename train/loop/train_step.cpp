#include "train/loop/train_step.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/reduce.h"
#include "core/random.h"
#include "optim/clip.h"
#include "optim/schedule.h"

namespace ballast {

namespace {

ForwardContext context_of(const RunConfig& config, int64_t step, int64_t first_row) {
  ForwardContext context;
  context.training = true;
  context.dropout_seed = derive_seed(static_cast<uint64_t>(config.run.seed), "dropout");
  context.step = step;
  context.first_row = first_row;
  return context;
}

TokenView view(const Batch& batch) {
  return {batch.tokens.data(), batch.rows, batch.seq_len};
}

// Remembers the first value with a NaN or an infinity.
class NonFiniteFinder final : public TapeObserver {
 public:
  std::string found;

  void on_value(std::string_view scope, std::string_view op, const Tensor& value) override {
    if (!found.empty()) return;
    const bool finite =
        dispatch(value.dtype, [&]<class T>() { return all_finite(value.data<T>(), value.size()); });
    if (!finite) found = concat(scope, ':', op);
  }
};

}  // namespace

TrainStep::TrainStep(const RunConfig& config, Model& model, ParameterStore& store,
                     Optimizer& optimizer, const BatchSampler& sampler, Tape& tape)
    : config_(config),
      model_(model),
      store_(store),
      optimizer_(optimizer),
      sampler_(sampler),
      tape_(tape),
      grad_norm_(store) {}

StepResult TrainStep::measure(int64_t step) {
  const int64_t micro_rows = config_.train.batch_size / config_.train.grad_accum;
  const int64_t targets = config_.train.batch_size * config_.data.seq_len;
  const LossOptions options{.z_loss = config_.loss.z_loss, .denominator = targets};
  StepResult result;
  result.max_logit = -INFINITY;
  store_.begin_gradients();
  tape_.set_recording(true);
  for (int64_t row = 0; row < config_.train.batch_size; row += micro_rows) {
    sampler_.batch(step, row, row + micro_rows, batch_);
    tape_.reset();
    const LmLoss loss = model_.loss(tape_, view(batch_), batch_.targets.data(), options,
                                    context_of(config_, step, row));
    tape_.backward(loss.total);
    result.ce += loss.stats->ce;
    result.z_loss += loss.stats->z;
    result.lse_mean += loss.stats->lse_mean / static_cast<double>(config_.train.grad_accum);
    if (!(loss.stats->max_logit <= result.max_logit)) result.max_logit = loss.stats->max_logit;
  }
  store_.finish_gradients();
  grad_norm_.measure();
  result.loss = result.ce + result.z_loss;
  result.grad_norm = grad_norm_.global();
  result.lr = learning_rate(config_.optim, config_.train.steps, step);
  result.clip_scale = clip_scale(config_.optim.clip, result.grad_norm);
  return result;
}

std::optional<NonFinite> TrainStep::find_nonfinite(const StepResult& result) const {
  const bool loss_is_bad = !std::isfinite(result.loss);
  if (!loss_is_bad && std::isfinite(result.grad_norm)) return std::nullopt;
  NonFinite bad;
  bad.signal = loss_is_bad ? "train/loss" : "optim/grad_norm";
  bad.value = loss_is_bad ? result.loss : result.grad_norm;
  if (const Parameter* p = grad_norm_.first_nonfinite()) bad.parameter = p->name;
  return bad;
}

void TrainStep::update(const StepResult& result, bool with_norms) {
  optimizer_.step(result.lr, result.clip_scale, with_norms ? &update_norms_ : nullptr);
}

std::string first_nonfinite_value(const RunConfig& config, Model& model, Tape& tape,
                                  const BatchSampler& sampler, int64_t step) {
  NonFiniteFinder finder;
  Batch batch;
  tape.set_recording(false);
  tape.observe("*", finder);
  const int64_t micro_rows = config.train.batch_size / config.train.grad_accum;
  for (int64_t row = 0; row < config.train.batch_size && finder.found.empty(); row += micro_rows) {
    sampler.batch(step, row, row + micro_rows, batch);
    tape.reset();
    model.loss(tape, view(batch), batch.targets.data(),
               {.z_loss = config.loss.z_loss,
                .denominator = config.train.batch_size * config.data.seq_len},
               context_of(config, step, row));
  }
  tape.stop_observing(finder);
  return finder.found;
}

}  // namespace ballast
