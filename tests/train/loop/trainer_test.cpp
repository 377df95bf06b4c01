#include "train/loop/trainer.h"

#include <cmath>
#include <set>

#include "tests/train/small_run.h"
#include "train/checkpoint/safetensors.h"
#include "train/config/run_config.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

std::vector<float> read_floats(const SafetensorsFile& file, const StoredTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  file.read(tensor, std::as_writable_bytes(std::span(values)));
  return values;
}

/// Largest |a - b| over all tensors of two files of the same parameters.
double max_difference(const fs::path& a, const fs::path& b) {
  const SafetensorsFile file_a(a), file_b(b);
  REQUIRE(file_a.tensors().size() == file_b.tensors().size());
  double largest = 0.0;
  for (const StoredTensor& tensor : file_a.tensors()) {
    const StoredTensor* other = file_b.find(tensor.name);
    REQUIRE(other != nullptr);
    const std::vector<float> x = read_floats(file_a, tensor), y = read_floats(file_b, *other);
    REQUIRE(x.size() == y.size());
    for (size_t i = 0; i < x.size(); ++i) {
      largest = std::max(largest, std::abs(double{x[i]} - double{y[i]}));
    }
  }
  return largest;
}

/// All tensors of a file, one of them with one value replaced.
void put_value(const fs::path& from, const fs::path& to, const std::string& name, float value) {
  const SafetensorsFile file(from);
  std::vector<std::vector<float>> values;
  for (const StoredTensor& t : file.tensors()) {
    values.push_back(read_floats(file, t));
    if (t.name == name) values.back()[0] = value;
  }
  std::vector<TensorSource> sources;
  for (size_t i = 0; i < values.size(); ++i) {
    const StoredTensor& t = file.tensors()[i];
    sources.emplace_back(t.name, t.type, t.shape, values[i].data());
  }
  FileSystem files;
  write_safetensors(files, to, sources);
}

// Everything a step draws or keeps takes part: dropout, micro-batches, evaluation, the schedule.
const Words kEverything = {"train.steps=100",
                           "train.batch_size=4",
                           "train.grad_accum=2",
                           "train.eval_every=25",
                           "model.dropout={embedding: 0.1, attention: 0.1, residual: 0.1}",
                           "loss.z_loss=1e-4"};

}  // namespace

TEST_CASE("two runs of one configuration are bitwise equal", "[train][loop]") {
  const SmallRun r;
  r.must_train(kEverything + Words{"train.steps=15", "run.threads=2"});
  r.must_train(kEverything + Words{"train.steps=15", "run.threads=2", "--name", "b"});
  r.must_train(kEverything + Words{"train.steps=15", "run.seed=8", "--name", "other_seed"});
  CHECK(r.untimed_metrics("a") == r.untimed_metrics("b"));
  CHECK(r.weights(15, "a") == r.weights(15, "b"));
  CHECK(r.moments(15, "a") == r.moments(15, "b"));
  CHECK(r.weights(15, "a") != r.weights(15, "other_seed"));
}

TEST_CASE("50 steps and 50 resumed ones equal 100, metrics and weights", "[train][loop]") {
  const SmallRun r;
  r.must_train(kEverything);
  r.must_train(kEverything + Words{"train.steps=50", "--name", "b"});
  CHECK(r.steps("b") == std::vector<int64_t>{50});
  r.must_train(kEverything + Words{"--name", "b", "--resume", "latest"});
  CHECK(r.n_lines("b") == 100);
  CHECK(r.untimed_metrics("a") == r.untimed_metrics("b"));
  CHECK(r.weights(100, "a") == r.weights(100, "b"));
  CHECK(r.moments(100, "a") == r.moments(100, "b"));
  REQUIRE(r.events("resume", "b").size() == 1);
  CHECK(r.events("resume", "b")[0].at("step") == 50);
  // The clock goes on where the first half stopped.
  const std::vector<Json> lines = r.metrics("b");
  for (size_t i = 1; i < lines.size(); ++i)
    CHECK(lines[i].at("time_s") > lines[i - 1].at("time_s"));
}

