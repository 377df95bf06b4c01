#include "layers/block.h"

namespace ballast {

Block::Block(const ModelConfig& c, ParameterStore& store, int64_t layer)
    : name_(concat("blocks.", layer)),
      placement_(c.norm.placement),
      dropout_(c.dropout.residual),
      attn_site_(hash_name(name_ + ".attn")),
      ffn_site_(hash_name(name_ + ".ffn")),
      attn_norm_(c.norm, store, name_ + ".attn_norm", c.d_model),
      attn_(c, store, name_ + ".attn", layer),
      ffn_norm_(c.norm, store, name_ + ".ffn_norm", c.d_model),
      ffn_(c, store, name_ + ".ffn") {}

Var Block::operator()(Tape& tape, Var x, const RopeTable* rope_table,
                      const ForwardContext& context) const {
  const auto block = tape.scope(name_);
  const auto attn = [&](Var y) {
    const auto scope = tape.scope("attn");
    return dropout(tape, attn_(tape, y, rope_table, context),
                   context.dropout(dropout_, attn_site_));
  };
  const auto ffn = [&](Var y) {
    const auto scope = tape.scope("ffn");
    return dropout(tape, ffn_(tape, y), context.dropout(dropout_, ffn_site_));
  };
  // Where the norms stand relative to the branches; each case is the formula of its paper.
  switch (placement_) {
    case NormPlacement::pre: {
      const auto [middle, normed] = ffn_norm_.of_sum(tape, x, attn(attn_norm_(tape, x)));
      return add(tape, middle, ffn(normed));
    }
    case NormPlacement::post:
    case NormPlacement::sandwich:
    case NormPlacement::output:
      break;
  }
  throw InternalError("internal error: unknown norm placement");
}

}  // namespace ballast
