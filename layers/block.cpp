#include "layers/block.h"

namespace ballast {

struct Block::Pass {
  Tape& tape;
  const PositionInputs& positions;
  const ForwardContext& context;
};

Block::Block(const ModelConfig& c, ParameterStore& store, int64_t layer)
    : name_(concat("blocks.", layer)),
      placement_(c.norm.placement),
      topology_(c.block.topology),
      residual_scale_(c.residual_scale()),
      dropout_(c.dropout.residual),
      attn_site_(hash_name(name_ + ".attn")),
      ffn_site_(hash_name(name_ + ".ffn")),
      qkv_width_(c.qkv_width()),
      store_(&store) {
  const bool has_norm_before =
      placement_ == NormPlacement::pre || placement_ == NormPlacement::sandwich;
  const bool has_norm_after = placement_ != NormPlacement::pre;
  const bool is_parallel = topology_ == BlockTopology::parallel;
  const bool shares_input =
      is_parallel && (!has_norm_before || c.block.parallel_norms == ParallelNorms::shared);
  const auto norm = [&](const char* name) { return Norm(c.norm, store, name_ + name, c.d_model); };
  const auto layer_scale = [&](const char* name) -> Parameter* {
    if (!c.block.layer_scale) return nullptr;
    Parameter& p = store.add(name_ + name, Shape{c.d_model}, Role::norm);
    p.initial = *c.block.layer_scale;
    return &p;
  };

  if (has_norm_before) attn_norm_ = norm(".attn_norm");
  std::vector<Projection::Part> inputs = attention_inputs(c, name_ + ".attn");
  const std::vector<Projection::Part> ffn_inputs = mlp_inputs(c, name_ + ".ffn");
  if (shares_input) inputs.insert(inputs.end(), ffn_inputs.begin(), ffn_inputs.end());
  attn_in_.emplace(store, inputs, c.d_model);
  attn_.emplace(c, store, name_ + ".attn", layer);
  if (has_norm_after) attn_post_norm_ = norm(".attn_post_norm");
  attn_scale_ = layer_scale(".attn_scale");

  if (has_norm_before && !shares_input) ffn_norm_ = norm(".ffn_norm");
  if (!shares_input) ffn_in_.emplace(store, ffn_inputs, c.d_model);
  ffn_.emplace(c, store, name_ + ".ffn");
  const bool is_one_norm = is_parallel && placement_ == NormPlacement::post;
  if (has_norm_after && !is_one_norm) ffn_post_norm_ = norm(".ffn_post_norm");
  ffn_scale_ = layer_scale(".ffn_scale");
}

Var Block::operator()(Tape& tape, Var x, const PositionInputs& positions,
                      const ForwardContext& context) const {
  const auto scope = tape.scope(name_);
  const Pass pass{tape, positions, context};
  switch (topology_) {
    case BlockTopology::serial:
      return serial(pass, x);
    case BlockTopology::parallel:
      return parallel(pass, x);
  }
  throw InternalError("internal error: unknown block topology");
}

// Where the norms stand relative to the branches; each case is the formula of its paper.
Var Block::serial(const Pass& pass, Var x) const {
  Tape& tape = pass.tape;
  switch (placement_) {
    case NormPlacement::pre:
    case NormPlacement::sandwich: {  // whose branches end in a norm
      const auto [middle, normed] = ffn_norm_->of_sum(tape, x, attn(pass, (*attn_norm_)(tape, x)));
      return add(tape, middle, ffn(pass, normed));
    }
    case NormPlacement::post: {
      const Var middle = attn_post_norm_->of_sum(tape, x, attn(pass, x)).normed;
      return ffn_post_norm_->of_sum(tape, middle, ffn(pass, middle)).normed;
    }
    case NormPlacement::output: {
      const Var middle = add(tape, x, attn(pass, x));
      return add(tape, middle, ffn(pass, middle));
    }
  }
  throw InternalError("internal error: unknown norm placement");
}

Var Block::parallel(const Pass& pass, Var x) const {
  Tape& tape = pass.tape;
  const Var read = attn_norm_ ? (*attn_norm_)(tape, x) : x;
  Var from_attn, from_ffn;
  if (ffn_in_) {
    from_attn = attn(pass, read);
    from_ffn = ffn(pass, (*ffn_norm_)(tape, x));
  } else {
    Var prepared;
    {
      const auto scope = tape.scope("attn");
      const Var joined = (*attn_in_)(tape, read);  // q, k, v, gate and up in one product
      prepared = attn_->prepare(tape, joined, pass.positions, pass.context);
      from_attn = attn_of(pass, prepared);
    }
    const auto scope = tape.scope("ffn");
    from_ffn = ffn_of(pass, prepared, {.begin = qkv_width_});
  }
  const Var middle = add(tape, x, from_attn);
  if (placement_ == NormPlacement::post) {
    return attn_post_norm_->of_sum(tape, middle, from_ffn).normed;
  }
  return add(tape, middle, from_ffn);
}

Var Block::attn(const Pass& pass, Var x) const {
  const auto scope = pass.tape.scope("attn");
  const Var qkv = (*attn_in_)(pass.tape, x);
  return attn_of(pass, attn_->prepare(pass.tape, qkv, pass.positions, pass.context));
}

Var Block::ffn(const Pass& pass, Var x) const {
  const auto scope = pass.tape.scope("ffn");
  return ffn_of(pass, (*ffn_in_)(pass.tape, x));
}

Var Block::attn_of(const Pass& pass, Var prepared) const {
  const Var branch = (*attn_)(pass.tape, prepared, pass.positions, pass.context);
  return ended(pass, branch, attn_post_norm_, attn_scale_, attn_site_);
}

Var Block::ffn_of(const Pass& pass, Var hidden, Columns columns) const {
  const Var branch = (*ffn_)(pass.tape, hidden, columns);
  return ended(pass, branch, ffn_post_norm_, ffn_scale_, ffn_site_);
}

Var Block::ended(const Pass& pass, Var branch, const std::optional<Norm>& norm, Parameter* scale,
                 uint64_t dropout_site) const {
  Tape& tape = pass.tape;
  // With placement post the norm is taken of the sum.
  if (norm && placement_ != NormPlacement::post) branch = (*norm)(tape, branch);
  if (scale != nullptr || residual_scale_ != 1.0) {
    branch = scaled(tape, branch, residual_scale_,
                    scale != nullptr ? tape.parameter(*store_, *scale) : Var{});
  }
  return dropout(tape, branch, pass.context.dropout(dropout_, dropout_site));
}

}  // namespace ballast