TEST_CASE("a run of each optimiser goes on bitwise, and no other optimiser takes its state",
          "[train][loop]") {
  for (const std::string kind : {"adam", "sgd", "lion"}) {
    CAPTURE(kind);
    const SmallRun r;
    const Words common = {"optim.kind=" + kind, "train.eval_every=6"};
    r.must_train(common);
    r.must_train(common + Words{"train.steps=6", "--name", "b"});
    r.must_train(common + Words{"--name", "b", "--resume", "latest"});
    CHECK(r.untimed_metrics("a") == r.untimed_metrics("b"));
    CHECK(r.weights(12, "a") == r.weights(12, "b"));
    CHECK(r.moments(12, "a") == r.moments(12, "b"));
    const double first = r.metrics().front().at("train/ce").get<double>();
    CHECK(r.metrics().back().at("train/ce").get<double>() < first);
    const std::string other = kind == "sgd" ? "lion" : "sgd";
    const Outcome refused =
        r.train({"optim.kind=" + other, "train.steps=14", "--name", "b", "--resume", "latest"});
    CHECK(refused.code == 2);
    CHECK(is_one_line(refused.err));
    CHECK_THAT(refused.err, ContainsSubstring(concat("optim.kind = ", other,
                                                     ": the checkpoint was written with ")));
  }
}

TEST_CASE("micro-batches change neither loss nor weights beyond rounding", "[train][loop]") {
  const SmallRun r;
  const Words common = {"train.batch_size=16", "train.steps=20", "loss.z_loss=1e-4",
                        "model.dropout.residual=0.1"};
  r.must_train(common);
  r.must_train(common + Words{"train.grad_accum=4", "--name", "b"});
  const std::vector<Json> a = r.metrics("a"), b = r.metrics("b");
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    for (const char* key : {"train/loss", "optim/grad_norm"}) {
      CAPTURE(i, key);
      CHECK(b[i].at(key).get<double>() == Approx(a[i].at(key).get<double>()).epsilon(1e-5));
    }
  }
  CHECK(max_difference(r.checkpoint(20, "a") / "model.safetensors",
                       r.checkpoint(20, "b") / "model.safetensors") < 1e-5);
}

TEST_CASE("every step has its line of metrics", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=11", "train.eval_every=4", "loss.z_loss=1e-4"});
  const std::vector<Json> lines = r.metrics();
  REQUIRE(lines.size() == 11);
  std::set<std::string> names;
  const SafetensorsFile model(r.checkpoint(11) / "model.safetensors");
  for (const StoredTensor& t : model.tensors()) names.insert(t.name);
  for (size_t i = 0; i < lines.size(); ++i) {
    CAPTURE(i);
    const Json& line = lines[i];
    const auto number = [&](const char* key) { return line.at(key).get<double>(); };
    CHECK(line.at("step") == i);
    CHECK(line.at("tokens") == (i + 1) * 64);
    CHECK(number("train/loss") ==
          Approx(number("train/ce") + number("train/z_loss")).epsilon(1e-12));
    CHECK(number("train/z_loss") > 0.0);
    CHECK(number("optim/grad_norm") > 0.0);
    CHECK(number("optim/clip_scale") ==
          Approx(std::min(1.0, 1.0 / (number("optim/grad_norm") + 1e-6))).epsilon(1e-12));
    CHECK(number("optim/update_norm") > 0.0);
    CHECK(number("perf/step_ms") > 0.0);
    CHECK(number("perf/tokens_per_s") == Approx(64e3 / number("perf/step_ms")));
    CHECK(number("logits/logsumexp") > 0.0);
    CHECK(line.contains("logits/max"));
    CHECK_FALSE(line.contains("train/regret"));
    CHECK_FALSE(line.contains("skipped"));
    // After the updates 4 and 8, and at the end.
    CHECK(line.contains("val/loss") == (i == 3 || i == 7 || i == 10));
    double squares = 0.0;
    for (const std::string& name : names) {
      squares += std::pow(number(("grad_norm/" + name).c_str()), 2);
      CHECK(number(("weight_norm/" + name).c_str()) > 0.0);
      CHECK(number(("update_norm/" + name).c_str()) > 0.0);
      CHECK(number(("update_ratio/" + name).c_str()) ==
            Approx(number(("update_norm/" + name).c_str()) /
                   number(("weight_norm/" + name).c_str())));
    }
    CHECK(std::sqrt(squares) == Approx(number("optim/grad_norm")).epsilon(1e-9));
    // lr (s + 1) / W in the warm-up, then the cosine over decay_steps = 100.
    const double s = static_cast<double>(i);
    const double lr = s < 5 ? 3e-3 * (s + 1) / 5
                            : 3e-3 * 0.5 * (1 + std::cos(3.14159265358979323846 * (s - 5) / 100));
    CHECK(number("optim/lr") == Approx(lr).epsilon(1e-12));
  }
  CHECK(lines.back().at("train/ce").get<double>() < lines.front().at("train/ce").get<double>());
  // An untrained model knows nothing: its loss is ln 256.
  CHECK(lines.front().at("train/ce").get<double>() == Approx(std::log(256.0)).epsilon(0.02));
}

