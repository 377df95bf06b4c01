#include "train/loop/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "core/matmul.h"
#include "core/parallel.h"
#include "layers/init.h"
#include "layers/model.h"
#include "optim/optimizer.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/init_file.h"
#include "train/checkpoint/selection.h"
#include "train/data/batch.h"
#include "train/data/data_source.h"
#include "train/logging/console.h"
#include "train/logging/environment.h"
#include "train/logging/jsonl.h"
#include "train/logging/run_folder.h"
#include "train/loop/evaluator.h"
#include "train/loop/signals.h"
#include "train/loop/train_step.h"

namespace ballast {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<NamedTensor> optimizer_tensors(Optimizer& optimizer) {
  std::vector<NamedTensor> tensors;
  for (const StateTensor& s : optimizer.state()) tensors.push_back({s.name, s.value});
  return tensors;
}

std::string hex(uint64_t x) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(x));
  return text;
}

// What a run knows of itself beyond weights and moments; saved with every checkpoint.
struct Progress {
  int64_t step = 0;     // updates done
  double time_s = 0.0;  // spent in all sessions
  std::optional<double> best_val;
  int64_t evaluations_without_gain = 0;
  bool finished = false;

  Json to_json() const {
    Json j = {{"step", step},
              {"time_s", time_s},
              {"finished", finished},
              {"evaluations_without_gain", evaluations_without_gain}};
    if (best_val) j["best_val"] = *best_val;
    return j;
  }
  static Progress from_json(const Json& j) {
    Progress p;
    p.step = j.at("step").get<int64_t>();
    p.time_s = j.at("time_s").get<double>();
    p.finished = j.at("finished").get<bool>();
    p.evaluations_without_gain = j.at("evaluations_without_gain").get<int64_t>();
    if (j.contains("best_val")) p.best_val = j.at("best_val").get<double>();
    return p;
  }
};

class Run {
 public:
  Run(const RunConfig& config, const TrainOptions& options);
  void train();

 private:
  void resume(const std::string& text);
  bool is_skipped(int64_t step) const;
  bool is_due(int64_t step, int64_t every) const {
    return step + 1 == config_.train.steps || (every > 0 && (step + 1) % every == 0);
  }
  void one_step(int64_t step);
  void add_step_metrics(const StepResult& result, int64_t step);
  void add_parameter_metrics(int64_t step, bool with_update_norms);
  void evaluate_now(int64_t step);
  void stop_for_nonfinite(int64_t step, const NonFinite& bad);
  void write_checkpoint_now();
  void write_line();
  void event(int64_t step, const char* kind);

  RunConfig config_;
  FileSystem files_;
  Console console_ = Console::for_stderr();
  std::unique_ptr<DataSource> data_;
  std::unique_ptr<RunFolder> folder_;
  ParameterStore store_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<BatchSampler> sampler_;
  std::unique_ptr<EvalSampler> eval_sampler_;
  Tape tape_;
  std::unique_ptr<TrainStep> train_step_;
  std::unique_ptr<JsonlFile> metrics_, events_;
  std::unique_ptr<ConsoleSink> progress_line_;
  std::optional<double> floor_;
  RunIdentity identity_;
  Progress progress_;
  Record record_, event_record_;
  std::string key_;                 // of the metric being added, reused
  std::optional<double> last_val_;  // of the weights as they are now
  int64_t checkpointed_step_ = -1;
  Clock::time_point session_start_ = Clock::now();
  double earlier_sessions_s_ = 0.0;
  Clock::time_point line_time_ = Clock::now();
  bool stop_early_ = false;
};

Run::Run(const RunConfig& config, const TrainOptions& options) : config_(config) {
  if (config_.run.threads > 0) set_n_threads(static_cast<int>(config_.run.threads));
  data_ = open_data(config_.data, *config_.model.vocab_size,
                    static_cast<uint64_t>(config_.data_seed()));
  sampler_ = std::make_unique<BatchSampler>(*data_, config_.data.order, config_.train.batch_size,
                                            config_.data.seq_len,
                                            static_cast<uint64_t>(config_.data_seed()));
  eval_sampler_ = std::make_unique<EvalSampler>(*data_, config_.train.batch_size,
                                                config_.data.seq_len, config_.train.eval_batches);
  floor_ = data_->floor(config_.data.seq_len);
  model_ = std::make_unique<Model>(config_.model, store_);
  store_.allocate(Dtype::f32);
  if (options.init) {
    load_init_file(*options.init, store_);
  } else {
    initialise(config_.model, store_, static_cast<uint64_t>(config_.init_seed()));
  }
  optimizer_ = make_optimizer(config_.optim, store_);
  identity_ = {program_version(), config_hash(config_), hex(data_->fingerprint()),
               instruction_set(), n_threads()};
  folder_ =
      std::make_unique<RunFolder>(files_, config_.run.dir, config_.run.name,
                                  options.resume ? ExistingRun::continue_ : ExistingRun::refuse);
  remove_stale_folders(files_, folder_->path());
  if (options.resume) resume(*options.resume);
  if (progress_.finished && progress_.step >= config_.train.steps) return;
  progress_.finished = false;

  folder_->write_config(dump_config(config_));
  folder_->write_environment(environment_text({program_version(), matmul_backend(), n_threads()}));
  trim_metrics(files_, folder_->metrics(), progress_.step);
  trim_events(files_, folder_->events(), progress_.step);
  events_ = std::make_unique<JsonlFile>(files_, folder_->events());
  if (config_.log.jsonl) metrics_ = std::make_unique<JsonlFile>(files_, folder_->metrics());
  progress_line_ = std::make_unique<ConsoleSink>(
      console_, ConsoleSink::Options{.steps = config_.train.steps,
                                     .console_every = config_.log.console_every});
  train_step_ =
      std::make_unique<TrainStep>(config_, *model_, store_, *optimizer_, *sampler_, tape_);
}

