#include "layers/model_config.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace ballast {

int64_t ModelConfig::d_ff() const {
  if (ffn.d_ff) return *ffn.d_ff;
  const auto width =
      static_cast<int64_t>(std::ceil(ffn_ratio() * static_cast<double>(d_model) - 1e-9));
  return (width + ffn.multiple_of - 1) / ffn.multiple_of * ffn.multiple_of;
}

int64_t ModelConfig::rotated_width() const {
  return static_cast<int64_t>(std::llround(position.fraction * static_cast<double>(head_size())));
}

bool ModelConfig::is_local(int64_t layer) const {
  const auto& pattern = attention.pattern;
  return pattern[static_cast<size_t>(layer) % pattern.size()] == LayerKind::local;
}

bool ModelConfig::has_positions(int64_t layer) const {
  if (const auto* list = std::get_if<std::vector<int64_t>>(&position.layers)) {
    return std::find(list->begin(), list->end(), layer) != list->end();
  }
  switch (std::get<LayerSet>(position.layers)) {
    case LayerSet::all:
      return true;
    case LayerSet::local:
      return is_local(layer);
    case LayerSet::full:
      return !is_local(layer);
  }
  throw InternalError("internal error: unknown set of layers");
}

bool ModelConfig::has_qk_norm(int64_t layer) const {
  return attention.qk_norm != QkNorm::none &&
         (attention.qk_norm_layers == QkNormLayers::all || has_rope(layer));
}

double ModelConfig::attention_scale() const {
  return attention.scale.value_or(1.0 / std::sqrt(static_cast<double>(head_size())));
}

QkNormKind ModelConfig::qk_norm_kind() const {
  const bool is_layernorm = norm.kind == NormKind::layernorm && attention.qk_norm != QkNorm::l2;
  return attention.qk_norm_kind.value_or(is_layernorm ? QkNormKind::layernorm
                                                      : QkNormKind::rmsnorm);
}

double ModelConfig::residual_scale() const {
  const auto* number = std::get_if<double>(&block.residual_scale);
  return number != nullptr ? *number : 1.0 / std::sqrt(2.0 * static_cast<double>(n_layers));
}

double ModelConfig::embedding_scale() const {
  const auto* number = std::get_if<double>(&embedding.scale);
  return number != nullptr ? *number : std::sqrt(static_cast<double>(d_model));
}

double ModelConfig::head_scale() const {
  const auto* number = std::get_if<double>(&head.scale);
  return number != nullptr ? *number : 1.0 / std::sqrt(static_cast<double>(d_model));
}