TEST_CASE("a line opens with the keys in the order of the contract", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=1"});
  const std::string line = contents_of(r.run() / "metrics.jsonl");
  size_t before = 0;
  for (const char* key :
       {"step", "tokens", "time_s", "train/loss", "train/ce", "train/z_loss", "val/loss",
        "optim/lr", "optim/grad_norm", "optim/clip_scale", "optim/update_norm", "perf/tokens_per_s",
        "perf/step_ms", "logits/logsumexp", "grad_norm/embedding.weight"}) {
    CAPTURE(key, line);
    const size_t at = line.find(concat('"', key, "\":"));
    REQUIRE(at != std::string::npos);
    CHECK(at > before);
    before = at;
  }
}

TEST_CASE("a ratio without meaning is left out and never null", "[train][loop]") {
  const SmallRun r;
  // Biases begin at 0: their first update has no ratio to what was there.
  r.must_train({"train.steps=2", "model.bias.ffn=true"});
  const std::vector<Json> lines = r.metrics();
  const std::string key = "update_ratio/blocks.0.ffn.w_up.bias";
  CHECK_FALSE(lines[0].contains(key));
  CHECK(lines[1].at(key).get<double>() > 0.0);
  for (const Json& line : lines) {
    for (const auto& [name, value] : line.items()) {
      CAPTURE(name);
      CHECK_FALSE(value.is_null());
    }
  }
}

TEST_CASE("monitors write what is asked for, when it is asked for", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=5", "monitor={grad_norms: 2, update_norms: 3, logits: 0}"});
  const std::vector<Json> lines = r.metrics();
  for (size_t i = 0; i < lines.size(); ++i) {
    CAPTURE(i);
    CHECK(lines[i].contains("grad_norm/embedding.weight") == (i % 2 == 0));
    CHECK(lines[i].contains("update_norm/embedding.weight") == (i % 3 == 0));
    CHECK(lines[i].contains("optim/update_norm") == (i % 3 == 0));
    CHECK_FALSE(lines[i].contains("logits/max"));
  }
}

TEST_CASE("a synthetic corpus logs its distance to the entropy", "[train][loop]") {
  const SmallRun r;
  r.must_train({"data={source: synthetic, synthetic: {corpus: uniform}, seq_len: 8}",
                "model.vocab_size=32", "train.steps=2"});
  for (const Json& line : r.metrics()) {
    CHECK(line.at("train/regret").get<double>() ==
          Approx(line.at("train/ce").get<double>() - std::log(32.0)).margin(1e-9));
  }
}

