#include "train/loop/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/kernels/reduce.h"
#include "core/matmul.h"
#include "core/parallel.h"
#include "layers/init.h"
#include "layers/model.h"
#include "optim/optimizer.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/init_file.h"
#include "train/checkpoint/selection.h"
#include "train/config/diff.h"
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

/// The first tensor with a NaN or an infinity.
struct BadTensor {
  std::string name;
  double value = 0.0;
};

std::optional<BadTensor> first_nonfinite_tensor(std::span<const NamedTensor> tensors) {
  for (const NamedTensor& t : tensors) {
    double value = 0.0;
    dispatch(t.tensor.dtype, [&]<class T>() {
      const T* x = t.tensor.data<T>();
      const int64_t i = first_nonfinite(x, t.tensor.size());
      if (i >= 0) value = static_cast<double>(x[i]);
    });
    if (!std::isfinite(value)) return BadTensor{t.name, value};
  }
  return std::nullopt;
}

// What a run knows of itself beyond weights and moments; saved with every checkpoint.
struct Progress {
  int64_t step = 0;     // updates done
  double time_s = 0.0;  // spent in all sessions
  std::optional<double> best_val;
  int64_t evaluations_without_gain = 0;

  Json to_json() const {
    Json j = {
        {"step", step}, {"time_s", time_s}, {"evaluations_without_gain", evaluations_without_gain}};
    if (best_val) j["best_val"] = *best_val;
    return j;
  }
  static Progress from_json(const Json& j) {
    Progress p;
    p.step = j.at("step").get<int64_t>();
    p.time_s = j.at("time_s").get<double>();
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
  // Set-up
  void enter_folder(const TrainOptions& options);
  void load(const CheckpointSelection& selection);
  void open_logs();

  bool is_skipped(int64_t step) const;
  bool is_due(int64_t step, int64_t every) const { return every > 0 && (step + 1) % every == 0; }
  bool stopped_early() const {
    const int64_t patience = config_.train.early_stopping.patience;
    return patience > 0 && progress_.evaluations_without_gain >= patience;
  }
  bool is_done() const { return progress_.step >= config_.train.steps || stopped_early(); }

  // One step
  void one_step(int64_t step);
  void evaluate_now();
  struct Outcome {
    const StepResult* result = nullptr;  // null for a skipped step
    bool updated = false;
    bool evaluated = false;
    double seconds = 0.0;
  };
  void describe(int64_t step, const Outcome& outcome);
  void add_parameter_metrics(int64_t step, bool with_update_norms);
  bool measures_updates(int64_t step) const {
    return config_.monitor.update_norms > 0 && step % config_.monitor.update_norms == 0;
  }
  double lap();
  [[noreturn]] void stop_for_nonfinite(int64_t step, const NonFinite& bad);

  std::filesystem::path checkpoint_path() const {
    return checkpoints_folder(folder_->path()) / checkpoint_name(progress_.step);
  }
  void checkpoint();
  void save();
  Record& event(int64_t step, const char* kind);

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
  bool is_resumed_ = false;
  std::vector<std::string> rejected_;  // damaged checkpoints that were passed over
  Progress progress_;
  Record record_, event_record_;
  std::string key_;                 // of the metric being added, reused
  std::optional<double> last_val_;  // of the weights as they are now
  int64_t checkpointed_step_ = -1;
  Clock::time_point session_start_ = Clock::now();
  double earlier_sessions_s_ = 0.0;
  Clock::time_point lap_start_ = Clock::now();
  double uncounted_s_ = 0.0;  // of the lap: evaluations and checkpoints
};

// The keys that differ from those the checkpoint was written under, as a warning; empty where that
// is only the run's place.
std::string changed_keys(const Json& state, const RunConfig& now) {
  const std::string what = "the configuration changed since the checkpoint was written";
  if (!state.contains("config")) return what;
  std::string keys;
  for (const auto& [key, before, after] :
       diff_dumps(state.at("config").get<std::string>(), dump_config(now))) {
    if (key == "run.name" || key == "run.dir") continue;
    keys += concat(keys.empty() ? "; " : ", ", key, ": ", before, " -> ", after);
  }
  return keys.empty() ? "" : what + keys;
}

// Moments mean different things to different rules; Adam's and AdamW's are the same.
void check_optimizer(const Json& state, OptimizerKind now) {
  if (!state.contains("optimizer")) return;
  const auto before = state.at("optimizer").get<std::string>();
  const auto rule = [](std::string_view name) { return name == "adam" ? "adamw" : name; };
  if (rule(before) == rule(name_of(now))) return;
  throw ConfigError(
      concat("optim.kind = ", name_of(now), ": the checkpoint was written with ", before,
             ", whose moments this rule cannot continue; expected optim.kind: ", before,
             ", or a new run that begins with --init"));
}

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
  enter_folder(options);
  if (is_resumed_ && is_done()) return;

