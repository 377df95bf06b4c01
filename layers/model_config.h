// The description of a model: plain structs, no YAML. Key names, defaults and meanings are those of
// the `model:` section of a run configuration; the field list that documents them is in
// train/config/fields.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/kernels/activation.h"
#include "core/kernels/rope.h"
#include "core/variant_table.h"

namespace ballast {

enum class NormKind { layernorm, rmsnorm, none };
enum class NormPlacement { pre };
enum class BlockTopology { serial };
enum class PositionKind { none, learned, rope };
enum class InitScheme { normal, fan_in, xavier, small };

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
  double fraction = 1.0;
  RopeLayout layout = RopeLayout::half;
};

struct AttentionConfig {
  std::optional<double> scale;  ///< default 1/sqrt(head_dim)
};

struct BiasConfig {
  bool qkv = false;
  bool attn_out = false;
  bool ffn = false;
  bool head = false;
};

struct EmbeddingConfig {
  bool tie = false;
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
std::span<const VariantRow<ActivationKind>> variant_rows<ActivationKind>();
template <>
std::span<const VariantRow<PositionKind>> variant_rows<PositionKind>();
template <>
std::span<const VariantRow<RopeLayout>> variant_rows<RopeLayout>();
template <>
std::span<const VariantRow<InitScheme>> variant_rows<InitScheme>();

template <>
std::span<const std::string_view> planned_variants<NormKind>();
template <>
std::span<const std::string_view> planned_variants<NormPlacement>();
template <>
std::span<const std::string_view> planned_variants<BlockTopology>();
template <>
std::span<const std::string_view> planned_variants<ActivationKind>();
template <>
std::span<const std::string_view> planned_variants<PositionKind>();

}  // namespace ballast
