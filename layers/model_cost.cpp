#include "layers/model_cost.h"

#include <algorithm>

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
    if (p.role == Role::embedding || p.name.starts_with("position.")) {
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

double mean_keys(const ModelConfig& c, int64_t layer, int64_t seq_len) {
  const auto length = static_cast<double>(seq_len);
  const int64_t window = c.window(layer);
  if (window == 0 || window >= seq_len) return length / 2.0;
  const auto w = static_cast<double>(window);
  if (c.attention.local == LocalKind::window) return w - w * w / (2.0 * length);
  const auto rest = static_cast<double>(seq_len % window);
  return ((length - rest) * w + rest * rest) / (2.0 * length);
}

double train_flops_per_token(const ModelConfig& c, int64_t seq_len) {
  const ClassCost total = model_cost(c, seq_len, 1).total();
  return total.forward_flops + total.backward_flops;
}

int64_t activation_bytes(const ModelConfig& c, int64_t tokens) {
  return model_cost(c, 1, tokens).total().activation_bytes;
}

int64_t kv_cache_bytes(const ModelConfig& c, int64_t positions) {
  int64_t kept = 0;
  for (int64_t i = 0; i < c.n_layers; ++i) {
    const int64_t window = c.window(i);
    kept += window == 0 ? positions : std::min(positions, window);
  }
  return kept * 2 * c.kv_heads() * c.head_size() * 4;
}

ClassCost ModelCost::total() const {
  ClassCost sum;
  for (const ClassCost* c : {&embedding, &attention, &ffn, &norm, &head}) {
    sum.parameters += c->parameters;
    sum.forward_flops += c->forward_flops;
    sum.backward_flops += c->backward_flops;
    sum.activation_bytes += c->activation_bytes;
  }
  return sum;
}

namespace {

// Floats that one norm keeps of a token: its output and what backward reads.
int64_t norm_floats(const ModelConfig& c) {
  switch (c.norm.kind) {
    case NormKind::layernorm:
      return c.d_model + 2;
    case NormKind::rmsnorm:
    case NormKind::scalenorm:
      return c.d_model + 1;
    case NormKind::dyt:
      return c.d_model;
    case NormKind::none:
      return 0;
  }
  throw InternalError("internal error: unknown norm");
}

int64_t norms_of_block(const ModelConfig& c) {
  const bool is_parallel = c.block.topology == BlockTopology::parallel;
  const int64_t before = is_parallel && c.block.parallel_norms == ParallelNorms::shared ? 1 : 2;
  switch (c.norm.placement) {
    case NormPlacement::pre:
      return before;
    case NormPlacement::post:
      return is_parallel ? 1 : 2;
    case NormPlacement::sandwich:
      return before + 2;
    case NormPlacement::output:
      return 2;
  }
  throw InternalError("internal error: unknown norm placement");
}

// Floats that the norms of queries and keys keep of a token, in all layers.
int64_t qk_norm_floats(const ModelConfig& c) {
  const bool is_full = c.attention.qk_norm == QkNorm::full;
  const int64_t kv = (c.attention.v_norm ? 2 : 1) * c.kv_heads();
  const int64_t groups = is_full ? (c.attention.v_norm ? 3 : 2) : c.n_heads + kv;
  int64_t floats = 0;
  for (int64_t i = 0; i < c.n_layers; ++i) {
    if (c.has_qk_norm(i)) floats += (c.n_heads + kv) * c.head_size() + groups;
  }
  return floats;
}

// Bytes of one token that its layers keep until they are differentiated.
void add_activations(const ModelConfig& c, int64_t tokens, ModelCost& cost) {
  const int64_t d = c.d_model;
  const int64_t heads = c.n_heads * c.head_size();
  const int64_t norms =
      c.n_layers * norms_of_block(c) + (c.norm.embedding ? 1 : 0) + (c.norm.final ? 1 : 0);
  // A branch's last product and the residual sum share their memory: d in each. A learned scale
  // needs what it multiplied.
  const int64_t branch = c.block.layer_scale ? 2 * d : d;
  constexpr int64_t kLossRow = 2 * 8 + 4;  // cross-entropy, logsumexp, largest logit
  const int64_t floats = 4 * tokens;
  cost.embedding.activation_bytes = floats * d;
  cost.attention.activation_bytes =
      floats * (c.n_layers * (c.qkv_width() + heads + c.n_heads + branch) + qk_norm_floats(c));
  cost.ffn.activation_bytes = floats * c.n_layers * (c.d_ff() * (c.ffn.gated ? 3 : 2) + branch);
  cost.norm.activation_bytes = floats * norms * norm_floats(c);
  cost.head.activation_bytes = tokens * kLossRow;
}

}  // namespace

ModelCost model_cost(const ModelConfig& c, int64_t seq_len, int64_t tokens) {
  ModelCost cost;
  const ParameterCounts n = count_parameters(c);
  cost.embedding.parameters = n.embedding;
  cost.attention.parameters = n.attention;
  cost.ffn.parameters = n.ffn;
  cost.norm.parameters = n.norm;
  cost.head.parameters = n.head;

  const int64_t d = c.d_model;
  const int64_t heads = c.n_heads * c.head_size();
  const int64_t projections = c.n_layers * d * (c.qkv_width() + heads);
  const int64_t head = d * *c.vocab_size;
  double pairs = 0.0;  // of a query and a key; each is multiplied with q and with v
  for (int64_t i = 0; i < c.n_layers; ++i) pairs += mean_keys(c, i, seq_len);
  cost.attention.forward_flops =
      2.0 * static_cast<double>(projections) + 4.0 * static_cast<double>(heads) * pairs;
  cost.ffn.forward_flops = 2.0 * static_cast<double>(n.in_products - projections - head);
  cost.head.forward_flops = 2.0 * static_cast<double>(head);
  for (ClassCost* part : {&cost.attention, &cost.ffn, &cost.head}) {
    part->backward_flops = 2.0 * part->forward_flops;
  }
  add_activations(c, tokens, cost);
  return cost;
}

namespace {

// Positions whose keys a layer holds, on average over the layers.
double mean_positions(const ModelConfig& c, int64_t positions) {
  double sum = 0.0;
  for (int64_t i = 0; i < c.n_layers; ++i) {
    const int64_t window = c.window(i);
    sum += static_cast<double>(window == 0 ? positions : std::min(positions, window));
  }
  return sum / static_cast<double>(c.n_layers);
}

}  // namespace

double training_intensity(const ModelConfig& c, int64_t batch, int64_t positions) {
  const auto d = static_cast<double>(c.d_model);
  const auto k = static_cast<double>(c.head_size());
  const double n = mean_positions(c, positions);
  return 1.0 / (1.0 / d + n / (d * k) + 1.0 / static_cast<double>(batch * positions));
}

double decoding_intensity(const ModelConfig& c, int64_t batch, int64_t positions) {
  const auto d = static_cast<double>(c.d_model);
  const double share = static_cast<double>(c.kv_heads()) / static_cast<double>(c.n_heads);
  const double n = mean_positions(c, positions);
  return 1.0 / (1.0 / d + share * n / d + 1.0 / static_cast<double>(batch));
}

}  // namespace ballast
