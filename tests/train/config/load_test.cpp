#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "tests/support/catch.h"
#include "train/config/fields.h"
#include "train/config/run_config.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

const char* const kSmallest =
    "data: {seq_len: 16}\n"
    "model:\n"
    "  d_model: 32\n"
    "  n_layers: 2\n"
    "  n_heads: 4\n"
    "train: {steps: 10}\n";

/// A folder of its own for each test case.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(fs::path(BALLAST_BINARY_DIR) / "config_test_files" / name) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  fs::path write(const std::string& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

using Overrides = std::vector<std::string>;

/// The error without the folder's name, or "" when the configuration is accepted.
std::string error_of(const Folder& folder, const fs::path& path, const Overrides& overrides = {}) {
  try {
    load_config(path, overrides);
    return "";
  } catch (const ConfigError& e) {
    std::string message = e.what();
    const std::string prefix = folder.path().string() + "/";
    for (size_t at = 0; (at = message.find(prefix, at)) != std::string::npos;) {
      message.erase(at, prefix.size());
    }
    return message;
  }
}

RunConfig load_smallest(const Folder& folder, const Overrides& overrides = {}) {
  return load_config(folder.write("smallest.yaml", kSmallest), overrides);
}

}  // namespace

TEST_CASE("a configuration of required keys has the documented defaults", "[train][config]") {
  const Folder folder("defaults");
  const RunConfig c = load_smallest(folder);
  CHECK(c.run.name == "smallest");
  CHECK(c.run.dir == "runs");
  CHECK(c.run_dir() == fs::path("runs/smallest"));
  CHECK(c.run.seed == 1337);
  CHECK(c.init_seed() == 1337);
  CHECK(c.data.val_fraction == 0.1);
  CHECK(c.data.order == DataOrder::random);
  CHECK(c.model.vocab_size == 256);
  CHECK(c.model.max_seq_len == 16);
  CHECK(c.model.norm.kind == NormKind::rmsnorm);
  CHECK(c.model.norm.eps == 1e-5);
  CHECK(c.model.ffn.activation == ActivationKind::silu);
  CHECK(c.model.ffn.gated);
  CHECK(c.optim.lr == 3e-4);
  CHECK(c.optim.betas == std::array<double, 2>{0.9, 0.95});
  CHECK(c.optim.no_decay == std::vector<DecayGroup>{DecayGroup::norm, DecayGroup::bias});
  CHECK(c.optim.clip.max_norm == 1.0);
  CHECK(c.train.batch_size == 16);
  CHECK(c.train.eval_batches == 20);
  CHECK(c.log.console_every == 10);
}

TEST_CASE("later settings win: defaults, parent, file, command line", "[train][config]") {
  const Folder folder("priorities");
  folder.write("base/base.yaml", kSmallest);
  folder.write("base/middle.yaml",
               "extends: base.yaml\n"
               "optim: {lr: 0.1, betas: [0.8, 0.9], eps: 1.0e-6}\n"
               "model: {norm: {kind: layernorm, eps: 0.5}}\n");
  const fs::path top = folder.write("top.yaml",
                                    "extends: base/middle.yaml\n"
                                    "optim: {lr: 0.2, no_decay: []}\n"
                                    "model: {norm: {bias: true}}\n");
  const Overrides overrides = {"optim.lr=3e-3",          "model.norm={weight: false}",
                               "optim.lr=5e-3",          "train.steps=1e2",
                               "optim.betas=[0.5, 0.6]", "run.name=x=y",
                               "optim.no_decay=[head]"};
  const RunConfig from_file = load_config(top);
  CHECK(from_file.run.name == "top");
  CHECK(from_file.optim.lr == 0.2);
  CHECK(from_file.optim.betas == std::array<double, 2>{0.8, 0.9});
  CHECK(from_file.optim.eps == 1e-6);
  CHECK(from_file.optim.no_decay.empty());
  CHECK(from_file.model.norm.kind == NormKind::layernorm);
  CHECK(from_file.model.norm.eps == 0.5);
  CHECK(from_file.model.norm.bias);
  CHECK(from_file.model.d_model == 32);
  const RunConfig c = load_config(top, overrides);
  CHECK(c.optim.lr == 5e-3);
  CHECK(c.optim.betas == std::array<double, 2>{0.5, 0.6});
  CHECK(c.optim.no_decay == std::vector<DecayGroup>{DecayGroup::head});
  CHECK(c.train.steps == 100);
  CHECK(c.run.name == "x=y");
  CHECK_FALSE(c.model.norm.weight);
  CHECK(c.model.norm.bias);
}