TEST_CASE("skipped steps count and change nothing", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=8", "train.skip_steps=[[3, 5], [7, 8]]", "train.checkpoint_every=1",
                "train.keep_checkpoints=10", "train.eval_every=1"});
  const std::vector<Json> lines = r.metrics();
  REQUIRE(lines.size() == 8);
  for (size_t i = 0; i < lines.size(); ++i) {
    CAPTURE(i);
    const bool skipped = i == 3 || i == 4 || i == 7;
    CHECK(lines[i].at("step") == i);
    CHECK(lines[i].contains("skipped") == skipped);
    CHECK(lines[i].contains("train/loss") != skipped);
    CHECK(lines[i].contains("optim/lr") != skipped);
    if (skipped) CHECK(lines[i].at("skipped") == true);
    CHECK(lines[i].contains("val/loss"));
  }
  CHECK(r.weights(3) == r.weights(5));
  CHECK(r.moments(3) == r.moments(5));
  CHECK(r.weights(5) != r.weights(6));
  CHECK(lines[2].at("val/loss") == lines[4].at("val/loss"));
  const std::vector<Json> skips = r.events("skip");
  REQUIRE(skips.size() == 3);
  CHECK(skips[0].at("step") == 3);
  CHECK(skips[2].at("step") == 7);
}

TEST_CASE("the run folder holds the resolved configuration and the environment", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=1", "optim.lr=1e-4"});
  const RunConfig saved = load_config(r.run() / "config.yaml");
  CHECK(dump_config(saved) == contents_of(r.run() / "config.yaml"));
  CHECK(saved.optim.lr == 1e-4);
  CHECK(saved.run.name == "a");
  const Json environment = parse_json(contents_of(r.run() / "env.json"));
  for (const char* key : {"version", "compiler", "cpu", "isa", "threads", "onednn"}) {
    CAPTURE(key);
    CHECK(environment.contains(key));
  }
  CHECK(environment.at("threads") == 1);
  const std::vector<Json> checkpoints = r.events("checkpoint");
  REQUIRE(checkpoints.size() == 1);
  CHECK(checkpoints[0].at("step") == 1);
  // The saved configuration alone repeats the run.
  const Outcome again =
      run_program({"train", (r.run() / "config.yaml").string(), "--name", "again"});
  CHECK(again.code == 0);
  CHECK(r.weights(1) == r.weights(1, "again"));
}

TEST_CASE("the newest checkpoints and the best one are kept", "[train][loop]") {
  const SmallRun r;
  // A large constant rate: the loss falls, then grows.
  r.must_train({"train.steps=24", "train.checkpoint_every=2", "train.keep_checkpoints=2",
                "train.eval_every=2"});
  std::map<int64_t, double> val;
  for (const Json& line : r.metrics()) {
    if (line.contains("val/loss")) val[line.at("step").get<int64_t>() + 1] = line.at("val/loss");
  }
  REQUIRE(val.size() == 12);
  const auto best = std::min_element(val.begin(), val.end(),
                                     [](auto& x, auto& y) { return x.second < y.second; });
  std::set<int64_t> expected = {22, 24};
  expected.insert(best->first);
  const std::vector<int64_t> steps = r.steps();
  CHECK(std::set<int64_t>(steps.begin(), steps.end()) == expected);
  for (const int64_t step : steps) {
    CHECK(read_manifest(r.checkpoint(step)).val_loss == val.at(step));
  }
  CHECK(r.events("checkpoint").size() == 12);
}

TEST_CASE("a checkpoint carries a validation loss only if it is that of its weights",
          "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=6", "train.checkpoint_every=1", "train.keep_checkpoints=10",
                "train.eval_every=3"});
  for (const int64_t step : r.steps()) {
    CAPTURE(step);
    CHECK(read_manifest(r.checkpoint(step)).val_loss.has_value() == (step % 3 == 0));
  }
}

TEST_CASE("resume takes auto, latest, a step and a path", "[train][loop]") {
  const SmallRun r;
  const Words common = {"train.checkpoint_every=4", "train.eval_every=4"};
  // auto begins what is not there.
  r.must_train(common + Words{"--resume", "auto"});
  CHECK(r.n_lines() == 12);
  const std::string weights = r.weights(12);
  const auto before = snapshot(r.run());

  for (const char* which : {"auto", "latest"}) {
    const Outcome finished = r.train(common + Words{"--resume", which});
    CHECK(finished.code == 0);
    CHECK_THAT(finished.err, ContainsSubstring("is finished at step 12"));
    CHECK(is_one_line(finished.err));
    CHECK(snapshot(r.run()) == before);
  }
  const Outcome back = r.train(common + Words{"--resume", "step:4"});
  CHECK(back.code == 0);
  CHECK_THAT(back.err, ContainsSubstring("step-00000012.abandoned"));
  CHECK(r.weights(12) == weights);
  CHECK(r.n_lines() == 12);
  CHECK(contents_of(checkpoints_folder(r.run()) / "step-00000012.abandoned" /
                    "model.safetensors") == weights);
  // Another run's folder, or one checkpoint of it.
  r.must_train(common + Words{"--name", "b", "--resume", r.checkpoint(8).string()});
  CHECK(r.weights(12, "b") == weights);
  CHECK(r.n_lines("b") == 4);
  CHECK(r.metrics("b")[0].at("step") == 8);
  r.must_train(common + Words{"--name", "c", "--resume", r.run().string(), "train.steps=14"});
  CHECK(r.steps("c") == std::vector<int64_t>{14});
}

