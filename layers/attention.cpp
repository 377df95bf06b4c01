#include "layers/attention.h"

#include <array>
#include <cmath>

namespace ballast {

namespace {

std::array<Projection::Part, 3> qkv_parts(const ModelConfig& c, const std::string& name) {
  const int64_t kv_width = c.kv_heads() * c.head_size();
  return {{{name + ".wq", c.n_heads * c.head_size()},
           {name + ".wk", kv_width},
           {name + ".wv", kv_width}}};
}

}  // namespace

Attention::Attention(const ModelConfig& c, ParameterStore& store, const std::string& name,
                     int64_t layer)
    : layer_(layer),
      n_heads_(c.n_heads),
      n_kv_heads_(c.kv_heads()),
      head_dim_(c.head_size()),
      scale_(c.attention_scale()),
      layout_(c.position.layout),
      dropout_(c.dropout.attention),
      dropout_site_(hash_name(name + ".probabilities")),
      qkv_(store, qkv_parts(c, name), c.d_model, c.bias.qkv),
      out_(Projection::branch_end(store, {name + ".wo", c.d_model}, c.n_heads * c.head_size(),
                                  c.bias.attn_out)) {}

Var Attention::operator()(Tape& tape, Var x, const RopeTable* rope_table,
                          const ForwardContext& context) const {
  Var qkv = qkv_(tape, x);
  if (rope_table != nullptr) {
    // Query and key heads lie side by side: both are rotated in one go.
    qkv = rope(tape, qkv, *rope_table,
               {.n_heads = n_heads_ + n_kv_heads_,
                .head_dim = head_dim_,
                .layout = layout_,
                .position_offset = context.position_offset});
  }
  AttentionOptions options;
  options.n_heads = n_heads_;
  options.n_kv_heads = n_kv_heads_;
  options.head_dim = head_dim_;
  options.scale = scale_;
  options.dropout = context.dropout(dropout_, dropout_site_);
  if (context.caches != nullptr) options.cache = &(*context.caches)[static_cast<size_t>(layer_)];
  return out_(tape, causal_attention(tape, qkv, options));
}

}  // namespace ballast