namespace {

void validate_positions(const ModelConfig& c) {
  const PositionConfig& position = c.position;
  if (position.kind == PositionKind::rope) {
    const double width = position.fraction * static_cast<double>(c.head_size());
    check(position.fraction > 0.0 && position.fraction <= 1.0,
          "model.position.fraction = ", position.fraction, "; expected more than 0 and at most 1");
    check(std::abs(width - std::round(width)) < 1e-6 && c.rotated_width() > 0 &&
              c.rotated_width() % 2 == 0,
          "model.position.fraction = ", position.fraction, " rotates ", width, " of ",
          c.head_size(), " channels; expected an even number above 0");
  }
  if (position.kind == PositionKind::t5) {
    check(position.t5_buckets >= 2, "model.position.t5_buckets = ", position.t5_buckets,
          "; expected at least 2");
    check(position.t5_max_distance > position.t5_buckets / 2,
          "model.position.t5_max_distance = ", position.t5_max_distance,
          "; expected more than half of model.position.t5_buckets = ", position.t5_buckets,
          ", whose buckets hold one distance each");
  }
  // With the other kinds position.layers is idle.
  if (position.kind != PositionKind::rope && position.kind != PositionKind::alibi) return;
  if (const auto* list = std::get_if<std::vector<int64_t>>(&position.layers)) {
    check(!list->empty(),
          "model.position.layers = []; expected at least one layer, or model.position.kind: none");
    std::set<int64_t> seen;
    for (const int64_t layer : *list) {
      check(layer >= 0 && layer < c.n_layers, "model.position.layers names layer ", layer,
            "; expected 0 to ", c.n_layers - 1);
      check(seen.insert(layer).second, "model.position.layers names layer ", layer, " twice");
    }
  }
}

void validate_attention(const ModelConfig& c) {
  const AttentionConfig& attention = c.attention;
  const auto has = [&](LayerKind kind) {
    // Only as much of the pattern counts as there are layers.
    for (int64_t i = 0; i < c.n_layers; ++i) {
      if (c.is_local(i) == (kind == LayerKind::local)) return true;
    }
    return false;
  };
  check(!attention.pattern.empty(),
        "model.attention.pattern = []; expected a list of local and full");
  check(attention.window >= 0, "model.attention.window = ", attention.window,
        "; expected a number of keys, or 0 for all");
  check(attention.window == 0 || has(LayerKind::local),
        "model.attention.window = ", attention.window,
        " but no layer is local; expected model.attention.pattern with one, such as [local], or 0");
  const auto* layers = std::get_if<LayerSet>(&c.position.layers);
  const bool uses_layers =
      c.position.kind == PositionKind::rope || c.position.kind == PositionKind::alibi;
  if (uses_layers && layers != nullptr) {
    check(*layers != LayerSet::local || has(LayerKind::local),
          "model.position.layers = local but model.attention.pattern makes no layer local");
    check(*layers != LayerSet::full || has(LayerKind::full),
          "model.position.layers = full but model.attention.pattern makes every layer local");
  }
  check(attention.qk_norm != QkNorm::l2 || attention.qk_norm_kind != QkNormKind::layernorm,
        "model.attention.qk_norm_kind = layernorm contradicts model.attention.qk_norm = l2, which "
        "is x / rms(x); expected rmsnorm, or null");
  check(!attention.v_norm || attention.qk_norm != QkNorm::none,
        "model.attention.v_norm does to v what qk_norm does to k; expected "
        "model.attention.qk_norm other than none");
  const bool is_one_channel = c.head_size() == 1 && attention.qk_norm != QkNorm::full;
  check(attention.qk_norm == QkNorm::none || c.qk_norm_kind() != QkNormKind::layernorm ||
            !is_one_channel,
        "model.attention.qk_norm_kind = layernorm makes heads of one channel 0; expected rmsnorm "
        "or a larger model.head_dim");
  check(std::isfinite(attention.softcap) && attention.softcap >= 0.0,
        "model.attention.softcap = ", attention.softcap, "; expected a number above 0, or 0: off");
  check(attention.nope_temperature_floor > 0,
        "model.attention.nope_temperature_floor = ", attention.nope_temperature_floor,
        "; expected at least 1 position");
}

}  // namespace

void validate(const ModelConfig& c) {
  check(c.d_model > 0, "model.d_model = ", c.d_model, "; expected a positive width");
  check(c.n_layers > 0, "model.n_layers = ", c.n_layers, "; expected at least one layer");
  check(c.n_heads > 0, "model.n_heads = ", c.n_heads, "; expected at least one head");
  check(c.head_dim.has_value() || c.d_model % c.n_heads == 0, "model.n_heads = ", c.n_heads,
        " does not divide model.d_model = ", c.d_model,
        "; set model.head_dim or change one of them");
  check(c.head_size() > 0, "model.head_dim = ", c.head_size(), "; expected a positive width");
  check(c.kv_heads() > 0 && c.n_heads % c.kv_heads() == 0, "model.n_kv_heads = ", c.kv_heads(),
        " does not divide model.n_heads = ", c.n_heads);
  check(c.ffn.multiple_of > 0, "model.ffn.multiple_of = ", c.ffn.multiple_of,
        "; expected at least 1");
  check(c.d_ff() > 0, "model.ffn.d_ff = ", c.d_ff(), "; expected a positive width");
  const bool has_offset = c.norm.kind == NormKind::rmsnorm || c.norm.kind == NormKind::layernorm;
  check(!c.norm.unit_offset || !has_offset || c.norm.weight,
        "model.norm.unit_offset needs a gain; expected model.norm.weight: true");
  validate_attention(c);
  validate_positions(c);
  const InitConfig& init = c.init;
  const double embedding_std = init.embedding_std.value_or(init.std);
  check(std::isfinite(init.std) && init.std >= 0.0, "model.init.std = ", init.std,
        "; expected a number of at least 0");
  check(std::isfinite(embedding_std) && embedding_std >= 0.0,
        "model.init.embedding_std = ", embedding_std, "; expected a number of at least 0, or null");
  // Numbers are drawn until one is within the bound: 1 of 12 is at 0.1 sigma.
  check(init.trunc.value_or(1.0) >= 0.1, "model.init.trunc = ", init.trunc.value_or(1.0),
        "; expected at least 0.1 standard deviations, or null");
}