TEST_CASE("null undoes a parent's setting of a derived key", "[train][config]") {
  const Folder folder("null");
  folder.write("base.yaml", std::string(kSmallest) + "optim: {schedule: {decay_steps: 5}}\n");
  const fs::path top =
      folder.write("top.yaml", "extends: base.yaml\noptim: {schedule: {decay_steps: null}}\n");
  CHECK(load_config(folder.path() / "base.yaml").optim.schedule.decay_steps == 5);
  CHECK_FALSE(load_config(top).optim.schedule.decay_steps.has_value());
}

TEST_CASE("extends refuses cycles, missing parents and anything but one file", "[train][config]") {
  const Folder folder("extends");
  folder.write("a.yaml", "extends: sub/b.yaml\n");
  folder.write("sub/b.yaml", "extends: ../c.yaml\n");
  folder.write("c.yaml", "extends: sub/../a.yaml\n");
  CHECK(error_of(folder, folder.path() / "a.yaml") ==
        "c.yaml:1:10: extends is a cycle: a.yaml -> sub/b.yaml -> c.yaml -> a.yaml");
  CHECK_THAT(error_of(folder, folder.write("self.yaml", "extends: self.yaml\n")),
             ContainsSubstring("self.yaml:1:10: extends is a cycle: self.yaml -> self.yaml"));
  CHECK_THAT(
      error_of(folder, folder.write("none.yaml", "a: 1\nextends: sub/none.yaml\n")),
      ContainsSubstring("none.yaml:2:10: extends = sub/none.yaml: no such file sub/none.yaml"));
  CHECK_THAT(error_of(folder, folder.write("list.yaml", "extends: [a.yaml, c.yaml]\n")),
             ContainsSubstring(
                 "list.yaml:1:10: extends = [a.yaml, c.yaml]; expected the path of one file"));
  CHECK_THAT(error_of(folder, folder.write("folder.yaml", "extends: sub\n")),
             ContainsSubstring("sub: is a folder"));
  std::string last = "c0.yaml";
  folder.write(last, kSmallest);
  for (int i = 1; i < 20; ++i) {
    folder.write(concat("c", i, ".yaml"), concat("extends: c", i - 1, ".yaml\n"));
  }
  CHECK(error_of(folder, folder.path() / "c15.yaml").empty());
  CHECK_THAT(error_of(folder, folder.path() / "c19.yaml"),
             ContainsSubstring("more than 16 files extend one another"));
}

TEST_CASE("an error in a parent names the parent's file", "[train][config]") {
  const Folder folder("parent");
  folder.write("base.yaml", std::string(kSmallest) + "optim:\n  lrr: 1\n");
  CHECK(error_of(folder, folder.write("top.yaml", "extends: base.yaml\n")) ==
        "base.yaml:8:3: unknown key 'optim.lrr'; did you mean 'lr'?");
}

