// From a file to a RunConfig: merge what was written, read it, derive what was left out, and refuse
// what contradicts itself.
#include <algorithm>
#include <cmath>
#include <system_error>

#include "optim/optimizer.h"
#include "train/config/fields.h"
#include "train/config/preset.h"
#include "train/config/run_config.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

/// `over` onto `base`: mappings merge key by key, everything else replaces.
void merge(YamlNode& base, YamlNode over) {
  if (base.kind != YamlNode::Kind::map || over.kind != YamlNode::Kind::map) {
    base = std::move(over);
    return;
  }
  base.at = over.at;
  for (YamlEntry& entry : over.entries) {
    const auto it = std::find_if(base.entries.begin(), base.entries.end(),
                                 [&](const YamlEntry& e) { return e.key == entry.key; });
    if (it == base.entries.end()) {
      base.entries.push_back(std::move(entry));
    } else {
      it->at = entry.at;
      merge(it->value, std::move(entry.value));
    }
  }
}

/// The file with its ancestors beneath it. `chain` holds the files that led here.
YamlNode read_with_parents(const fs::path& path, std::vector<fs::path>& chain) {
  constexpr size_t kMaxChain = 16;
  YamlNode node = read_yaml_file(path);
  const auto extends = std::find_if(node.entries.begin(), node.entries.end(),
                                    [](const YamlEntry& e) { return e.key == "extends"; });
  if (extends == node.entries.end()) return node;

  const YamlNode value = extends->value;
  node.entries.erase(extends);
  if (value.kind == YamlNode::Kind::null) return node;
  const std::string where = value.at.str() + ": extends";
  if (value.kind != YamlNode::Kind::scalar || value.text.empty()) {
    throw ConfigError(concat(where, " = ", flow_text(value), "; expected the path of one file"));
  }
  chain.push_back(path);
  const fs::path parent = (path.parent_path() / value.text).lexically_normal();
  std::error_code error;
  if (!fs::exists(parent, error)) {
    throw ConfigError(concat(where, " = ", printable(value.text), ": no such file ",
                             printable(parent.string(), 4096), "; expected a path relative to ",
                             printable(path.string(), 4096)));
  }
  for (size_t i = 0; i < chain.size(); ++i) {
    if (!fs::equivalent(chain[i], parent, error)) continue;
    std::string cycle;
    for (; i < chain.size(); ++i) cycle += chain[i].string() + " -> ";
    throw ConfigError(concat(where, " is a cycle: ", printable(cycle + parent.string(), 4096)));
  }
  if (chain.size() >= kMaxChain) {
    throw ConfigError(concat(where, ": more than ", kMaxChain, " files extend one another"));
  }
  YamlNode base = read_with_parents(parent, chain);
  merge(base, std::move(node));
  return base;
}

const char* const kCommandLine = "command line";

/// "optim.lr=3e-3" as {optim: {lr: 3e-3}}.
YamlNode read_override(const std::string& text) {
  const size_t equals = text.find('=');
  const std::string path = text.substr(0, equals);
  const Location at{kCommandLine, 0, 0};
  const auto refuse = [&](const std::string& reason) {
    throw ConfigError(concat(kCommandLine, ": ", printable(text), ": ", reason,
                             "; expected key=value such as optim.lr=3e-3"));
  };
  if (equals == std::string::npos) refuse("not an override");
  if (path.empty() || path.front() == '.' || path.back() == '.' ||
      path.find("..") != std::string::npos || path.find_first_of(" \t\n") != std::string::npos ||
      std::count(path.begin(), path.end(), '.') > 30) {
    refuse("not a dotted key");
  }
  if (path == "extends") refuse("extends belongs in the file");

  // Places inside the value mean little: there is one line, and the key says which.
  const auto relocate = [&](const auto& self, YamlNode& node) -> void {
    node.at = at;
    for (YamlNode& item : node.items) self(self, item);
    for (YamlEntry& entry : node.entries) {
      entry.at = at;
      self(self, entry.value);
    }
  };
  YamlNode node = parse_yaml(text.substr(equals + 1), concat(kCommandLine, ": ", printable(path)));
  relocate(relocate, node);
  for (size_t end = path.size();;) {
    const size_t dot = path.rfind('.', end - 1);
    const size_t begin = dot == std::string::npos ? 0 : dot + 1;
    YamlNode outer;
    outer.kind = YamlNode::Kind::map;
    outer.at = at;
    outer.entries.push_back({path.substr(begin, end - begin), at, std::move(node)});
    node = std::move(outer);
    if (begin == 0) return node;
    end = dot;
  }
}