  open_logs();
  progress_line_ = std::make_unique<ConsoleSink>(
      console_, ConsoleSink::Options{.steps = config_.train.steps,
                                     .console_every = config_.log.console_every});
  train_step_ =
      std::make_unique<TrainStep>(config_, *model_, store_, *optimizer_, *sampler_, tape_);
}

// What cannot be resumed is refused before a folder is made or anything in one is changed.
void Run::enter_folder(const TrainOptions& options) {
  const bool is_new = !is_folder(config_.run_dir());
  std::optional<CheckpointSelection> selection;
  if (options.resume) selection = parse_resume(*options.resume);
  if (selection && is_new) load(*selection);
  folder_ = std::make_unique<RunFolder>(
      files_, config_.run.dir, config_.run.name,
      selection && !is_new ? ExistingRun::continue_ : ExistingRun::refuse);
  if (selection && !is_new) load(*selection);
  remove_stale_folders(files_, folder_->path());
  for (const auto& path : abandon_checkpoints_after(files_, folder_->path(), progress_.step)) {
    console_.warning(concat("a later checkpoint is set aside as ", path.string()));
  }
}

void Run::load(const CheckpointSelection& selection) {
  SelectedCheckpoint selected =
      select_checkpoint(config_.run_dir(), selection, CheckpointUse::training);
  if (!selected.checkpoint) return;
  const Checkpoint& checkpoint = *selected.checkpoint;
  const std::vector<NamedTensor> moments = optimizer_tensors(*optimizer_);
  check_optimizer(checkpoint.state(), config_.optim.kind);
  checkpoint.load(named_values(store_), moments);
  progress_ = Progress::from_json(checkpoint.state());
  optimizer_->set_steps(checkpoint.state().at("optimizer_steps").get<int64_t>());
  earlier_sessions_s_ = progress_.time_s;
  last_val_ = checkpoint.manifest().val_loss;
  checkpointed_step_ = progress_.step;
  is_resumed_ = true;
  rejected_ = std::move(selected.rejected);
  for (const std::string& reason : rejected_) {
    console_.warning(concat(reason, "; falling back to the checkpoint before it"));
  }
  if (is_done()) return;  // nothing will be repeated
  for (const std::string& difference : differences(checkpoint.manifest().identity, identity_)) {
    console_.warning(difference);
  }
  if (checkpoint.manifest().identity.config_hash != identity_.config_hash) {
    const std::string changed = changed_keys(checkpoint.state(), config_);
    if (!changed.empty()) console_.warning(changed);
  }
}

void Run::open_logs() {
  folder_->write_config(dump_config(config_));
  folder_->write_environment(environment_text({program_version(), matmul_backend(), n_threads()}));
  trim_metrics(files_, folder_->metrics(), progress_.step);
  trim_events(files_, folder_->events(), progress_.step);
  events_ = std::make_unique<JsonlFile>(files_, folder_->events());
  if (config_.log.jsonl) metrics_ = std::make_unique<JsonlFile>(files_, folder_->metrics());
  for (const std::string& reason : rejected_) {
    event(progress_.step, "checkpoint_rejected").add("reason", reason);
    events_->write(event_record_);
  }
  if (is_resumed_) {
    event(progress_.step, "resume");
    events_->write(event_record_);
  }
}

bool Run::is_skipped(int64_t step) const {
  return std::any_of(config_.train.skip_steps.begin(), config_.train.skip_steps.end(),
                     [&](const auto& range) { return step >= range[0] && step < range[1]; });
}