void Run::resume(const std::string& text) {
  SelectedCheckpoint selected =
      select_checkpoint(folder_->path(), parse_resume(text), CheckpointUse::training);
  for (const std::string& reason : selected.rejected) {
    console_.warning(concat(reason, "; falling back to the checkpoint before it"));
  }
  if (!selected.checkpoint) return;
  const Checkpoint& checkpoint = *selected.checkpoint;
  for (const std::string& difference : differences(checkpoint.manifest().identity, identity_)) {
    console_.warning(difference);
  }
  const std::vector<NamedTensor> moments = optimizer_tensors(*optimizer_);
  checkpoint.load(named_values(store_), moments);
  progress_ = Progress::from_json(checkpoint.state());
  optimizer_->set_steps(checkpoint.state().at("optimizer_steps").get<int64_t>());
  earlier_sessions_s_ = progress_.time_s;
  checkpointed_step_ = progress_.step;
  for (const auto& path : abandon_checkpoints_after(files_, folder_->path(), progress_.step)) {
    console_.warning(concat("a later checkpoint is set aside as ", path.string()));
  }
}

bool Run::is_skipped(int64_t step) const {
  return std::any_of(config_.train.skip_steps.begin(), config_.train.skip_steps.end(),
                     [&](const auto& range) { return step >= range[0] && step < range[1]; });
}

void Run::event(int64_t step, const char* kind) {
  event_record_.begin(step);
  event_record_.add("kind", kind);
}

void Run::train() {
  if (!train_step_) {
    console_.line(concat(folder_->path().string(), " is finished at step ", progress_.step));
    return;
  }
  const ScopedSignalHandlers signals;
  console_.line(concat("run ", folder_->path().string(), ": ", store_.n_elements(), " parameters, ",
                       config_.train.batch_size * config_.data.seq_len, " tokens a step, ",
                       n_threads(), " threads",
                       floor_ ? concat(", entropy floor ", *floor_, " nats a token") : ""));
  if (progress_.step > 0) {
    console_.line(concat("resuming after step ", progress_.step));
    event(progress_.step, "resume");
    events_->write(event_record_);
  }
  session_start_ = line_time_ = Clock::now();
  while (progress_.step < config_.train.steps && !stop_early_) {
    const int64_t step = progress_.step;
    one_step(step);
    if (ScopedSignalHandlers::received() != 0) {
      write_checkpoint_now();
      console_.finish();
      throw Interrupted(
          concat("interrupted after step ", progress_.step, "; continue with --resume auto"));
    }
  }
  progress_.finished = true;
  checkpointed_step_ = -1;
  write_checkpoint_now();
  console_.finish();
}

void Run::one_step(int64_t step) {
  record_.begin(step);
  record_.add("tokens", (step + 1) * config_.train.batch_size * config_.data.seq_len);
  record_.add("time_s", earlier_sessions_s_ + seconds_since(session_start_));
  if (is_skipped(step)) {
    record_.add("skipped", true);
  } else {
    const StepResult result = train_step_->measure(step);
    add_step_metrics(result, step);
    if (const auto bad = train_step_->find_nonfinite(result)) stop_for_nonfinite(step, *bad);
    const bool with_norms =
        config_.monitor.update_norms > 0 && step % config_.monitor.update_norms == 0;
    train_step_->update(result, with_norms);
    if (with_norms) record_.add("optim/update_norm", train_step_->update_norms().global);
    add_parameter_metrics(step, with_norms);
    last_val_.reset();
  }
  ++progress_.step;
  const double step_s = seconds_since(line_time_);
  record_.add("perf/tokens_per_s",
              static_cast<double>(config_.train.batch_size * config_.data.seq_len) / step_s);
  record_.add("perf/step_ms", 1e3 * step_s);
  if (is_due(step, config_.train.eval_every)) evaluate_now(step);
  write_line();
  if (is_due(step, config_.train.checkpoint_every) && step + 1 < config_.train.steps &&
      !stop_early_) {
    write_checkpoint_now();
  }
  line_time_ = Clock::now();
}