/// What follows the reading of single values.
class Resolver {
 public:
  Resolver(RunConfig& config, const SetKeys& set, fs::path path)
      : c_(config), set_(set), path_(std::move(path)) {}

  void resolve() {
    resolve_run();
    resolve_data();
    resolve_model();
    check_optim();
    check_train();
  }

 private:
  bool is_set(std::string_view key) const {
    const auto it = set_.find(key);
    return it != set_.end() && it->second.kind != YamlNode::Kind::null;
  }

  /// Where the key was set, or the section it belongs to, or the file.
  Location locate(std::string key) const {
    for (;;) {
      const auto it = set_.find(key);
      if (it != set_.end()) return it->second.at;
      const size_t dot = key.rfind('.');
      if (dot == std::string::npos) return {path_.string(), 0, 0};
      key.resize(dot);
    }
  }

  template <class... Parts>
  [[noreturn]] void fail(const std::string& key, const Parts&... parts) const {
    throw ConfigError(concat(locate(key).str(), ": ", key, parts...));
  }

  /// Runs a check of a layer below, whose message begins with the key, and adds the place.
  template <class Check>
  void located(Check&& check_it) const {
    try {
      check_it();
    } catch (const std::invalid_argument& e) {
      const std::string message = e.what();
      const std::string key = message.substr(0, message.find(' '));
      throw ConfigError(concat(locate(key).str(), ": ", message));
    }
  }

  void resolve_run() {
    if (c_.run.name.empty()) c_.run.name = path_.stem().string();
    const std::string& name = c_.run.name;
    if (name == "." || name == ".." || name.size() > 200 ||
        std::any_of(name.begin(), name.end(), [](char ch) {
          return ch == '/' || static_cast<unsigned char>(ch) < 0x20 || ch == 0x7F;
        })) {
      fail("run.name", " = ", printable(name), ": no name for a folder; expected one without '/'");
    }
  }

  void resolve_data() {
    DataConfig& data = c_.data;
    const auto ends_with = [&](std::string_view end) {
      return data.tokenizer.size() > end.size() &&
             data.tokenizer.compare(data.tokenizer.size() - end.size(), end.size(), end) == 0;
    };
    if (data.tokenizer != "bytes") {
      const bool is_planned = ends_with(".json") || ends_with(".model");
      fail("data.tokenizer", " = ", printable(data.tokenizer), ": ",
           is_planned ? "not in this version" : "unknown tokenizer", "; expected bytes");
    }
    resolve_paths("data.train", data.train);
    resolve_paths("data.val", data.val);
  }

  /// Paths become absolute, so that a resolved configuration works from any folder.
  void resolve_paths(const std::string& key, std::vector<std::string>& paths) const {
    const Location at = locate(key);
    const bool is_typed = at.source == kCommandLine;
    const fs::path here = fs::current_path();
    const fs::path beside = fs::absolute(is_typed ? path_ : fs::path(at.source)).parent_path();
    for (std::string& path : paths) {
      if (fs::path(path).is_absolute()) continue;
      std::error_code error;
      const fs::path from_file = (beside / path).lexically_normal();
      const fs::path from_here = (here / path).lexically_normal();
      const bool use_file =
          fs::exists(from_file, error) || (!is_typed && !fs::exists(from_here, error));
      path = (use_file ? from_file : from_here).string();
    }
  }