TEST_CASE("each mistake in a file is one line with its place, reason and what was expected",
          "[train][config]") {
  const Folder folder("mistakes");
  struct Case {
    const char* text;  // appended to the smallest configuration, at line 7
    const char* expected;
  };
  const std::vector<Case> cases = {
      {"optim: {lr: fast}",
       "c.yaml:7:13: optim.lr = fast: not a number; expected a number above 0"},
      {"optim: {lr: -1}", "c.yaml:7:13: optim.lr = -1: out of range; expected a number above 0"},
      {"optim: {lr: 0}", "optim.lr = 0: out of range; expected a number above 0"},
      {"optim: {lr: .nan}", "optim.lr = .nan: not a finite number"},
      {"optim: {lr: .inf}", "optim.lr = .inf: not a finite number"},
      {"optim: {lr: 1e999}", "optim.lr = 1e999: not a number in the range of double"},
      {"optim: {lr: '1e-3'}",
       "optim.lr = '1e-3': quoted, so it is text; expected a number above 0"},
      {"optim: {lr: }", "optim.lr = null: has no value; expected a number above 0"},
      {"optim: {lr: [1e-3]}", "optim.lr = [1e-3]: a list; expected a number above 0"},
      {"optim: {lr: {max: 1}}", "optim.lr = {max: 1}: a mapping; expected a number above 0"},
      {"optim: 3", "c.yaml:7:8: optim = 3: not a mapping; expected a mapping"},
      {"optim:", "optim = null: has no value; expected a mapping; leave the key out"},
      {"optim: {betas: 0.9}",
       "optim.betas = 0.9: not a list; expected a list of 2 values, each a number of at least 0 "
       "and below 1"},
      {"optim: {betas: [0.9]}", "optim.betas = [0.9]: has 1 values; expected a list of 2 values"},
      {"optim: {betas: [0.9, 1.0]}", "c.yaml:7:22: optim.betas = 1.0: out of range"},
      {"optim: {betas: [0.9,]}", "has 1 values"},
      {"optim: {betas: [0.9,,]}", "c.yaml:7:21: optim.betas = null: has no value"},
      {"optim: {kind: adamq}",
       "optim.kind = adamq: unknown value; expected adamw | adam | sgd | lion; did you mean "
       "'adamw' or 'adam'?"},
      {"optim: {no_decay: [norm, norms]}", "optim.no_decay = norms: unknown value"},
      {"optim: {no_decay: [norm, norm]}", "c.yaml:7:19: optim.no_decay names norm twice"},
      {"optim: {decay: independent}",
       "optim.decay = independent: needs an explicit optim.weight_decay"},
      {"optim: {schedule: {min_lr: 1}}",
       "optim.schedule.min_lr = 1; expected at least 0 and at most optim.lr"},
      {"optim: {schedule: {warmup_step: 1}}",
       "c.yaml:7:20: unknown key 'optim.schedule.warmup_step'; did you mean 'warmup_steps'?"},
      {"optim: {steps: 1}", "unknown key 'optim.steps'; did you mean 'train.steps' or"},
      {"lr: 1", "c.yaml:7:1: unknown key 'lr'; did you mean 'optim.lr'?"},
      {"optm: {lr: 1}", "unknown key 'optm'; did you mean 'optim'?"},
      {"wibble: 1", "unknown key 'wibble'; expected one of run, data, model, loss"},
      {"run: {seed: 010}",
       "run.seed = 010: leading zeros are ambiguous; expected a whole number of at least 0"},
      {"run: {seed: 0x10}", "run.seed = 0x10: not a decimal number"},
      {"run: {seed: 1_000}", "run.seed = 1_000: underscores are not part of a number"},
      {"run: {seed: 1.5}", "run.seed = 1.5: not a whole number"},
      {"run: {seed: 99999999999999999999}", "out of range"},
      {"run: {seed: -1}", "run.seed = -1: out of range; expected a whole number of at least 0"},
      {"run: {name: a/b}", "run.name = a/b: no name for a folder"},
      {"run: {name: ..}", "run.name = ..: no name for a folder"},
      {"run: {name: ''}", "run.name = '': empty"},
      {"run: {precision: fp64}", "run.precision = fp64: unknown value; expected fp32"},
      {"log: {jsonl: yes}", "log.jsonl = yes: not a truth value; expected true or false"},
      {"log: {jsonl: True}", "log.jsonl = True: not a truth value"},
      {"log: {jsonl: 1}", "not a truth value"},
      {"log: {console_every: -1}",
       "log.console_every = -1: out of range; expected a whole number of at least 0"},
      {"model: {d_model: 2}", "c.yaml:7:1: duplicate key 'model'; it is already set in line 2"},
      {"extends: [a]", "c.yaml:7:10: extends = [a]; expected the path of one file"},
  };
  for (const Case& c : cases) {
    const fs::path path = folder.write("c.yaml", std::string(kSmallest) + c.text + "\n");
    CAPTURE(c.text);
    CHECK_THAT(error_of(folder, path), ContainsSubstring(c.expected));
    CHECK_THAT(error_of(folder, path), ContainsSubstring("c.yaml:7:"));
    CHECK(error_of(folder, path).find('\n') == std::string::npos);
  }
}