TEST_CASE("a resume under other keys names them, and a moved folder continues where it lies",
          "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.checkpoint_every=4"});
  const Outcome changed =
      r.train({"train.checkpoint_every=4", "optim.lr=1e-3", "train.steps=14", "--resume", "auto"});
  CHECK(changed.code == 0);
  CHECK_THAT(changed.err, ContainsSubstring("the configuration changed since the checkpoint was "
                                            "written; optim.lr: 0.003 -> 0.001, train.steps: "
                                            "12 -> 14"));

  // What counts is the checkpoint, not what another attempt left in config.yaml.
  const Words twice = {"train.checkpoint_every=4",  "optim.lr=1e-3", "train.steps=20",
                       "train.skip_steps=[[0, 1]]", "--resume",      "step:14"};
  put_contents(r.run() / "config.yaml", "model: {d_model: 1}\n");
  CHECK_THAT(r.train(twice).err, ContainsSubstring("train.skip_steps: [] -> [[0, 1]]"));

  const fs::path moved = r / "elsewhere" / "moved";
  fs::create_directories(moved.parent_path());
  fs::rename(r.run(), moved);
  const Outcome resumed = run_program(
      {"train", (moved / "config.yaml").string(), "--resume", "auto", "train.steps=22"});
  CHECK(resumed.code == 0);
  CHECK_FALSE(fs::exists(r.run()));
  CHECK(fs::exists(moved / "checkpoints" / "step-00000022"));
  CHECK_THAT(resumed.err, ContainsSubstring("train.steps: 20 -> 22") &&
                              !ContainsSubstring("run.name") && !ContainsSubstring("note: "));
}

TEST_CASE("a resume that cannot be is refused and leaves no trace", "[train][loop]") {
  const SmallRun r;
  struct Case {
    std::string which;
    int code;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {"latest", 4, "has no checkpoint"},
      {"step:5", 4, "has no checkpoint of step 5"},
      {"step:five", 2, "--resume step:five: expected step:N"},
      {"step:-1", 2, "expected step:N"},
      {(r / "nowhere").string(), 4, "nowhere"},
      {"", 2, "--resume"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.which);
    const Outcome outcome = r.train({"--resume=" + c.which});
    CHECK(outcome.code == c.code);
    CHECK_THAT(outcome.err, ContainsSubstring(c.expected));
    CHECK(is_one_line(outcome.err));
    CHECK_FALSE(fs::exists(r.run()));
  }
  r.must_train();
  const auto before = snapshot(r.run());
  const Outcome step = r.train({"--resume", "step:7"});
  CHECK(step.code == 4);
  CHECK_THAT(step.err, ContainsSubstring("has no checkpoint of step 7; it has: 12"));
  CHECK(is_one_line(step.err));
  const Outcome other_model = r.train({"--resume", "auto", "model.d_model=32"});
  CHECK(other_model.code == 4);
  CHECK_THAT(other_model.err, ContainsSubstring("in the checkpoint but"));
  CHECK(snapshot(r.run()) == before);
}