  void resolve_model() {
    ModelConfig& model = c_.model;
    const DataConfig& data = c_.data;
    const bool is_bytes =
        data.source == DataKind::text ||
        (data.source == DataKind::synthetic && data.synthetic.corpus == CorpusKind::stories);
    if (!model.vocab_size) {
      if (!is_bytes) {
        fail("model.vocab_size",
             " is not set; expected the number of distinct tokens, which data.source: ",
             name_of(data.source), " does not tell");
      }
      model.vocab_size = 256;
    }
    if (is_bytes && *model.vocab_size < 256) {
      fail("model.vocab_size", " = ", *model.vocab_size, ": bytes need 256; expected at least 256");
    }
    if (data.source == DataKind::tokens && *model.vocab_size > 65536) {
      fail("model.vocab_size", " = ", *model.vocab_size,
           ": token files hold 16-bit ids; expected at most 65536");
    }
    if (!model.max_seq_len) model.max_seq_len = data.seq_len;
    if (model.position.kind == PositionKind::learned && *model.max_seq_len < data.seq_len) {
      fail("model.max_seq_len", " = ", *model.max_seq_len,
           ": shorter than data.seq_len = ", data.seq_len,
           "; learned positions need one entry for every token of a sequence");
    }
    located([&] { validate(model); });
  }

  void check_optim() const {
    const OptimConfig& optim = c_.optim;
    located([&] { validate(optim); });
    if (optim.decay == DecayForm::independent && traits_of(optim.kind).decoupled_decay &&
        !is_set("optim.weight_decay")) {
      fail("optim.decay",
           " = independent: needs an explicit optim.weight_decay; its default is meant"
           " for coupled decay, which is multiplied by lr = ",
           format_double(optim.lr));
    }
    for (size_t i = 0; i < optim.no_decay.size(); ++i) {
      if (std::count(optim.no_decay.begin(), optim.no_decay.end(), optim.no_decay[i]) > 1) {
        fail("optim.no_decay", " names ", name_of(optim.no_decay[i]), " twice");
      }
    }
  }

  void check_train() const {
    const TrainConfig& train = c_.train;
    if (train.batch_size % train.grad_accum != 0) {
      fail("train.grad_accum", " = ", train.grad_accum,
           ": does not divide train.batch_size = ", train.batch_size,
           "; expected micro-batches of equal size");
    }
    for (const auto& [begin, end] : train.skip_steps) {
      if (begin >= end) {
        fail("train.skip_steps", ": the range [", begin, ", ", end,
             ") is empty; expected [first, one past the last]");
      }
    }
  }

  RunConfig& c_;
  const SetKeys& set_;
  fs::path path_;
};