TEST_CASE("settings that contradict one another are refused where one of them stands",
          "[train][config]") {
  const Folder folder("contradictions");
  const fs::path path = folder.write("c.yaml", kSmallest);
  struct Case {
    Overrides overrides;
    const char* expected;
  };
  const std::vector<Case> cases = {
      {{"model.n_heads=5"}, "command line: model.n_heads = 5 does not divide model.d_model = 32"},
      {{"model.d_model=33"}, "c.yaml:5:12: model.n_heads = 4 does not divide model.d_model = 33"},
      {{"model.n_kv_heads=3"},
       "command line: model.n_kv_heads = 3 does not divide model.n_heads = 4"},
      {{"model.head_dim=5"}, "model.position.fraction = 1 rotates 5 of 5 channels"},
      {{"model.norm={weight: false, unit_offset: true}"},
       "command line: model.norm.unit_offset needs a gain"},
      {{"model.attention.window=4"},
       "command line: model.attention.window = 4 but no layer is local"},
      {{"model.attention={window: 4, pattern: [full, full, local]}"},
       "model.attention.window = 4 but no layer is local"},  // two layers: the third is not there
      {{"model.attention.pattern=[]"}, "command line: model.attention.pattern = []"},
      {{"model.attention={qk_norm: l2, qk_norm_kind: layernorm}"},
       "command line: model.attention.qk_norm_kind = layernorm contradicts"},
      {{"model.attention.v_norm=true"},
       "command line: model.attention.v_norm does to v what qk_norm does to k"},
      {{"model.attention.qk_norm=per_head", "model.attention.qk_norm_kind=layernorm",
        "model.head_dim=1", "model.position.kind=none"},
       "command line: model.attention.qk_norm_kind = layernorm makes heads of one channel 0"},
      {{"model.position.layers=local"},
       "command line: model.position.layers = local but model.attention.pattern"},
      {{"model.position.layers=full", "model.attention.pattern=local"},
       "command line: model.position.layers = full but model.attention.pattern"},
      {{"model.position.layers=[0, 2]"},
       "command line: model.position.layers names layer 2; expected 0 to 1"},
      {{"model.position.layers=[1, 1]"}, "model.position.layers names layer 1 twice"},
      {{"model.position.layers=[]"}, "model.position.layers = []; expected at least one layer"},
      {{"model.position.layers=some"},
       "model.position.layers = some: unknown value; expected all | local | full | a list of"},
      {{"model.position.layers=loca"}, "did you mean 'local'?"},
      {{"model.position={kind: t5, t5_max_distance: 16}"},
       "command line: model.position.t5_max_distance = 16; expected more than half of"},
      {{"model.block.residual_scale=width"},
       "model.block.residual_scale = width: unknown value; expected depth | a number above 0"},
      {{"model.block.residual_scale=0"}, "model.block.residual_scale = 0: out of range"},
      {{"model.head.scale=sqrt_d"},
       "model.head.scale = sqrt_d: unknown value; expected rsqrt_d | a number above 0; did you "
       "mean 'rsqrt_d'?"},
      {{"model.position.kind=learned", "model.max_seq_len=8"},
       "command line: model.max_seq_len = 8: shorter than data.seq_len = 16"},
      {{"model.vocab_size=128"}, "command line: model.vocab_size = 128: bytes need 256"},
      {{"data.source=tokens"}, "c.yaml:3:3: model.vocab_size is not set"},
      {{"data.source=tokens", "model.vocab_size=65537"},
       "token files hold 16-bit ids; expected at most 65536"},
      {{"data.source=synthetic", "data.synthetic.corpus=uniform"},
       "c.yaml:3:3: model.vocab_size is not set"},
      {{"data.tokenizer=tokenizer.json"},
       "command line: data.tokenizer = tokenizer.json: not in this version; expected bytes"},
      {{"data.tokenizer=words"}, "command line: data.tokenizer = words: unknown tokenizer"},
      {{"train.grad_accum=3"},
       "command line: train.grad_accum = 3: does not divide train.batch_size = 16"},
      {{"train.skip_steps=[[1, 4], [5, 5]]"}, "train.skip_steps: the range [5, 5) is empty"},
      {{"train.skip_steps=[1, 4]"},
       "train.skip_steps = 1: not a list; expected a list of a list of 2 values"},
      {{"model.d_model="}, "command line: model.d_model = null: has no value"},
      {{"model=3"}, "command line: model = 3: not a mapping"},
      {{"model.d_model.x=3"},
       "command line: model.d_model = {x: 3}: a mapping; expected a whole number"},
      {{"optim.lr"},
       "command line: optim.lr: not an override; expected key=value such as optim.lr=3e-3"},
      {{"=3"}, "command line: =3: not a dotted key"},
      {{"optim..lr=3"}, "not a dotted key"},
      {{".lr=3"}, "not a dotted key"},
      {{"optim.lr =3"}, "not a dotted key"},
      {{"extends=a.yaml"}, "extends belongs in the file"},
      {{"optim.lr=[1"},
       "command line: optim.lr:1:1: a key that is a list or a mapping, or a bracket that is never "
       "closed"},
      {{"optim.lr=1 2: 3: 4"}, "command line: optim.lr:1:"},
      {{"optim.l=3"}, "command line: unknown key 'optim.l'; did you mean 'lr'?"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.overrides);
    CHECK_THAT(error_of(folder, path, c.overrides), ContainsSubstring(c.expected));
    CHECK(error_of(folder, path, c.overrides).find('\n') == std::string::npos);
  }
  CHECK(error_of(folder, path, {"model.n_heads=5", "model.head_dim=8"}).empty());
  CHECK(error_of(folder, path, {"optim.decay=independent", "optim.weight_decay=1e-4"}).empty());
  for (const char* kind : {"adamw", "lion"}) {
    CHECK_THAT(error_of(folder, path, {concat("optim.kind=", kind), "optim.decay=independent"}),
               ContainsSubstring("needs an explicit optim.weight_decay"));
  }
  for (const char* kind : {"adam", "sgd"}) {  // idle there
    CHECK(error_of(folder, path, {concat("optim.kind=", kind), "optim.decay=independent"}).empty());
  }
  CHECK(error_of(folder, path, {"data.source=tokens", "model.vocab_size=50257"}).empty());
  CHECK(error_of(folder, path, {"model.max_seq_len=8"}).empty());  // rope does not mind
  // What another key makes idle contradicts nothing.
  for (const char* layers : {"local", "full", "[7]", "[]"}) {
    CHECK(
        error_of(folder, path, {"model.position.kind=t5", concat("model.position.layers=", layers)})
            .empty());
  }
  CHECK(error_of(folder, path, {"train.skip_steps=[[1, 4], [5, 6]]"}).empty());
}

