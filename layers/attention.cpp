#include "layers/attention.h"

namespace ballast {

std::vector<Projection::Part> attention_inputs(const ModelConfig& c, const std::string& name) {
  const int64_t kv_width = c.kv_heads() * c.head_size();
  return {{name + ".wq", c.n_heads * c.head_size(), c.bias.qkv},
          {name + ".wk", kv_width, c.bias.qkv},
          {name + ".wv", kv_width, c.bias.qkv}};
}

Attention::Attention(const ModelConfig& c, ParameterStore& store, const std::string& name,
                     int64_t layer)
    : config_(c), store_(&store), layer_(layer), dropout_site_(hash_name(name + ".probabilities")) {
  if (c.has_qk_norm(layer)) {
    q_norm_ = head_norm(store, name + ".q_norm", c.n_heads);
    k_norm_ = head_norm(store, name + ".k_norm", c.kv_heads());
    if (c.attention.v_norm) v_norm_ = head_norm(store, name + ".v_norm", c.kv_heads());
  }
  if (c.attention.sink == SinkKind::learned) {
    sink_ = &store.add(name + ".sink", Shape{c.n_heads}, Role::bias);
  }
  out_ = Projection::branch_end(store, {name + ".wo", c.d_model, c.bias.attn_out},
                                c.n_heads * c.head_size());
}

Attention::HeadNorm Attention::head_norm(ParameterStore& store, const std::string& name,
                                         int64_t n_heads) const {
  HeadNorm norm;
  Shape shape;
  switch (config_.attention.qk_norm) {
    case QkNorm::none:
    case QkNorm::l2:
      return norm;
    case QkNorm::per_head:
      shape = Shape{config_.head_size()};
      break;
    case QkNorm::per_head_separate:
      shape = Shape{n_heads, config_.head_size()};
      break;
    case QkNorm::full:
      shape = Shape{n_heads * config_.head_size()};
      break;
  }
  if (config_.norm.weight) {
    norm.weight =
        &store.add(name + ".weight", shape, config_.norm.unit_offset ? Role::offset : Role::norm);
  }
  if (config_.norm.bias && config_.qk_norm_kind() == QkNormKind::layernorm) {
    norm.bias = &store.add(name + ".bias", shape, Role::bias);
  }
  return norm;
}

GainAndShift Attention::on_tape(Tape& tape, const HeadNorm& norm) const {
  return {norm.weight != nullptr ? tape.parameter(*store_, *norm.weight) : Var{},
          norm.bias != nullptr ? tape.parameter(*store_, *norm.bias) : Var{}};
}

Var Attention::normed(Tape& tape, Var x) const {
  const QkNormOptions options{.is_centred = config_.qk_norm_kind() == QkNormKind::layernorm,
                              .n_heads = config_.n_heads,
                              .n_kv_heads = config_.kv_heads(),
                              .head_dim = config_.head_size(),
                              .full = config_.attention.qk_norm == QkNorm::full,
                              .separate = config_.attention.qk_norm == QkNorm::per_head_separate,
                              .eps = config_.norm.eps,
                              .unit_offset = config_.norm.unit_offset && config_.norm.weight,
                              .v = config_.attention.v_norm};
  return qk_norm(tape, x, on_tape(tape, q_norm_), on_tape(tape, k_norm_), on_tape(tape, v_norm_),
                 options);
}

Var Attention::prepare(Tape& tape, Var x, const PositionInputs& positions,
                       const ForwardContext& context) const {
  const bool has_norm = config_.has_qk_norm(layer_);
  const bool is_norm_last = config_.attention.qk_norm_after_rope;
  if (has_norm && !is_norm_last) x = normed(tape, x);
  if (config_.has_rope(layer_)) {
    // Query and key heads lie side by side: both are rotated in one go.
    x = rope(tape, x, config_.is_local(layer_) ? *positions.rope_local : *positions.rope,
             {.n_heads = config_.n_heads + config_.kv_heads(),
              .head_dim = config_.head_size(),
              .layout = config_.position.layout,
              .position_offset = context.position_offset});
  }
  if (has_norm && is_norm_last) x = normed(tape, x);
  if (!positions.query_factors.empty() && !config_.has_rope(layer_)) {
    x = scale_queries(tape, x, positions.query_factors, config_.n_heads * config_.head_size(),
                      context.position_offset);
  }
  return x;
}

Var Attention::operator()(Tape& tape, Var prepared, const PositionInputs& positions,
                          const ForwardContext& context) const {
  const AttentionConfig& a = config_.attention;
  AttentionOptions options;
  options.n_heads = config_.n_heads;
  options.n_kv_heads = config_.kv_heads();
  options.head_dim = config_.head_size();
  options.scale = config_.attention_scale();
  options.softcap = a.softcap;
  // T5's table serves all layers, ALiBi those that position.layers names.
  if (config_.position.kind == PositionKind::t5 || config_.has_positions(layer_)) {
    options.distance_bias = positions.distance_bias;
  }
  options.bias_before_cap = config_.position.alibi_scaled;
  options.window = config_.window(layer_);
  options.local = a.local;
  options.has_sink = a.sink != SinkKind::none;
  if (sink_ != nullptr) options.sink = tape.parameter(*store_, *sink_);
  options.dropout = context.dropout(config_.dropout.attention, dropout_site_);
  if (context.caches != nullptr) options.cache = &(*context.caches)[static_cast<size_t>(layer_)];
  return (*out_)(tape, causal_attention(tape, prepared, options));
}

}  // namespace ballast