template <>
std::span<const VariantRow<NormKind>> variant_rows() {
  static constexpr VariantRow<NormKind> kRows[] = {
      {NormKind::layernorm, "layernorm", "Ba et al. 2016, arXiv 1607.06450"},
      {NormKind::rmsnorm, "rmsnorm", "Zhang & Sennrich 2019, arXiv 1910.07467"},
      {NormKind::scalenorm, "scalenorm", "Nguyen & Salazar 2019, arXiv 1910.05895: g x / |x|"},
      {NormKind::dyt, "dyt", "Zhu et al. 2025, arXiv 2503.10622: tanh(alpha x)"},
      {NormKind::none, "none", "the input itself"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<NormPlacement>> variant_rows() {
  static constexpr VariantRow<NormPlacement> kRows[] = {
      {NormPlacement::pre, "pre", "Xiong et al. 2020, arXiv 2002.04745: x + f(norm(x))"},
      {NormPlacement::post, "post", "Vaswani et al. 2017, arXiv 1706.03762: norm(x + f(x))"},
      {NormPlacement::sandwich, "sandwich",
       "Ding et al. 2021, arXiv 2105.13290; Gemma 2: x + norm(f(norm(x)))"},
      {NormPlacement::output, "output", "OLMo 2, arXiv 2501.00656: x + norm(f(x))"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<BlockTopology>> variant_rows() {
  static constexpr VariantRow<BlockTopology> kRows[] = {
      {BlockTopology::serial, "serial", "Vaswani et al. 2017, arXiv 1706.03762"},
      {BlockTopology::parallel, "parallel",
       "Wang & Komatsuzaki 2021 (GPT-J): x + attn(norm(x)) + ffn(norm(x))"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<ActivationKind>> variant_rows() {
  static constexpr VariantRow<ActivationKind> kRows[] = {
      {ActivationKind::relu, "relu",
       "Nair & Hinton 2010; gated: ReGLU, Shazeer 2020, arXiv 2002.05202"},
      {ActivationKind::relu2, "relu2", "So et al. 2021 (Primer), arXiv 2109.08668: max(x, 0)^2"},
      {ActivationKind::gelu, "gelu",
       "Hendrycks & Gimpel 2016, arXiv 1606.08415, erf form; gated: GeGLU"},
      {ActivationKind::gelu_tanh, "gelu_tanh",
       "Hendrycks & Gimpel 2016, arXiv 1606.08415, tanh form"},
      {ActivationKind::silu, "silu", "Elfwing et al. 2017, arXiv 1702.03118; gated: SwiGLU"},
      {ActivationKind::elu, "elu", "Clevert et al. 2015, arXiv 1511.07289, alpha 1"},
      {ActivationKind::selu, "selu", "Klambauer et al. 2017, arXiv 1706.02515"},
      {ActivationKind::softplus, "softplus", "Dugas et al. 2000 (NIPS 13)"},
      {ActivationKind::sigmoid, "sigmoid",
       "logistic; gated: GLU, Dauphin et al. 2016, arXiv 1612.08083"},
      {ActivationKind::tanh, "tanh", "LeCun et al. 1998, Efficient BackProp"},
      {ActivationKind::mish, "mish", "Misra 2019, arXiv 1908.08681"},
      {ActivationKind::softsign, "softsign", "Turian et al. 2009; Glorot & Bengio 2010"},
      {ActivationKind::identity, "identity",
       "the input itself; gated: Bilinear, Shazeer 2020, arXiv 2002.05202"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<PositionKind>> variant_rows() {
  static constexpr VariantRow<PositionKind> kRows[] = {
      {PositionKind::none, "none", "NoPE: Kazemnejad et al. 2023, arXiv 2305.19466"},
      {PositionKind::learned, "learned", "Radford et al. 2019 (GPT-2)"},
      {PositionKind::sinusoidal, "sinusoidal",
       "Vaswani et al. 2017, arXiv 1706.03762, section 3.5"},
      {PositionKind::rope, "rope", "Su et al. 2021, arXiv 2104.09864"},
      {PositionKind::alibi, "alibi", "Press et al. 2021, arXiv 2108.12409"},
      {PositionKind::t5, "t5",
       "Raffel et al. 2019, arXiv 1910.10683: learned bias of distance buckets"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<RopeLayout>> variant_rows() {
  static constexpr VariantRow<RopeLayout> kRows[] = {
      {RopeLayout::half, "half", "GPT-NeoX, LLaMA: pairs (i, i + d/2)"},
      {RopeLayout::interleaved, "interleaved", "Su et al. 2021, GPT-J: pairs (2i, 2i + 1)"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<ParallelNorms>> variant_rows() {
  static constexpr VariantRow<ParallelNorms> kRows[] = {
      {ParallelNorms::shared, "shared", "GPT-J, PaLM: both branches read one norm"},
      {ParallelNorms::separate, "separate", "GPT-NeoX: a norm for each branch"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<LayerSet>> variant_rows() {
  static constexpr VariantRow<LayerSet> kRows[] = {
      {LayerSet::all, "all", "every layer"},
      {LayerSet::local, "local", "layers that attention.pattern calls local"},
      {LayerSet::full, "full", "layers that attention.pattern calls full"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<LayerKind>> variant_rows() {
  static constexpr VariantRow<LayerKind> kRows[] = {
      {LayerKind::local, "local", "attends within attention.window"},
      {LayerKind::full, "full", "attends to all keys before it"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<QkNorm>> variant_rows() {
  static constexpr VariantRow<QkNorm> kRows[] = {
      {QkNorm::none, "none", "queries and keys as they are"},
      {QkNorm::per_head, "per_head",
       "Henry et al. 2020, arXiv 2010.04245; Qwen 3: one gain of head_dim"},
      {QkNorm::per_head_separate, "per_head_separate",
       "Command R, StableLM 2: a gain for each head"},
      {QkNorm::full, "full", "OLMo 2: over the whole projection before the head split"},
      {QkNorm::l2, "l2", "Llama 4: x / rms(x) of each head, no gain"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<QkNormKind>> variant_rows() {
  static constexpr VariantRow<QkNormKind> kRows[] = {
      {QkNormKind::rmsnorm, "rmsnorm", "Zhang & Sennrich 2019, arXiv 1910.07467"},
      {QkNormKind::layernorm, "layernorm", "Dehghani et al. 2023, arXiv 2302.05442 (ViT-22B)"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<QkNormLayers>> variant_rows() {
  static constexpr VariantRow<QkNormLayers> kRows[] = {
      {QkNormLayers::all, "all", "every layer"},
      {QkNormLayers::rope, "rope", "only layers that rotate (Llama 4)"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<LocalKind>> variant_rows() {
  static constexpr VariantRow<LocalKind> kRows[] = {
      {LocalKind::window, "window",
       "Beltagy et al. 2020, arXiv 2004.05150; Mistral: the last `window` keys"},
      {LocalKind::chunk, "chunk", "Llama 4: the keys of the query's own block of `window`"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<SinkKind>> variant_rows() {
  static constexpr VariantRow<SinkKind> kRows[] = {
      {SinkKind::none, "none", "softmax as it is"},
      {SinkKind::learned, "learned", "gpt-oss: exp(s_h) more in the denominator, s_h learned"},
      {SinkKind::zero, "zero", "Miller 2023 (off-by-one softmax): 1 more in the denominator"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<ResidualScale>> variant_rows() {
  static constexpr VariantRow<ResidualScale> kRows[] = {
      {ResidualScale::depth, "depth", "1/sqrt(2 n_layers)"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<EmbeddingScale>> variant_rows() {
  static constexpr VariantRow<EmbeddingScale> kRows[] = {
      {EmbeddingScale::sqrt_d, "sqrt_d", "Vaswani et al. 2017; Gemma: sqrt(d_model)"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<HeadScale>> variant_rows() {
  static constexpr VariantRow<HeadScale> kRows[] = {
      {HeadScale::rsqrt_d, "rsqrt_d", "T5 with tied embeddings: 1/sqrt(d_model)"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<InitScheme>> variant_rows() {
  static constexpr VariantRow<InitScheme> kRows[] = {
      {InitScheme::normal, "normal", "Radford et al. 2019 (GPT-2): a fixed std"},
      {InitScheme::fan_in, "fan_in", "LeCun et al. 1998: 1/sqrt(fan_in)"},
      {InitScheme::xavier, "xavier", "Glorot & Bengio 2010: sqrt(2/(fan_in + fan_out))"},
      {InitScheme::small, "small", "Nguyen & Salazar 2019, arXiv 1910.05895: sqrt(2/(5 d_model))"},
  };
  return kRows;
}

}  // namespace ballast