Record& Run::event(int64_t step, const char* kind) {
  event_record_.begin(step);
  event_record_.add("kind", kind);
  return event_record_;
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
  if (is_resumed_) console_.line(concat("resuming after step ", progress_.step));
  session_start_ = lap_start_ = Clock::now();
  while (!is_done()) {
    one_step(progress_.step);
    if (is_done()) break;
    if (ScopedSignalHandlers::received() != 0) {
      checkpoint();
      console_.finish();
      throw Interrupted(concat("interrupted after step ", progress_.step, " (",
                               checkpoint_path().string(), "); continue with --resume auto"));
    }
    if (is_due(progress_.step - 1, config_.train.checkpoint_every)) checkpoint();
  }
  checkpoint();
  console_.finish();
  if (stopped_early()) {
    console_.line(concat("early stopping after step ", progress_.step, ": ",
                         progress_.evaluations_without_gain,
                         " evaluations without gain on val loss ", *progress_.best_val));
  }
  console_.line(concat("finished after step ", progress_.step, ", ",
                       duration_text(progress_.time_s), ": ", checkpoint_path().string()));
}

void Run::one_step(int64_t step) {
  StepResult result;
  std::optional<NonFinite> bad;
  const bool skipped = is_skipped(step);
  if (!skipped) {
    result = train_step_->measure(step);
    bad = train_step_->find_nonfinite(result);
    if (!bad) {
      train_step_->update(result, measures_updates(step));
      last_val_.reset();
    }
  }
  if (!bad) ++progress_.step;
  const double seconds = lap();
  const bool evaluates =
      !bad && (progress_.step == config_.train.steps || is_due(step, config_.train.eval_every));
  if (evaluates) evaluate_now();
  describe(step, {skipped ? nullptr : &result, !bad && !skipped, evaluates, seconds});
  if (metrics_) metrics_->write(record_);
  progress_line_->write(record_);

  if (skipped) {
    event(step, "skip").add("signal", "train.skip_steps");
    events_->write(event_record_);
  }
  if (evaluates && !std::isfinite(*last_val_)) bad = NonFinite{"val/loss", *last_val_, ""};
  if (bad) stop_for_nonfinite(step, *bad);
  if (evaluates && stopped_early()) {
    event(step, "early_stop").add("signal", "val/loss");
    event_record_.add("value", *last_val_);
    events_->write(event_record_);
  }
}

// Seconds since the last call, less those that do not count as the step's.
double Run::lap() {
  const double seconds = seconds_since(lap_start_) - uncounted_s_;
  lap_start_ = Clock::now();
  uncounted_s_ = 0.0;
  return seconds;
}

void Run::evaluate_now() {
  const Clock::time_point start = Clock::now();
  const int64_t rows = config_.train.batch_size / config_.train.grad_accum;
  const double val = evaluate(*model_, tape_, *eval_sampler_, rows).ce;
  uncounted_s_ += seconds_since(start);
  last_val_ = val;
  if (!std::isfinite(val)) return;
  const double min_delta = config_.train.early_stopping.min_delta;
  const bool is_gain = !progress_.best_val || val < *progress_.best_val - min_delta;
  if (is_gain) progress_.best_val = val;
  progress_.evaluations_without_gain = is_gain ? 0 : progress_.evaluations_without_gain + 1;
}

void Run::describe(int64_t step, const Outcome& outcome) {
  const int64_t tokens = config_.train.batch_size * config_.data.seq_len;
  const StepResult* result = outcome.result;
  const bool with_norms = outcome.updated && measures_updates(step);
  record_.begin(step);
  record_.add("tokens", (step + 1) * tokens);
  record_.add("time_s", earlier_sessions_s_ + seconds_since(session_start_));
  if (result != nullptr) {
    record_.add("train/loss", result->loss);
    record_.add("train/ce", result->ce);
    record_.add("train/z_loss", result->z_loss);
    if (floor_) record_.add("train/regret", result->ce - *floor_);
  }
  if (outcome.evaluated) record_.add("val/loss", *last_val_);
  if (result != nullptr) {
    record_.add("optim/lr", result->lr);
    record_.add("optim/grad_norm", result->grad_norm);
    record_.add("optim/clip_scale", result->clip_scale);
    if (with_norms) record_.add("optim/update_norm", train_step_->update_norms().global);
  } else {
    record_.add("skipped", true);
  }
  if (result != nullptr) {
    record_.add("perf/tokens_per_s", static_cast<double>(tokens) / outcome.seconds);
  }
  record_.add("perf/step_ms", 1e3 * outcome.seconds);
  if (result != nullptr && config_.monitor.logits > 0 && step % config_.monitor.logits == 0) {
    record_.add("logits/logsumexp", result->lse_mean);
    record_.add("logits/max", result->max_logit);
  }
  if (outcome.updated) add_parameter_metrics(step, with_norms);
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
      // The first update of a bias that was 0 has no ratio; null is kept for what went wrong.
      const double ratio = update_ratio(norms.update[i], norms.weight[i]);
      if (std::isfinite(ratio)) add("update_ratio/", p, ratio);
    }
    ++i;
  }
}

