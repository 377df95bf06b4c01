#include "layers/model_cost.h"

#include "core/parameter.h"
#include "layers/model.h"

namespace ballast {

ParameterCounts count_parameters(const ModelConfig& config) {
  // The model itself declares them: no second list that could differ.
  ParameterStore store;
  const Model model(config, store);
  ParameterCounts n;
  for (const Parameter& p : store.parameters()) {
    const int64_t size = p.shape.size();
    const bool is_product = p.role == Role::linear || p.role == Role::head;
    n.total += size;
    if (is_product) n.in_products += size;
    if (p.role == Role::embedding || p.role == Role::position) {
      n.embedding += size;
    } else if (p.name.starts_with("head.")) {
      n.head += size;
    } else if (p.name.find(".attn.") != std::string::npos) {
      n.attention += size;
    } else if (p.name.find(".ffn.") != std::string::npos) {
      n.ffn += size;
    } else {
      n.norm += size;
    }
  }
  if (config.embedding.tie) n.in_products += *config.vocab_size * config.d_model;
  return n;
}

double train_flops_per_token(const ModelConfig& c, int64_t seq_len) {
  const auto attention = static_cast<double>(c.n_layers * c.n_heads * c.head_size() * seq_len);
  return 6.0 * static_cast<double>(count_parameters(c).in_products) + 6.0 * attention;
}

int64_t activation_bytes(const ModelConfig& c, int64_t tokens) {
  const int64_t d = c.d_model;
  const int64_t heads = c.n_heads * c.head_size();
  const int64_t norm =
      c.norm.kind == NormKind::none ? 0 : d + (c.norm.kind == NormKind::layernorm ? 2 : 1);
  const int64_t ffn = c.d_ff() * (c.ffn.gated ? 3 : 2);
  // A branch's last product and the residual sum share their memory.
  const int64_t block = 2 * norm + c.qkv_width() + heads + c.n_heads + d + ffn + d;
  const int64_t ends = d + (c.norm.embedding ? norm : 0) + (c.norm.final ? norm : 0);
  constexpr int64_t kLossRow = 2 * 8 + 4;  // cross-entropy, logsumexp, largest logit
  return tokens * (4 * (c.n_layers * block + ends) + kLossRow);
}

int64_t kv_cache_bytes_per_token(const ModelConfig& c) {
  return c.n_layers * 2 * c.kv_heads() * c.head_size() * 4;
}

}  // namespace ballast