TEST_CASE("a missing required key is named with what it takes", "[train][config]") {
  const Folder folder("required");
  CHECK_THAT(error_of(folder, folder.write("a.yaml", "model: {d_model: 1, n_heads: 1}\n")),
             ContainsSubstring(
                 "a.yaml:1:8: model.n_layers is not set; expected a whole number of at least 1"));
  CHECK_THAT(
      error_of(folder, folder.write("b.yaml", "model: {d_model: 1, n_heads: 1, n_layers: 1}\n")),
      ContainsSubstring("b.yaml: train.steps is not set"));
  CHECK_THAT(error_of(folder, folder.write("c.yaml", "loss: {z_loss: 0}\n")),
             ContainsSubstring("c.yaml: model.d_model is not set"));
}

TEST_CASE("every kind of every choice loads, and its planned kinds say so", "[train][config]") {
  const Folder folder("choices");
  const fs::path path = folder.write("c.yaml", kSmallest);
  // Presets rotate 0.25 and 0.4 of head_dim.
  const Overrides common = {"model.vocab_size=256", "optim.weight_decay=0.1", "model.head_dim=40"};
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  int64_t n_choices = 0;
  for (const Field* field : leaf_fields(fields)) {
    const bool is_list = field->type.kind == ValueType::Kind::list;
    const ValueType& type = is_list ? field->type.element.front() : field->type;
    if (type.kind != ValueType::Kind::choice) continue;
    ++n_choices;
    const auto error_with = [&](const std::string& name) {
      Overrides overrides = common;
      overrides.push_back(concat(field->path, "=", is_list ? "[" : "", name, is_list ? "]" : ""));
      return error_of(folder, path, overrides);
    };
    for (const auto& choice : type.choices) {
      CAPTURE(field->path, choice.name);
      CHECK(error_with(choice.name).empty());
      CHECK_FALSE(choice.paper.empty());
      CHECK_THAT(error_with(choice.name + "x"),
                 ContainsSubstring("did you mean '") &&
                     ContainsSubstring(choice.name + "x: unknown value"));
    }
    for (const auto& name : type.planned) {
      CAPTURE(field->path, name);
      CHECK_THAT(error_with(name),
                 ContainsSubstring(concat(field->path, " = ", name, ": not in this version")));
    }
  }
  CHECK(n_choices == 24);
}