/// note(key, is_idle, why) for the keys of the model.
template <class Note>
void note_model(const ModelConfig& c, const Note& note) {
  const NormKind norm = c.norm.kind;
  const std::string while_norm = concat("while model.norm.kind is ", name_of(norm));
  const bool is_plain_norm = norm == NormKind::layernorm || norm == NormKind::rmsnorm;
  const bool has_qk_norm = c.attention.qk_norm != QkNorm::none;
  const bool has_qk_gain = has_qk_norm && c.attention.qk_norm != QkNorm::l2;
  note("model.norm.eps", (norm == NormKind::none || norm == NormKind::dyt) && !has_qk_norm,
       while_norm);
  note("model.norm.weight", (norm == NormKind::none || norm == NormKind::scalenorm) && !has_qk_gain,
       while_norm);
  note("model.norm.bias",
       norm != NormKind::layernorm && norm != NormKind::dyt &&
           !(has_qk_gain && c.qk_norm_kind() == QkNormKind::layernorm),
       while_norm);
  note("model.norm.unit_offset", !is_plain_norm && !has_qk_gain, while_norm);
  for (const char* key : {"model.norm.placement", "model.norm.embedding", "model.norm.final"}) {
    note(key, norm == NormKind::none, while_norm);
  }

  const bool is_parallel = c.block.topology == BlockTopology::parallel;
  const bool reads_residual =
      c.norm.placement == NormPlacement::post || c.norm.placement == NormPlacement::output;
  note("model.block.parallel_norms", !is_parallel, "while model.block.topology is serial");
  note("model.block.parallel_norms", is_parallel && norm == NormKind::none, while_norm);
  note("model.block.parallel_norms", is_parallel && norm != NormKind::none && reads_residual,
       concat("while model.norm.placement is ", name_of(c.norm.placement),
              ", which has no norm before the branches"));

  const PositionKind position = c.position.kind;
  const std::string while_position = concat("while model.position.kind is ", name_of(position));
  for (const char* key : {"model.position.theta", "model.position.theta_local",
                          "model.position.fraction", "model.position.layout"}) {
    note(key, position != PositionKind::rope, while_position);
  }
  bool rotates_local = false, rotates_full = false, has_nope = false;
  for (int64_t i = 0; i < c.n_layers; ++i) {
    rotates_local = rotates_local || (c.has_rope(i) && c.is_local(i));
    rotates_full = rotates_full || (c.has_rope(i) && !c.is_local(i));
    has_nope = has_nope || !c.has_rope(i);
  }
  note("model.position.theta_local", position == PositionKind::rope && !rotates_local,
       "while no layer with rope is local");
  note("model.position.theta",
       position == PositionKind::rope && !rotates_full && c.position.theta_local.has_value(),
       "while every layer with rope is local and model.position.theta_local is set");
  note("model.position.layers", position != PositionKind::rope && position != PositionKind::alibi,
       while_position);
  note("model.position.alibi_scaled", position != PositionKind::alibi, while_position);
  for (const char* key : {"model.position.t5_buckets", "model.position.t5_max_distance"}) {
    note(key, position != PositionKind::t5, while_position);
  }

  for (const char* key : {"model.attention.qk_norm_kind", "model.attention.qk_norm_after_rope",
                          "model.attention.qk_norm_layers"}) {
    note(key, !has_qk_norm, "while model.attention.qk_norm is none");
  }
  note("model.attention.qk_norm_after_rope", has_qk_norm && position != PositionKind::rope,
       while_position);
  note("model.attention.qk_norm",
       has_qk_norm && c.attention.qk_norm_layers == QkNormLayers::rope &&
           position != PositionKind::rope,
       concat("in layers with rope alone ", while_position));
  note("model.attention.local", c.attention.window == 0, "while model.attention.window is 0");
  const auto* layers = std::get_if<LayerSet>(&c.position.layers);
  note("model.attention.pattern",
       c.attention.window == 0 && !(rotates_local && c.position.theta_local) &&
           (layers == nullptr || *layers == LayerSet::all),
       "while model.attention.window is 0 and no other key tells local layers from full ones");
  note("model.attention.nope_temperature", !has_nope, "while every layer has rope");
  note("model.attention.nope_temperature_floor", c.attention.nope_temperature == 0.0 || !has_nope,
       has_nope ? "while model.attention.nope_temperature is 0" : "while every layer has rope");
}

std::map<std::string, std::string, std::less<>> value_texts(RunConfig config) {
  std::map<std::string, std::string, std::less<>> texts;
  const std::vector<Field> fields = run_config_fields(config);
  for (const Field* field : leaf_fields(fields)) texts[field->path] = flow_text(field->write());
  return texts;
}

