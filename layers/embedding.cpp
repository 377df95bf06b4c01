#include "layers/embedding.h"

namespace ballast {

Embedding::Embedding(const ModelConfig& c, ParameterStore& store)
    : store_(&store),
      table_(
          &store.add("embedding.weight", Shape{c.vocab_size.value(), c.d_model}, Role::embedding)),
      scale_(c.embedding_scale()),
      dropout_(c.dropout.embedding) {
  if (c.position.kind == PositionKind::learned) {
    position_ =
        &store.add("position.weight", Shape{c.max_seq_len.value(), c.d_model}, Role::position);
  }
  if (c.norm.embedding) norm_.emplace(c.norm, store, "embedding_norm", c.d_model);
}

Var Embedding::operator()(Tape& tape, TokenView tokens, Var absolute,
                          const ForwardContext& context) const {
  const auto scope = tape.scope("embedding");
  const Var positions = position_ != nullptr ? tape.parameter(*store_, *position_) : absolute;
  Var x = ballast::embedding(tape, tokens, tape.parameter(*store_, *table_), positions,
                             context.position_offset, scale_);
  if (norm_) x = (*norm_)(tape, x);
  return dropout(tape, x, context.dropout(dropout_, hash_name("embedding")));
}

}  // namespace ballast
