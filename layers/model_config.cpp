#include "layers/model_config.h"

#include <cmath>

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
  if (c.norm.unit_offset) {
    check(c.norm.weight && c.norm.kind != NormKind::none,
          "model.norm.unit_offset needs a gain; expected model.norm.weight: true and a norm with "
          "one");
  }
  if (c.position.kind == PositionKind::rope) {
    const double width = c.position.fraction * static_cast<double>(c.head_size());
    check(c.position.fraction > 0.0 && c.position.fraction <= 1.0,
          "model.position.fraction = ", c.position.fraction,
          "; expected more than 0 and at most 1");
    check(std::abs(width - std::round(width)) < 1e-6 && c.rotated_width() > 0 &&
              c.rotated_width() % 2 == 0,
          "model.position.fraction = ", c.position.fraction, " rotates ", width, " of ",
          c.head_size(), " channels; expected an even number above 0");
  }
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
      {NormKind::none, "none", "the input itself"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<NormPlacement>> variant_rows() {
  static constexpr VariantRow<NormPlacement> kRows[] = {
      {NormPlacement::pre, "pre", "Xiong et al. 2020, arXiv 2002.04745: x + f(norm(x))"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<BlockTopology>> variant_rows() {
  static constexpr VariantRow<BlockTopology> kRows[] = {
      {BlockTopology::serial, "serial", "Vaswani et al. 2017, arXiv 1706.03762"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<ActivationKind>> variant_rows() {
  static constexpr VariantRow<ActivationKind> kRows[] = {
      {ActivationKind::relu, "relu",
       "Nair & Hinton 2010; gated: ReGLU, Shazeer 2020, arXiv 2002.05202"},
      {ActivationKind::gelu, "gelu",
       "Hendrycks & Gimpel 2016, arXiv 1606.08415, erf form; gated: GeGLU"},
      {ActivationKind::gelu_tanh, "gelu_tanh",
       "Hendrycks & Gimpel 2016, arXiv 1606.08415, tanh form"},
      {ActivationKind::silu, "silu", "Elfwing et al. 2017, arXiv 1702.03118; gated: SwiGLU"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<PositionKind>> variant_rows() {
  static constexpr VariantRow<PositionKind> kRows[] = {
      {PositionKind::none, "none", "NoPE: Kazemnejad et al. 2023, arXiv 2305.19466"},
      {PositionKind::learned, "learned", "Radford et al. 2019 (GPT-2)"},
      {PositionKind::rope, "rope", "Su et al. 2021, arXiv 2104.09864"},
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
std::span<const VariantRow<InitScheme>> variant_rows() {
  static constexpr VariantRow<InitScheme> kRows[] = {
      {InitScheme::normal, "normal", "Radford et al. 2019 (GPT-2): a fixed std"},
      {InitScheme::fan_in, "fan_in", "LeCun et al. 1998: 1/sqrt(fan_in)"},
      {InitScheme::xavier, "xavier", "Glorot & Bengio 2010: sqrt(2/(fan_in + fan_out))"},
      {InitScheme::small, "small", "Nguyen & Salazar 2019, arXiv 1910.05895: sqrt(2/(5 d_model))"},
  };
  return kRows;
}

template <>
std::span<const std::string_view> planned_variants<NormKind>() {
  static constexpr std::string_view kNames[] = {"scalenorm", "dyt"};
  return kNames;
}

template <>
std::span<const std::string_view> planned_variants<NormPlacement>() {
  static constexpr std::string_view kNames[] = {"post", "sandwich", "output"};
  return kNames;
}

template <>
std::span<const std::string_view> planned_variants<BlockTopology>() {
  static constexpr std::string_view kNames[] = {"parallel"};
  return kNames;
}

template <>
std::span<const std::string_view> planned_variants<ActivationKind>() {
  static constexpr std::string_view kNames[] = {"relu2", "elu",  "selu",     "softplus", "sigmoid",
                                                "tanh",  "mish", "softsign", "identity"};
  return kNames;
}

template <>
std::span<const std::string_view> planned_variants<PositionKind>() {
  static constexpr std::string_view kNames[] = {"sinusoidal", "alibi", "t5"};
  return kNames;
}

}  // namespace ballast