TEST_CASE("a damaged checkpoint falls back to the one before it, says so, and nothing is lost",
          "[train][loop]") {
  const SmallRun r;
  const Words common = {"train.checkpoint_every=4", "train.steps=12", "train.eval_every=4"};
  r.must_train(common + Words{"--name", "straight"});
  const std::string damage = GENERATE("model bit", "optimizer bit", "model cut", "state cut",
                                      "manifest bit", "manifest gone");
  CAPTURE(damage);
  r.must_train(common);
  const fs::path newest = r.checkpoint(12);
  if (damage == "model bit") flip_bit(newest / "model.safetensors");
  if (damage == "optimizer bit") flip_bit(newest / "optimizer.safetensors");
  if (damage == "model cut") cut_in_half(newest / "model.safetensors");
  if (damage == "state cut") cut_in_half(newest / "state.json");
  if (damage == "manifest bit") flip_bit(newest / "MANIFEST.json");
  if (damage == "manifest gone") fs::remove(newest / "MANIFEST.json");
  const auto damaged = snapshot(newest);

  const Outcome resumed = r.train(common + Words{"--resume", "auto"});
  CHECK(resumed.code == 0);
  CHECK_THAT(resumed.err, ContainsSubstring("warning: " + newest.string()) &&
                              ContainsSubstring("resuming after step 8"));
  const std::vector<Json> rejected = r.events("checkpoint_rejected");
  REQUIRE(rejected.size() == 1);
  CHECK(rejected[0].at("step") == 8);
  CHECK_THAT(rejected[0].at("reason").get<std::string>(), ContainsSubstring("step-00000012"));
  CHECK(r.weights(12) == r.weights(12, "straight"));
  CHECK(r.untimed_metrics() == r.untimed_metrics("straight"));
  CHECK(snapshot(newest.string() + ".abandoned") == damaged);

  // What was seen once is still on record when the same step is resumed again.
  r.must_train(common + Words{"--resume", "step:8"});
  CHECK(r.events("checkpoint_rejected").size() == 1);
}

TEST_CASE("a run without a valid checkpoint is an error and stays as it is", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.checkpoint_every=6"});
  flip_bit(r.checkpoint(6) / "model.safetensors");
  cut_in_half(r.checkpoint(12) / "optimizer.safetensors");
  const auto before = snapshot(r.run());
  for (const char* which : {"auto", "latest", "step:12"}) {
    CAPTURE(which);
    const Outcome outcome = r.train({"--resume", which});
    CHECK(outcome.code == 4);
    CHECK_THAT(outcome.err, ContainsSubstring("step-00000012"));
    CHECK(is_one_line(outcome.err));
    CHECK(snapshot(r.run()) == before);
  }
}

TEST_CASE("early stopping ends the run after `patience` evaluations without gain",
          "[train][loop]") {
  const SmallRun r;
  // No gain can be as large as min_delta: the first evaluation counts, the two after it do not.
  const Words common = {"train.steps=40", "train.eval_every=3",
                        "train.early_stopping={patience: 2, min_delta: 100}"};
  const Outcome outcome = r.train(common);
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.err, ContainsSubstring("early stopping after step 9"));
  CHECK(r.n_lines() == 9);
  CHECK(r.steps() == std::vector<int64_t>{9});
  const std::vector<Json> stops = r.events("early_stop");
  REQUIRE(stops.size() == 1);
  CHECK(stops[0].at("step") == 8);
  CHECK(stops[0].at("signal") == "val/loss");
  CHECK(stops[0].at("value") == r.metrics()[8].at("val/loss"));

  // It is finished; only more patience makes it go on.
  const auto before = snapshot(r.run());
  const Outcome again = r.train(common + Words{"--resume", "auto"});
  CHECK(again.code == 0);
  CHECK_THAT(again.err, ContainsSubstring("is finished at step 9"));
  CHECK(snapshot(r.run()) == before);
  r.must_train(common + Words{"--resume", "auto", "train.early_stopping.patience=3"});
  CHECK(r.steps().back() == 12);
}

TEST_CASE("early stopping waits while the loss falls", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=20", "train.eval_every=5", "train.early_stopping.patience=1"});
  CHECK(r.n_lines() == 20);
  CHECK(r.events("early_stop").empty());
}

