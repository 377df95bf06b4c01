#include "train/config/fields.h"

#include <cmath>

#include "layers/presets.h"

namespace ballast {
namespace {

// Upper bounds are far above anything that trains on a CPU; below them no product of two sizes
// overflows 64 bits.
constexpr double kMaxWidth = 1 << 20;
constexpr double kMaxCount = 1e15;

void run_fields(FieldList& f, RunSection& c) {
  f("name", c.name, "name of the run's folder; null: the file's stem").or_null();
  f("dir", c.dir, "folder that holds the run folder dir/name, relative to the working directory");
  f("seed", c.seed, "initial values, data order and dropout derive from it").at_least(0);
  f("init_seed", c.init_seed, "seed of the initial values alone; null: seed").at_least(0);
  f("data_seed", c.data_seed, "seed of the data order alone; null: seed").at_least(0);
  f("threads", c.threads, "threads that compute; 0: all cores this process may use")
      .at_least(0)
      .at_most(4096);
  f("precision", c.precision, "number format of activations and matrix products");
}

void data_fields(FieldList& f, DataConfig& c) {
  f("source", c.source, "where the tokens come from");
  f("train", c.train,
    "paths of the training files, relative to the file that names them, then to "
    "the working directory")
      .or_lone_item();
  f("val", c.val, "paths of the validation files; empty: the last val_fraction of train")
      .or_lone_item();
  f("val_fraction", c.val_fraction, "share of train kept for validation when val is empty")
      .above(0)
      .below(1);
  f("tokenizer", c.tokenizer, "how text becomes tokens; this version: bytes (vocabulary 256)");
  f("seq_len", c.seq_len, "tokens of a training sequence").at_least(1).at_most(kMaxWidth);
  f("order", c.order, "how training sequences are drawn");
  f.section("synthetic", "the generated corpus of source: synthetic", [&](FieldList& s) {
    s("corpus", c.synthetic.corpus,
      "generator; stories is bytes, the others take model.vocab_size");
    s("successors", c.synthetic.successors, "markov1, markov2: tokens that can follow a context")
        .at_least(2)
        .at_most(kMaxWidth);
    s("concentration", c.synthetic.concentration,
      "markov1, markov2: of the Dirichlet distribution that transition probabilities are drawn "
      "from")
        .above(0)
        .at_most(1e6);
    s.unserved("bursts", "0.0", "a probability", "share of positions that start a repeated n-gram");
  });
}

void norm_fields(FieldList& f, NormConfig& c) {
  f("kind", c.kind, "normalisation of every norm site");
  f("placement", c.placement, "where a block normalises, relative to its residual sum");
  f("eps", c.eps, "added to the mean square (variance) before the root; scalenorm: least length")
      .above(0)
      .at_most(1);
  f("weight", c.weight, "learned gain");
  f("bias", c.bias, "learned shift (layernorm, dyt)");
  f("unit_offset", c.unit_offset,
    "rmsnorm, layernorm: the gain is stored as w and applied as (1 + w)");
  f("final", c.final, "a norm before the head");
  f("embedding", c.embedding, "a norm right after the embedding");
}

void ffn_fields(FieldList& f, ModelConfig& c) {
  f("activation", c.ffn.activation, "nonlinearity of the feed-forward branch");
  f("gated", c.ffn.gated, "act(gate(x)) * up(x): silu gives SwiGLU, gelu GeGLU, relu ReGLU");
  f("d_ff", c.ffn.d_ff, "hidden width, in channels; null: from ratio")
      .at_least(1)
      .at_most(kMaxWidth)
      .null_means([&c] { return std::to_string(c.d_ff()); });
  f("ratio", c.ffn.ratio, "d_ff / d_model where d_ff is null; null: 8/3 gated, 4 plain")
      .above(0)
      .at_most(1024);
  f("multiple_of", c.ffn.multiple_of, "a d_ff that comes from the ratio is rounded up to it")
      .at_least(1)
      .at_most(kMaxWidth);
}

void position_fields(FieldList& f, PositionConfig& c) {
  f("kind", c.kind, "how the model knows positions");
  f("theta", c.theta, "rope: base of the wavelengths").at_least(1);
  f("theta_local", c.theta_local, "rope: theta of local layers; null: theta").at_least(1);
  f("fraction", c.fraction, "rope: share of head_dim that is rotated").above(0).at_most(1);
  f("layout", c.layout, "rope: which channels form a pair");
  f("layers", c.layers, "layers where rope or alibi applies").at_least(0).at_most(10000);
  f("alibi_scaled", c.alibi_scaled,
    "alibi: the bias is added before the scale, which so multiplies it too (Falcon-RW)");
  f("t5_buckets", c.t5_buckets, "t5: buckets of distances that share a learned bias")
      .at_least(2)
      .at_most(65536);
  f("t5_max_distance", c.t5_max_distance,
    "t5: distance in tokens from which all share the last bucket")
      .at_least(2)
      .at_most(kMaxWidth);
}

void attention_fields(FieldList& f, ModelConfig& c) {
  AttentionConfig& a = c.attention;
  f("qk_norm", a.qk_norm, "norm of queries and keys before their product; takes norm.eps");
  f("qk_norm_kind", a.qk_norm_kind,
    "kind of qk_norm; null: norm.kind where it is one of them, else rmsnorm")
      .null_means([&c] { return std::string(name_of(c.qk_norm_kind())); });
  f("qk_norm_after_rope", a.qk_norm_after_rope, "qk_norm comes after the rotation");
  f("qk_norm_layers", a.qk_norm_layers, "layers where qk_norm applies");
  f("v_norm", a.v_norm, "do to v what qk_norm does to k");
  f("scale", a.scale, "factor on q.k; null: 1/sqrt(head_dim)").above(0).null_means([&c] {
    return format_double(c.attention_scale());
  });
  f("softcap", a.softcap, "cap * tanh(logit / cap) before the mask; 0: off").at_least(0);
  f("window", a.window, "keys that a query of a local layer sees, itself included; 0: all")
      .at_least(0)
      .at_most(kMaxWidth);
  f("local", a.local, "which keys a local layer sees");
  f("pattern", a.pattern, "kinds of the layers, from the first on, repeated").or_lone_item();
  f("nope_temperature", a.nope_temperature,
    "in layers without rope q is multiplied by 1 + t log(1 + floor((position + 1) / "
    "nope_temperature_floor)) (Llama 4); 0: off")
      .at_least(0);
  f("nope_temperature_floor", a.nope_temperature_floor,
    "positions after which nope_temperature grows by a step")
      .at_least(1)
      .at_most(kMaxWidth);
  f("sink", a.sink, "one more term in the softmax's denominator");
}

/// One of the table's names. Its settings were merged into the document before it is read.
void preset_field(FieldList& f, std::string& name) {
  Field& field = f("preset", name, "a known architecture; every other key overrides it").or_null();
  field.type.kind = ValueType::Kind::choice;
  for (const Preset& preset : presets()) {
    field.type.choices.push_back({std::string(preset.name), std::string(preset.source)});
  }
  field.read = [&name](const YamlNode& node, const Field& self) {
    name = node.kind == YamlNode::Kind::null
               ? ""
               : self.type.choices[binding::read_choice(node, self, self.type)].name;
  };
}

void model_fields(FieldList& f, ModelConfig& c, std::string& preset) {
  preset_field(f, preset);
  f("d_model", c.d_model, "width of the residual stream, in channels")
      .must_be_set()
      .at_least(1)
      .at_most(kMaxWidth);
  f("n_layers", c.n_layers, "number of blocks").must_be_set().at_least(1).at_most(10000);
  f("n_heads", c.n_heads, "query heads of a layer").must_be_set().at_least(1).at_most(65536);
  f("n_kv_heads", c.n_kv_heads, "key and value heads; must divide n_heads, 1 is MQA; null: n_heads")
      .at_least(1)
      .at_most(65536)
      .null_means([&c] { return std::to_string(c.kv_heads()); });
  f("head_dim", c.head_dim, "channels of a head; null: d_model / n_heads")
      .at_least(1)
      .at_most(65536)
      .null_means([&c] { return std::to_string(c.head_size()); });
  f("vocab_size", c.vocab_size, "number of distinct tokens; null: the tokenizer's")
      .at_least(2)
      .at_most(1 << 24);
  f("max_seq_len", c.max_seq_len,
    "positions of learned embeddings, and of generation's context for every kind, in tokens; null: "
    "data.seq_len")
      .at_least(1)
      .at_most(kMaxWidth);
  f.section("norm", "normalisation", [&](FieldList& s) { norm_fields(s, c.norm); });
  f.section("block", "the residual block", [&](FieldList& s) {
    s("topology", c.block.topology,
      "attention and feed-forward one after the other, or side by side");
    s("parallel_norms", c.block.parallel_norms, "norms before the branches of a parallel block");
    s("residual_scale", c.block.residual_scale, "factor on every branch output").above(0);
    s("layer_scale", c.block.layer_scale,
      "initial value of a learned gain per channel on every branch output; null: none")
        .at_least(0);
  });
  f.section("ffn", "the feed-forward branch", [&](FieldList& s) { ffn_fields(s, c); });
  f.section("position", "positions", [&](FieldList& s) { position_fields(s, c.position); });
  f.section("attention", "attention", [&](FieldList& s) { attention_fields(s, c); });
  f.section("bias", "learned biases of linear layers, by site", [&](FieldList& s) {
    s("qkv", c.bias.qkv, "query, key and value projections");
    s("attn_out", c.bias.attn_out, "output projection of attention");
    s("ffn", c.bias.ffn, "all projections of the feed-forward branch");
    s("head", c.bias.head, "the output head");
  });
  f.section("embedding", "token embedding", [&](FieldList& s) {
    s("tie", c.embedding.tie, "the head uses the embedding's weights");
    s("scale", c.embedding.scale, "factor on the token embedding").above(0);
  });
  f.section("head", "output head", [&](FieldList& s) {
    s("softcap", c.head.softcap, "cap * tanh(logit / cap) on the final logits; 0: off").at_least(0);
    s("scale", c.head.scale, "factor on the logits, before the cap").above(0);
  });
  f.section("dropout", "probability of zeroing a value in training", [&](FieldList& s) {
    s("embedding", c.dropout.embedding, "of the block input").at_least(0).below(1);
    s("attention", c.dropout.attention, "of the attention probabilities").at_least(0).below(1);
    s("residual", c.dropout.residual, "of every branch output").at_least(0).below(1);
  });
  f.section("init", "initial values", [&](FieldList& s) {
    s("scheme", c.init.scheme, "standard deviation of linear weights and an untied head");
    s("std", c.init.std, "standard deviation of scheme normal").above(0);
    s("depth_scale", c.init.depth_scale, "divide that of wo and w_down by sqrt(2 n_layers)");
    s("embedding_std", c.init.embedding_std,
      "standard deviation of embedding and positions; null: std")
        .above(0);
    s("trunc", c.init.trunc, "redraw values beyond that many standard deviations; null: never")
        .above(0);
  });
}

void optim_fields(FieldList& f, OptimConfig& c) {
  f("kind", c.kind, "the update rule");
  f("lr", c.lr, "peak learning rate").above(0);
  f("betas", c.betas,
    "decay rates of the running means of gradient and squared gradient; sgd: the first is its "
    "momentum; lion: of its direction and of its memory")
      .at_least(0)
      .below(1);
  f("eps", c.eps, "adamw, adam: added to the root of the second moment").at_least(0);
  f("weight_decay", c.weight_decay,
    "strength of the decay of weights towards 0; adam, sgd: added to the gradient")
      .at_least(0);
  f("decay", c.decay,
    "adamw, lion: whether the decay is multiplied by lr; independent needs a weight_decay of its "
    "own");
  f("no_decay", c.no_decay, "groups of parameters without weight decay");
  f.section("clip", "limit on the gradient before the update", [&](FieldList& s) {
    s("kind", c.clip.kind, "rule");
    s("max_norm", c.clip.max_norm, "global: largest norm of all gradients together").above(0);
    s.unserved("alpha", "0.97", "a number", "zclip: decay of its running means");
    s.unserved("z", "2.5", "a number", "zclip: threshold, in standard deviations");
    s.unserved("lambda", "1.05", "a number", "adagc: largest ratio to the running mean");
    s.unserved("beta", "0.98", "a number", "adagc: decay of the running mean");
    s.unserved("warmup", "null", "a whole number",
               "zclip, adagc: steps before they act; null: 25, 100");
  });
  f.section("schedule", "learning rate over the steps", [&](FieldList& s) {
    s("kind", c.schedule.kind, "course after the warm-up");
    s("warmup_steps", c.schedule.warmup_steps, "optimizer steps of linear warm-up from 0 to lr")
        .at_least(0)
        .at_most(kMaxCount);
    s("min_lr", c.schedule.min_lr, "learning rate at the end of the decay").at_least(0);
    s("decay_steps", c.schedule.decay_steps,
      "optimizer steps of the decay; null: all after the warm-up, wsd: the last 20 %")
        .at_least(1)
        .at_most(kMaxCount);
  });
}

void train_fields(FieldList& f, TrainConfig& c) {
  f("steps", c.steps, "optimizer steps of the run").must_be_set().at_least(1).at_most(kMaxCount);
  f("batch_size", c.batch_size, "sequences a step, over all micro-batches")
      .at_least(1)
      .at_most(kMaxWidth);
  f("grad_accum", c.grad_accum,
    "micro-batches a step; must divide batch_size; less memory, same result")
      .at_least(1)
      .at_most(kMaxWidth);
  f("eval_every", c.eval_every, "steps between evaluations; 0: at the end only")
      .at_least(0)
      .at_most(kMaxCount);
  f("eval_batches", c.eval_batches,
    "the same evenly spaced batches at every evaluation; 0: the whole validation split")
      .at_least(0)
      .at_most(kMaxCount);
  f("checkpoint_every", c.checkpoint_every, "steps between checkpoints; 0: at the end only")
      .at_least(0)
      .at_most(kMaxCount);
  f("keep_checkpoints", c.keep_checkpoints,
    "checkpoints kept beside the best; older ones are removed")
      .at_least(1)
      .at_most(kMaxCount);
  f.section("early_stopping", "stop when the validation loss no longer falls", [&](FieldList& s) {
    s("patience", c.early_stopping.patience, "evaluations without improvement; 0: off")
        .at_least(0)
        .at_most(kMaxCount);
    s("min_delta", c.early_stopping.min_delta, "smallest fall of the loss that counts, in nats")
        .at_least(0);
  });
  f("skip_steps", c.skip_steps, "ranges [a, b) of steps that count and do no work: [[1200, 1400]]")
      .at_least(0)
      .at_most(kMaxCount);
}

void monitor_fields(FieldList& f, MonitorConfig& c) {
  const auto every = [&](const char* key, int64_t& member, const char* help) -> Field& {
    return f(key, member, std::string(help) + "; every n steps, 0: off")
        .at_least(0)
        .at_most(kMaxCount);
  };
  every("grad_norms", c.grad_norms, "gradient norm of each parameter, before clipping");
  every("update_norms", c.update_norms,
        "norms of each parameter's update and weight, and their ratio");
  every("attention", c.attention, "largest logit and entropy of each layer's attention")
      .only_default();
  every("activations", c.activations, "residual and branch RMS, max and kurtosis of each layer")
      .only_default();
  every("logits", c.logits, "mean logsumexp and the largest logit");
  every("optimizer", c.optimizer, "quantiles of Adam's second moment and the share below eps")
      .only_default();
}

void spike_fields(FieldList& f) {
  f.unserved("signals", "[train/ce, optim/grad_norm, optim/update_norm]", "a list of metrics",
             "what the detector watches");
  f.unserved("detector", "robust", "robust | olmo2 | olmo_core | zscore | factor",
             "what a spike is");
  f.unserved("window", "128", "a whole number", "accepted values the detector remembers");
  f.unserved("threshold", "6.0", "a number", "robust standard deviations that make a spike");
  f.unserved("warmup", "20", "a whole number", "values before the detector may fire");
  f.unserved("action", "log", "log | skip | rewind | stop", "what a spike leads to");
  f.section("rewind", "action rewind", [](FieldList& s) {
    s.unserved("steps", "100", "a whole number", "steps to go back");
    s.unserved("skip", "200", "a whole number", "batches to leave out");
    s.unserved("max", "3", "a whole number", "rewinds before the run stops");
  });
  f.unserved("forensics", "true", "true or false", "write a bundle for each spike (no effect yet)");
  f.unserved("nonfinite", "stop", "stop | skip | rewind", "what a NaN or infinity leads to");
  f.section("divergence", "stop early", [](FieldList& s) {
    s.unserved("factor", "null", "a number",
               "share of (initial - minimum) by which the loss may exceed its minimum");
  });
}

}  // namespace

std::vector<Field> run_config_fields(RunConfig& c) {
  FieldList f;
  f.section("run", "the run as a whole", [&](FieldList& s) { run_fields(s, c.run); });
  f.section("data", "what it trains on", [&](FieldList& s) { data_fields(s, c.data); });
  f.section("model", "the architecture", [&](FieldList& s) { model_fields(s, c.model, c.preset); });
  f.section("loss", "the objective", [&](FieldList& s) {
    s("z_loss", c.loss.z_loss, "coefficient of mean(logsumexp(logits)^2)").at_least(0);
  });
  f.section("optim", "the optimiser", [&](FieldList& s) { optim_fields(s, c.optim); });
  f.section("train", "the loop", [&](FieldList& s) { train_fields(s, c.train); });
  f.section("monitor", "what is recorded beside the loss",
            [&](FieldList& s) { monitor_fields(s, c.monitor); });
  f.section("spikes", "detection of loss spikes", spike_fields);
  f.unserved("faults", "[]", "a list of faults", "faults injected on purpose");
  f.section("log", "where it is recorded", [&](FieldList& s) {
    s("console_every", c.log.console_every,
      "steps between lines on the console; 0: evaluations and the last step only")
        .at_least(0)
        .at_most(kMaxCount);
    s("jsonl", c.log.jsonl, "write metrics.jsonl, one line a step");
    s("tensorboard", c.log.tensorboard, "write TensorBoard files (no effect in this version)");
  });
  return f.take();
}

template <>
std::span<const VariantRow<Precision>> variant_rows() {
  static constexpr VariantRow<Precision> kRows[] = {
      {Precision::fp32, "fp32", "IEEE 754 binary32"},
  };
  return kRows;
}

template <>
std::span<const std::string_view> planned_variants<Precision>() {
  static constexpr std::string_view kNames[] = {"bf16"};
  return kNames;
}

}  // namespace ballast