/// Settings that are legal, were written down, and change nothing.
std::vector<std::string> idle_keys(const RunConfig& c, const SetKeys& set) {
  std::vector<std::string> notes;
  // A default that is written out is no request: a resolved configuration has all of them.
  const auto defaults = value_texts({});
  const auto values = value_texts(c);
  const auto note = [&](const char* key, bool is_idle, const std::string& why) {
    const auto it = set.find(std::string_view(key));
    if (!is_idle || it == set.end() || values.at(key) == defaults.at(key)) return;
    if (is_preset_place(it->second.at)) return;
    notes.push_back(concat(it->second.at.str(), ": ", key, " has no effect ", why));
  };
  const bool is_synthetic = c.data.source == DataKind::synthetic;
  const bool is_markov = c.data.synthetic.corpus == CorpusKind::markov1 ||
                         c.data.synthetic.corpus == CorpusKind::markov2;
  const bool is_constant = c.optim.schedule.kind == ScheduleKind::constant ||
                           c.optim.schedule.kind == ScheduleKind::inv_sqrt;
  note("data.train", is_synthetic, "while data.source is synthetic");
  note("data.val", is_synthetic, "while data.source is synthetic");
  note("data.val_fraction", is_synthetic, "while data.source is synthetic");
  note("data.val_fraction", !is_synthetic && !c.data.val.empty(), "while data.val is set");
  for (const char* key :
       {"data.synthetic.corpus", "data.synthetic.successors", "data.synthetic.concentration"}) {
    note(key, !is_synthetic, concat("while data.source is ", name_of(c.data.source)));
  }
  for (const char* key : {"data.synthetic.successors", "data.synthetic.concentration"}) {
    note(key, is_synthetic && !is_markov, "while data.synthetic.corpus is no Markov chain");
  }
  note_model(c.model, note);
  for (const char* key : {"model.ffn.ratio", "model.ffn.multiple_of"}) {
    note(key, c.model.ffn.d_ff.has_value(), "while model.ffn.d_ff is set");
  }
  note("model.init.std",
       c.model.init.scheme != InitScheme::normal && c.model.init.embedding_std.has_value(),
       concat("while model.init.scheme is ", name_of(c.model.init.scheme)));
  note("optim.clip.max_norm", c.optim.clip.kind == ClipKind::none, "while optim.clip.kind is none");
  const OptimizerTraits optimizer = traits_of(c.optim.kind);
  const std::string with_kind = concat("while optim.kind is ", name_of(c.optim.kind));
  note("optim.decay", !optimizer.decoupled_decay, with_kind);
  note("optim.eps", !optimizer.uses_eps, with_kind);
  note("optim.no_decay", c.optim.weight_decay == 0.0, "while optim.weight_decay is 0");
  for (const char* key : {"optim.schedule.min_lr", "optim.schedule.decay_steps"}) {
    note(key, is_constant, concat("while optim.schedule.kind is ", name_of(c.optim.schedule.kind)));
  }
  note("train.early_stopping.min_delta", c.train.early_stopping.patience == 0,
       "while train.early_stopping.patience is 0");
  note("log.tensorboard", c.log.tensorboard, "in this version");
  if (c.optim.schedule.warmup_steps >= c.train.steps) {
    notes.push_back(concat("optim.schedule.warmup_steps = ", c.optim.schedule.warmup_steps,
                           ": the run ends within the warm-up (train.steps = ", c.train.steps,
                           ")"));
  }
  return notes;
}

}  // namespace

RunConfig load_config(const std::filesystem::path& path, std::span<const std::string> overrides,
                      std::vector<std::string>* notes) {
  std::vector<fs::path> chain;
  YamlNode root = read_with_parents(path, chain);
  for (const std::string& text : overrides) merge(root, read_override(text));
  // An unknown name is refused when the key is read.
  if (const Preset* preset = preset_of(root)) {
    YamlNode base = preset_node(*preset);
    merge(base, std::move(root));
    root = std::move(base);
  }
  root.at = {path.string(), 0, 0};

  RunConfig config;
  const SetKeys set = read_fields(root, run_config_fields(config));
  Resolver(config, set, path).resolve();
  if (notes != nullptr) *notes = idle_keys(config, set);
  return config;
}

}  // namespace ballast
