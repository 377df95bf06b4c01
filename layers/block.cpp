#include "layers/block.h"

namespace ballast {

namespace {

// Where the norm stands relative to a branch f; each case is the formula of its paper.
template <class Branch>
Var residual_step(Tape& tape, NormPlacement placement, const Norm& norm, Var x, Branch&& f) {
  switch (placement) {
    case NormPlacement::pre:
      return add(tape, x, f(norm(tape, x)));
  }
  throw InternalError("internal error: unknown norm placement");
}

}  // namespace

Block::Block(const ModelConfig& c, ParameterStore& store, int64_t layer)
    : name_(concat("blocks.", layer)),
      placement_(c.norm.placement),
      dropout_(c.dropout.residual),
      attn_norm_(c.norm, store, name_ + ".attn_norm", c.d_model),
      attn_(c, store, name_ + ".attn", layer),
      ffn_norm_(c.norm, store, name_ + ".ffn_norm", c.d_model),
      ffn_(c, store, name_ + ".ffn") {}

Var Block::operator()(Tape& tape, Var x, const RopeTable* rope_table,
                      const ForwardContext& context) const {
  const auto block = tape.scope(name_);
  const Var middle = residual_step(tape, placement_, attn_norm_, x, [&](Var y) {
    const auto scope = tape.scope("attn");
    return dropout(tape, attn_(tape, y, rope_table, context),
                   context.dropout(dropout_, name_ + ".attn"));
  });
  return residual_step(tape, placement_, ffn_norm_, middle, [&](Var y) {
    const auto scope = tape.scope("ffn");
    return dropout(tape, ffn_(tape, y), context.dropout(dropout_, name_ + ".ffn"));
  });
}

}  // namespace ballast