TEST_CASE("numbers on the edge of their range are read and those beyond are refused",
          "[train][config]") {
  const Folder folder("ranges");
  const fs::path path = folder.write("c.yaml", kSmallest);
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  for (const Field* field : leaf_fields(fields)) {
    if (field->type.kind != ValueType::Kind::integer &&
        field->type.kind != ValueType::Kind::number) {
      continue;
    }
    const Range& range = field->type.range;
    const auto refused = [&](double x) {
      const std::string text =
          x == std::floor(x) ? std::to_string(static_cast<int64_t>(x)) : format_double(x);
      const std::string error = error_of(folder, path, {concat(field->path, "=", text)});
      return error.find("out of range; expected") != std::string::npos;
    };
    CAPTURE(field->path);
    REQUIRE(std::isfinite(range.low));  // every number has a lower bound
    CHECK(refused(range.low_open ? range.low : range.low - 1.0));
    if (!range.low_open) CHECK_FALSE(refused(range.low));
    if (std::isfinite(range.high)) {
      CHECK(refused(range.high_open ? range.high : range.high + 1.0));
      if (!range.high_open) CHECK_FALSE(refused(range.high));
    }
  }
}

TEST_CASE("keys that no code serves take their default and nothing else", "[train][config]") {
  const Folder folder("unserved");
  const fs::path path = folder.write("c.yaml", kSmallest);
  const std::vector<Overrides> accepted = {
      {"model.preset=null"},
      {"spikes.action=log"},
      {"spikes.rewind.steps=100"},
      {"spikes.divergence.factor="},
      {"faults=[]"},
      {"optim.clip.alpha=0.97"},
      {"monitor.logits=1"},
      {"monitor={grad_norms: 2, update_norms: 0, logits: 5}"},
      {"log.tensorboard=false"},
      {"log.tensorboard=true"},
      {"spikes.signals=[train/ce, optim/grad_norm, optim/update_norm]"},
  };
  for (const Overrides& overrides : accepted) {
    CAPTURE(overrides);
    CHECK(error_of(folder, path, overrides).empty());
  }
  const std::vector<std::string> refused = {
      "optim.clip.kind=zclip",       "optim.clip.z=3",
      "run.precision=bf16",          "data.synthetic.corpus=dyck",
      "data.synthetic.bursts=0.005", "monitor.attention=10",
      "monitor.activations=1",       "monitor.optimizer=1",
      "spikes.detector=zscore",      "spikes.action=rewind",
      "spikes.nonfinite=skip",       "spikes.forensics=false",
      "spikes.rewind.skip=1",        "spikes.divergence.factor=2",
      "faults=[{kind: nan, at: 3}]",
  };
  for (const std::string& text : refused) {
    CAPTURE(text);
    const std::string error = error_of(folder, path, {text});
    CHECK_THAT(error,
               ContainsSubstring(concat("command line: ", text.substr(0, text.find('=')), " = ")));
    CHECK_THAT(error, ContainsSubstring(": not in this version; expected "));
  }
}