void Run::add_step_metrics(const StepResult& r, int64_t step) {
  record_.add("train/loss", r.loss);
  record_.add("train/ce", r.ce);
  record_.add("train/z_loss", r.z_loss);
  if (floor_) record_.add("train/regret", r.ce - *floor_);
  record_.add("optim/lr", r.lr);
  record_.add("optim/grad_norm", r.grad_norm);
  record_.add("optim/clip_scale", r.clip_scale);
  if (config_.monitor.logits > 0 && step % config_.monitor.logits == 0) {
    record_.add("logits/logsumexp", r.lse_mean);
    record_.add("logits/max", r.max_logit);
  }
}

void Run::add_parameter_metrics(int64_t step, bool with_update_norms) {
  const bool with_grad_norms =
      config_.monitor.grad_norms > 0 && step % config_.monitor.grad_norms == 0;
  const auto add = [&](std::string_view group, const Parameter& p, double value) {
    key_.assign(group).append(p.name);
    record_.add(key_, value);
  };
  const UpdateNorms& norms = train_step_->update_norms();
  size_t i = 0;
  for (const Parameter& p : store_.parameters()) {
    if (with_grad_norms) add("grad_norm/", p, train_step_->grad_norm().norms()[i]);
    if (with_update_norms) {
      add("update_norm/", p, norms.update[i]);
      add("weight_norm/", p, norms.weight[i]);
      add("update_ratio/", p, update_ratio(norms.update[i], norms.weight[i]));
    }
    ++i;
  }
}

void Run::evaluate_now(int64_t step) {
  const int64_t rows = config_.train.batch_size / config_.train.grad_accum;
  const Evaluation evaluation = evaluate(*model_, tape_, *eval_sampler_, rows);
  last_val_ = evaluation.ce;
  record_.add("val/loss", evaluation.ce);
  const double min_delta = config_.train.early_stopping.min_delta;
  if (!progress_.best_val || evaluation.ce < *progress_.best_val - min_delta) {
    progress_.best_val = evaluation.ce;
    progress_.evaluations_without_gain = 0;
    return;
  }
  ++progress_.evaluations_without_gain;
  const int64_t patience = config_.train.early_stopping.patience;
  if (patience > 0 && progress_.evaluations_without_gain >= patience) {
    event(step, "early_stop");
    event_record_.add("signal", "val/loss");
    event_record_.add("value", evaluation.ce);
    events_->write(event_record_);
    stop_early_ = true;
  }
}

void Run::stop_for_nonfinite(int64_t step, const NonFinite& bad) {
  const std::string where = first_nonfinite_value(config_, *model_, tape_, *sampler_, step);
  write_line();
  event(step, "nonfinite");
  event_record_.add("signal", bad.signal);
  event_record_.add("value", std::isnan(bad.value) ? "nan" : bad.value > 0 ? "inf" : "-inf");
  if (!bad.parameter.empty()) event_record_.add("parameter", bad.parameter);
  if (!where.empty()) event_record_.add("first_value", where);
  events_->write(event_record_);
  events_->sync();
  console_.finish();
  throw StabilityError(
      concat("step ", step, ": ", bad.signal, " is ", std::isnan(bad.value) ? "NaN" : "infinite",
             bad.parameter.empty() ? "" : concat("; first non-finite gradient is ", bad.parameter),
             where.empty() ? "" : concat("; first non-finite value is ", where),
             "; the update was not made"));
}

void Run::write_checkpoint_now() {
  if (checkpointed_step_ == progress_.step) return;
  const Clock::time_point start = Clock::now();
  progress_.time_s = earlier_sessions_s_ + seconds_since(session_start_);
  CheckpointContents contents;
  contents.step = progress_.step;
  contents.model = named_values(store_);
  contents.optimizer = optimizer_tensors(*optimizer_);
  contents.state = progress_.to_json();
  contents.state["optimizer_steps"] = optimizer_->steps();
  contents.val_loss = last_val_;
  contents.identity = identity_;
  if (metrics_) metrics_->sync();
  write_checkpoint(files_, folder_->path(), contents);
  prune_checkpoints(files_, folder_->path(), config_.train.keep_checkpoints);
  checkpointed_step_ = progress_.step;
  event(progress_.step, "checkpoint");
  event_record_.add("value", seconds_since(start));
  events_->write(event_record_);
  events_->sync();
}

void Run::write_line() {
  if (metrics_) metrics_->write(record_);
  progress_line_->write(record_);
}

}  // namespace

void train(const RunConfig& config, const TrainOptions& options) {
  Run(config, options).train();
}

}  // namespace ballast