// The state before the failed update is kept if it is sound: whoever looks for the cause begins
// there.
void Run::stop_for_nonfinite(int64_t step, const NonFinite& bad) {
  const bool before_update = progress_.step == step;
  const std::string where = first_nonfinite_value(config_, *model_, tape_, *sampler_, step);
  const auto weight = first_nonfinite_tensor(named_values(store_));
  const std::string parameter = weight ? weight->name : bad.parameter;
  const bool is_sound = !weight && !first_nonfinite_tensor(optimizer_tensors(*optimizer_));
  if (!std::isfinite(last_val_.value_or(0.0))) last_val_.reset();
  event(step, "nonfinite").add("signal", bad.signal);
  event_record_.add("value", std::isnan(bad.value) ? "nan" : bad.value > 0 ? "inf" : "-inf");
  if (!parameter.empty()) event_record_.add("parameter", parameter);
  if (!where.empty()) event_record_.add("first_value", where);
  events_->write(event_record_);
  events_->sync();
  if (metrics_) metrics_->sync();
  if (is_sound && checkpointed_step_ != progress_.step) save();
  console_.finish();
  throw StabilityError(
      concat("step ", step, ": ", bad.signal, " is ", std::isnan(bad.value) ? "NaN" : "infinite",
             weight              ? concat("; parameter ", parameter, " holds a non-finite value")
             : parameter.empty() ? ""
                                 : concat("; first non-finite gradient is ", parameter),
             where.empty() ? "" : concat("; first non-finite value is ", where),
             before_update ? "; the update was not made" : "",
             is_sound ? concat("; its state is saved as ", checkpoint_path().string()) : ""));
}

// Writes the checkpoint of this step unless it is there, and removes those that are not kept.
void Run::checkpoint() {
  if (checkpointed_step_ == progress_.step) return;
  std::vector<NamedTensor> state = named_values(store_);
  for (NamedTensor& t : optimizer_tensors(*optimizer_)) state.push_back(std::move(t));
  // A checkpoint that cannot be resumed must not push out one that can.
  if (const auto bad = first_nonfinite_tensor(state)) {
    stop_for_nonfinite(progress_.step - 1, {bad->name, bad->value, ""});
  }
  save();
  prune_checkpoints(files_, folder_->path(), config_.train.keep_checkpoints);
}

void Run::save() {
  const Clock::time_point start = Clock::now();
  progress_.time_s = earlier_sessions_s_ + seconds_since(session_start_);
  CheckpointContents contents;
  contents.step = progress_.step;
  contents.model = named_values(store_);
  contents.optimizer = optimizer_tensors(*optimizer_);
  contents.state = progress_.to_json();
  contents.state["finished"] = is_done();
  contents.state["optimizer_steps"] = optimizer_->steps();
  contents.state["config"] = dump_config(config_);
  contents.state["optimizer"] = std::string(name_of(config_.optim.kind));
  contents.val_loss = last_val_;
  contents.identity = identity_;
  if (metrics_) metrics_->sync();
  write_checkpoint(files_, folder_->path(), contents);
  checkpointed_step_ = progress_.step;
  event(progress_.step, "checkpoint").add("value", seconds_since(start));
  events_->write(event_record_);
  events_->sync();
  uncounted_s_ += seconds_since(start);
}

}  // namespace

void train(const RunConfig& config, const TrainOptions& options) {
  Run(config, options).train();
}

}  // namespace ballast