TEST_CASE("a dumped configuration loads back to the same dump and hash", "[train][config]") {
  const Folder folder("roundtrip");
  const std::vector<Overrides> variants = {
      {},
      {"model.norm.kind=layernorm", "model.norm.bias=true", "model.n_kv_heads=2",
       "model.ffn.d_ff=100"},
      {"optim.lr=0.1", "optim.eps=1e-30", "optim.betas=[0.3, 0.123456789012345678]",
       "optim.no_decay=[]"},
      {"run.name=yes", "run.dir=a b/é", "data.train=['x y.txt', \"on\"]", "data.val='v: 1.txt'"},
      {"data.source=synthetic", "data.synthetic.corpus=markov2", "model.vocab_size=300"},
      {"optim.decay=independent", "optim.weight_decay=1e-4",
       "optim.schedule={kind: wsd, decay_steps: 3}"},
      {"train.skip_steps=[[1, 2], [4, 8]]", "run.init_seed=3", "run.data_seed=4",
       "model.init.trunc=2"},
      {"model.attention.scale=0.3333333333333333", "run.name='007'", "log.tensorboard=false"},
  };
  for (const Overrides& overrides : variants) {
    CAPTURE(overrides);
    const RunConfig c = load_smallest(folder, overrides);
    const std::string dump = dump_config(c);
    const RunConfig back = load_config(folder.write("elsewhere/dump.yaml", dump));
    CHECK(dump_config(back) == dump);
    CHECK(config_hash(back) == config_hash(c));
    CHECK(back.run.name == c.run.name);
    CHECK(back.data.train == c.data.train);
    CHECK(back.data.val == c.data.val);
  }
}

TEST_CASE("the hash tells configurations apart and is the same on every machine",
          "[train][config]") {
  const Folder folder("hash");
  const RunConfig a = load_smallest(folder);
  const RunConfig b = load_smallest(folder, {"optim.lr=3.1e-4"});
  CHECK(config_hash(a) != config_hash(b));
  CHECK(config_hash(a) == config_hash(load_smallest(folder)));
  CHECK(config_hash(a).size() == 16);
}

TEST_CASE(
    "data paths are looked up beside the file, then in the working directory, and become absolute",
    "[train][config]") {
  const Folder folder("paths");
  folder.write("base/beside.txt", "x");
  folder.write("base/base.yaml",
               std::string(kSmallest).replace(
                   0, 5, "data: {train: [beside.txt], val: none.txt, seq_len: 16}\n#"));
  const fs::path top = folder.write("top.yaml", "extends: base/base.yaml\n");
  const RunConfig c = load_config(top);
  REQUIRE(c.data.train.size() == 1);
  CHECK(c.data.train[0] == (folder.path() / "base/beside.txt").string());
  REQUIRE(c.data.val.size() == 1);
  CHECK(c.data.val[0] == (folder.path() / "base/none.txt").string());

  const fs::path before = fs::current_path();
  folder.write("work/typed.txt", "x");
  folder.write("beside_top.txt", "x");
  fs::current_path(folder.path() / "work");
  const Overrides overrides = {
      "data.train=[typed.txt, beside_top.txt, /absolute.txt, missing.txt]"};
  const std::vector<std::string> typed = load_config("../top.yaml", overrides).data.train;
  fs::current_path(before);
  CHECK(typed == std::vector<std::string>{(folder.path() / "work/typed.txt").string(),
                                          (folder.path() / "beside_top.txt").string(),
                                          "/absolute.txt",
                                          (folder.path() / "work/missing.txt").string()});
}

TEST_CASE("settings without effect are noted, and only where they were written",
          "[train][config]") {
  const Folder folder("notes");
  const fs::path path =
      folder.write("c.yaml", std::string(kSmallest) + "optim: {clip: {kind: none, max_norm: 3}}\n");
  std::vector<std::string> notes = {"old"};
  load_config(path, {}, &notes);
  REQUIRE(notes.size() == 1);
  CHECK_THAT(notes[0],
             ContainsSubstring(
                 "c.yaml:7:38: optim.clip.max_norm has no effect while optim.clip.kind is none"));
  const Overrides overrides = {"optim.clip.kind=global", "model.position.kind=none",
                               "model.position.theta=100", "optim.schedule.warmup_steps=10"};
  load_config(path, overrides, &notes);
  REQUIRE(notes.size() == 2);
  CHECK_THAT(notes[0], ContainsSubstring("command line: model.position.theta has no effect"));
  CHECK_THAT(notes[1], ContainsSubstring("the run ends within the warm-up"));
  const Overrides sgd = {"optim.clip.kind=global", "optim.kind=sgd", "optim.eps=1e-6",
                         "optim.decay=independent"};
  load_config(path, sgd, &notes);
  REQUIRE(notes.size() == 2);
  CHECK_THAT(notes[0], ContainsSubstring("optim.decay has no effect while optim.kind is sgd"));
  CHECK_THAT(notes[1], ContainsSubstring("optim.eps has no effect while optim.kind is sgd"));
}

}  // namespace ballast
