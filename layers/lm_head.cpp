#include "layers/lm_head.h"

namespace ballast {

LmHead::LmHead(const ModelConfig& c, ParameterStore& store, Parameter& embedding_table)
    : store_(&store), scale_(c.head_scale()), softcap_(c.head.softcap) {
  if (c.norm.final) norm_.emplace(c.norm, store, "final_norm", c.d_model);
  weight_ = c.embedding.tie
                ? &embedding_table
                : &store.add("head.weight", Shape{c.vocab_size.value(), c.d_model}, Role::head);
  if (c.bias.head) bias_ = &store.add("head.bias", Shape{c.vocab_size.value()}, Role::bias);
}

Var LmHead::normed(Tape& tape, Var x) const {
  return norm_ ? (*norm_)(tape, x) : x;
}

Var LmHead::bias(Tape& tape) const {
  return bias_ != nullptr ? tape.parameter(*store_, *bias_) : Var{};
}

Var LmHead::logits(Tape& tape, Var x) const {
  const auto scope = tape.scope("head");
  const Var y = linear(tape, normed(tape, x), tape.parameter(*store_, *weight_), bias(tape));
  return scale_ == 1.0 && softcap_ == 0.0 ? y : softcap(tape, y, softcap_, scale_);
}

LmLoss LmHead::loss(Tape& tape, Var x, const int32_t* targets, const LossOptions& given) const {
  LossOptions options = given;
  options.logit_scale = scale_;
  options.softcap = softcap_;
  const auto scope = tape.scope("head");
  return lm_head_loss(tape, normed(tape, x), tape.parameter(*store_, *weight_), bias(tape), targets,
                      options);
}

}  // namespace ballast