TEST_CASE("eval_batches: a few batches, or the whole validation split", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.eval_batches=0"});
  r.must_train({"train.eval_batches=1", "--name", "b"});
  CHECK(r.weights(12, "a") == r.weights(12, "b"));
  CHECK(r.metrics("a").back().at("val/loss") != r.metrics("b").back().at("val/loss"));
}

TEST_CASE("a NaN in the weights stops the run before its update and is named", "[train][loop]") {
  const SmallRun r;
  r.must_train({"--name", "donor", "train.steps=1"});
  put_value(r.checkpoint(1, "donor") / "model.safetensors", r / "nan.safetensors",
            "blocks.1.ffn.w_up.weight", std::nanf(""));
  const Outcome outcome = r.train({"--init", (r / "nan.safetensors").string()});
  CHECK(outcome.code == 16);
  const std::string message = last_line(outcome.err);
  CHECK_THAT(message, ContainsSubstring("step 0: train/loss is NaN") &&
                          ContainsSubstring("blocks.1.ffn.w_up.weight") &&
                          ContainsSubstring("first non-finite value is blocks.1.ffn"));
  // Weights that are no use are not saved.
  CHECK_FALSE(fs::exists(r.checkpoint(0)));
  const std::vector<Json> events = r.events("nonfinite");
  REQUIRE(events.size() == 1);
  CHECK(events[0].at("step") == 0);
  CHECK(events[0].at("signal") == "train/loss");
  CHECK(events[0].at("value") == "nan");
  CHECK(events[0].at("parameter") == "blocks.1.ffn.w_up.weight");
  CHECK_THAT(events[0].at("first_value").get<std::string>(), ContainsSubstring("blocks.1.ffn:"));
  const std::vector<Json> lines = r.metrics();
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].at("train/loss").is_null());
  CHECK_FALSE(lines[0].contains("optim/update_norm"));
}

TEST_CASE("a run that diverges keeps the weights before the failed update", "[train][loop]") {
  const SmallRun r;
  const Words common = {"optim.lr=1e30", "optim.schedule={kind: constant}", "optim.weight_decay=0"};
  const Outcome outcome = r.train(common);
  CHECK(outcome.code == 16);
  CHECK_THAT(last_line(outcome.err),
             ContainsSubstring("step 1: ") && ContainsSubstring("the update was not made"));
  CHECK(r.n_lines() == 2);
  // The state that the failed step began with is there to look at, and fails in the same way.
  CHECK(r.steps() == std::vector<int64_t>{1});
  const Outcome again = r.train(common + Words{"--resume", "auto"});
  CHECK(again.code == 16);
  CHECK(last_line(again.err) == last_line(outcome.err));
  CHECK(r.n_lines() == 2);
  CHECK(r.events("nonfinite").size() == 1);
}

TEST_CASE("weights that an update made infinite never become a checkpoint", "[train][loop]") {
  const SmallRun r;
  r.must_train({"train.steps=2"});
  // Weight decay by more than the largest float.
  const Outcome outcome =
      r.train({"--resume", "auto", "train.steps=3", "optim.lr=1e38", "optim.weight_decay=1e38",
               "train.keep_checkpoints=1", "optim.schedule={kind: constant}"});
  CHECK(outcome.code == 16);
  CHECK_THAT(last_line(outcome.err), ContainsSubstring("embedding.weight"));
  CHECK(r.steps() == std::vector<int64_t>{2});
  CHECK(run_program({"eval", r.run().string()}).code == 0);
}

TEST_CASE("on a pipe the progress is plain lines, the first and the last among them",
          "[train][loop]") {
  const SmallRun r;
  const Outcome outcome = r.train({"log.console_every=5"});
  REQUIRE(outcome.code == 0);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.find('\033') == std::string::npos);
  CHECK(outcome.err.find('\r') == std::string::npos);
  CHECK_THAT(outcome.err,
             ContainsSubstring("parameters") && ContainsSubstring("64 tokens a step") &&
                 ContainsSubstring("step 0/12  loss 5.") && ContainsSubstring("step 5/12") &&
                 ContainsSubstring("step 11/12") && ContainsSubstring("val loss"));
  CHECK_THAT(last_line(outcome.err), ContainsSubstring(r.checkpoint(12).string()));
}

}  // namespace ballast
