// The description of a model: plain structs, no YAML. Key names, defaults and meanings are those of
// the `model:` section of a run configuration; the field list that documents them is in
// train/config/fields.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/kernels/activation.h"
#include "core/kernels/attention.h"
#include "core/kernels/rope.h"
#include "core/variant_table.h"

namespace ballast {

enum class NormKind { layernorm, rmsnorm, scalenorm, dyt, none };
enum class NormPlacement { pre, post, sandwich, output };
enum class BlockTopology { serial, parallel };
enum class ParallelNorms { shared, separate };
enum class PositionKind { none, learned, sinusoidal, rope, alibi, t5 };
enum class LayerSet { all, local, full };
enum class LayerKind { local, full };
enum class QkNorm { none, per_head, per_head_separate, full, l2 };
enum class QkNormKind { rmsnorm, layernorm };
enum class QkNormLayers { all, rope };
enum class SinkKind { none, learned, zero };
enum class InitScheme { normal, fan_in, xavier, small };

// Words that stand for a number that the sizes give.
enum class ResidualScale { depth };    ///< 1/sqrt(2 n_layers)
enum class EmbeddingScale { sqrt_d };  ///< sqrt(d_model)
enum class HeadScale { rsqrt_d };      ///< 1/sqrt(d_model)

struct NormConfig {
  NormKind kind = NormKind::rmsnorm;
  NormPlacement placement = NormPlacement::pre;
  double eps = 1e-5;
  bool weight = true;
  bool bias = false;
  bool unit_offset = false;
  bool final = true;
  bool embedding = false;
};

struct BlockConfig {
  BlockTopology topology = BlockTopology::serial;
  ParallelNorms parallel_norms = ParallelNorms::shared;
  std::variant<double, ResidualScale> residual_scale = 1.0;
  std::optional<double> layer_scale;
};

struct FfnConfig {
  ActivationKind activation = ActivationKind::silu;
  bool gated = true;
  std::optional<int64_t> d_ff;
  std::optional<double> ratio;
  int64_t multiple_of = 8;
};

struct PositionConfig {
  PositionKind kind = PositionKind::rope;
  double theta = 10000.0;
  std::optional<double> theta_local;
  double fraction = 1.0;
  RopeLayout layout = RopeLayout::half;
  std::variant<LayerSet, std::vector<int64_t>> layers = LayerSet::all;
  bool alibi_scaled = false;
  int64_t t5_buckets = 32;
  int64_t t5_max_distance = 128;
};

struct AttentionConfig {
  QkNorm qk_norm = QkNorm::none;
  std::optional<QkNormKind> qk_norm_kind;
  bool qk_norm_after_rope = false;
  QkNormLayers qk_norm_layers = QkNormLayers::all;
  bool v_norm = false;
  std::optional<double> scale;
  double softcap = 0.0;
  int64_t window = 0;
  LocalKind local = LocalKind::window;
  std::vector<LayerKind> pattern = {LayerKind::full};
  double nope_temperature = 0.0;
  int64_t nope_temperature_floor = 8192;
  SinkKind sink = SinkKind::none;
};

struct BiasConfig {
  bool qkv = false;
  bool attn_out = false;
  bool ffn = false;
  bool head = false;
};

struct EmbeddingConfig {
  bool tie = false;
  std::variant<double, EmbeddingScale> scale = 1.0;
};

struct HeadConfig {
  double softcap = 0.0;
  std::variant<double, HeadScale> scale = 1.0;
};

struct DropoutConfig {
  double embedding = 0.0;
  double attention = 0.0;
  double residual = 0.0;
};

struct InitConfig {
  InitScheme scheme = InitScheme::normal;
  double std = 0.02;
  bool depth_scale = true;
  std::optional<double> embedding_std;
  std::optional<double> trunc;
};

struct ModelConfig {
  int64_t d_model = 0;
  int64_t n_layers = 0;
  int64_t n_heads = 0;
  std::optional<int64_t> n_kv_heads;
  std::optional<int64_t> head_dim;
  std::optional<int64_t> vocab_size;
  std::optional<int64_t> max_seq_len;
  NormConfig norm;
  BlockConfig block;
  FfnConfig ffn;
  PositionConfig position;
  AttentionConfig attention;
  BiasConfig bias;
  EmbeddingConfig embedding;
  HeadConfig head;
  DropoutConfig dropout;
  InitConfig init;

  // Derived sizes. vocab_size and max_seq_len must be set (the run configuration resolves them).
  int64_t kv_heads() const { return n_kv_heads.value_or(n_heads); }
  int64_t head_size() const { return head_dim.value_or(n_heads > 0 ? d_model / n_heads : 0); }
  int64_t qkv_width() const { return (n_heads + 2 * kv_heads()) * head_size(); }
  double ffn_ratio() const { return ffn.ratio.value_or(ffn.gated ? 8.0 / 3.0 : 4.0); }
  /// Explicit, or ratio * d_model rounded up to a multiple of `multiple_of`.
  int64_t d_ff() const;
  /// Channels of a head that rope rotates: fraction * head_dim, which must be even.
  int64_t rotated_width() const;

  // What holds in one layer.
  bool is_local(int64_t layer) const;
  /// Keys a query of this layer sees, itself included; 0: all.
  int64_t window(int64_t layer) const { return is_local(layer) ? attention.window : 0; }
  /// Whether position.layers names it.
  bool has_positions(int64_t layer) const;
  bool has_rope(int64_t layer) const {
    return position.kind == PositionKind::rope && has_positions(layer);
  }
  bool has_qk_norm(int64_t layer) const;

  // What `null` and the words stand for.
  double attention_scale() const;
  QkNormKind qk_norm_kind() const;
  double residual_scale() const;
  double embedding_scale() const;
  double head_scale() const;
};

/// Throws std::invalid_argument "model.key = …: reason" for sizes that contradict each other.
void validate(const ModelConfig& config);

template <>
std::span<const VariantRow<NormKind>> variant_rows<NormKind>();
template <>
std::span<const VariantRow<NormPlacement>> variant_rows<NormPlacement>();
template <>
std::span<const VariantRow<BlockTopology>> variant_rows<BlockTopology>();
template <>
std::span<const VariantRow<ParallelNorms>> variant_rows<ParallelNorms>();
template <>
std::span<const VariantRow<ActivationKind>> variant_rows<ActivationKind>();
template <>
std::span<const VariantRow<PositionKind>> variant_rows<PositionKind>();
template <>
std::span<const VariantRow<LayerSet>> variant_rows<LayerSet>();
template <>
std::span<const VariantRow<LayerKind>> variant_rows<LayerKind>();
template <>
std::span<const VariantRow<RopeLayout>> variant_rows<RopeLayout>();
template <>
std::span<const VariantRow<QkNorm>> variant_rows<QkNorm>();
template <>
std::span<const VariantRow<QkNormKind>> variant_rows<QkNormKind>();
template <>
std::span<const VariantRow<QkNormLayers>> variant_rows<QkNormLayers>();
template <>
std::span<const VariantRow<LocalKind>> variant_rows<LocalKind>();
template <>
std::span<const VariantRow<SinkKind>> variant_rows<SinkKind>();
template <>
std::span<const VariantRow<InitScheme>> variant_rows<InitScheme>();
template <>
std::span<const VariantRow<ResidualScale>> variant_rows<ResidualScale>();
template <>
std::span<const VariantRow<EmbeddingScale>> variant_rows<EmbeddingScale>();
template <>
std::span<const VariantRow<HeadScale>> variant_rows<HeadScale>();

}  // namespace ballast
