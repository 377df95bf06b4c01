#include "layers/presets.h"

namespace ballast {

namespace {

// clang-format off
// One section of the keys a line. Where a family has several sizes, the one its source names is
// meant. eps is that of the checkpoints: the defaults of their classes differ.

constexpr PresetSetting kGpt2[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "true"},
    {"ffn.activation", "gelu_tanh"}, {"ffn.gated", "false"}, {"ffn.ratio", "4.0"},
    {"position.kind", "learned"},
    {"bias.qkv", "true"}, {"bias.attn_out", "true"}, {"bias.ffn", "true"},
    {"embedding.tie", "true"},
    {"dropout.embedding", "0.1"}, {"dropout.attention", "0.1"}, {"dropout.residual", "0.1"},
    {"init.std", "0.02"}, {"init.depth_scale", "true"},
};

// 64 of 256 channels are rotated.
constexpr PresetSetting kGptj[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "true"},
    {"block.topology", "parallel"}, {"block.parallel_norms", "shared"},
    {"ffn.activation", "gelu_tanh"}, {"ffn.gated", "false"}, {"ffn.ratio", "4.0"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.fraction", "0.25"},
    {"position.layout", "interleaved"},
    {"bias.ffn", "true"}, {"bias.head", "true"},
    {"embedding.tie", "false"},
};

constexpr PresetSetting kGptNeox[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "true"},
    {"block.topology", "parallel"}, {"block.parallel_norms", "separate"},
    {"ffn.activation", "gelu"}, {"ffn.gated", "false"}, {"ffn.ratio", "4.0"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.fraction", "0.25"},
    {"position.layout", "half"},
    {"bias.qkv", "true"}, {"bias.attn_out", "true"}, {"bias.ffn", "true"},
    {"embedding.tie", "false"},
};

constexpr PresetSetting kPalm[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "false"},
    {"block.topology", "parallel"}, {"block.parallel_norms", "shared"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "4.0"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.layout", "half"},
    {"n_kv_heads", "1"},
    {"embedding.tie", "true"},
};

// The missing 1/sqrt(head_dim) is in the initial values of the original.
constexpr PresetSetting kT5[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-6"},
    {"ffn.activation", "relu"}, {"ffn.gated", "false"}, {"ffn.ratio", "4.0"},
    {"position.kind", "t5"}, {"position.t5_buckets", "32"}, {"position.t5_max_distance", "128"},
    {"attention.scale", "1.0"},
    {"embedding.tie", "true"},
    {"head.scale", "rsqrt_d"},
    {"dropout.embedding", "0.1"}, {"dropout.attention", "0.1"}, {"dropout.residual", "0.1"},
};

constexpr PresetSetting kBloom[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "true"},
    {"norm.embedding", "true"},
    {"ffn.activation", "gelu_tanh"}, {"ffn.gated", "false"}, {"ffn.ratio", "4.0"},
    {"position.kind", "alibi"},
    {"bias.qkv", "true"}, {"bias.attn_out", "true"}, {"bias.ffn", "true"},
    {"embedding.tie", "true"},
};

constexpr PresetSetting kLlama2[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-5"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "2.6875"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.layout", "half"},
    {"embedding.tie", "false"},
};

constexpr PresetSetting kLlama3[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-5"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "3.5"},
    {"position.kind", "rope"}, {"position.theta", "500000.0"}, {"position.layout", "half"},
    {"embedding.tie", "false"},
};

constexpr PresetSetting kMistral[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-5"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "3.5"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.layout", "half"},
    {"attention.window", "4096"}, {"attention.pattern", "[local]"},
    {"embedding.tie", "false"},
};

constexpr PresetSetting kGemma[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-6"}, {"norm.unit_offset", "true"},
    {"ffn.activation", "gelu_tanh"}, {"ffn.gated", "true"}, {"ffn.ratio", "8.0"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.layout", "half"},
    {"embedding.tie", "true"}, {"embedding.scale", "sqrt_d"},
};

// Even layers are local.
constexpr PresetSetting kGemma2[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-6"}, {"norm.unit_offset", "true"},
    {"norm.placement", "sandwich"},
    {"ffn.activation", "gelu_tanh"}, {"ffn.gated", "true"}, {"ffn.ratio", "4.0"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.layout", "half"},
    {"attention.softcap", "50.0"}, {"attention.window", "4096"},
    {"attention.pattern", "[local, full]"},
    {"embedding.tie", "true"}, {"embedding.scale", "sqrt_d"},
    {"head.softcap", "30.0"},
};

// The larger ones see 1024 keys and stretch rope by 8, which is no key.
constexpr PresetSetting kGemma3[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-6"}, {"norm.unit_offset", "true"},
    {"norm.placement", "sandwich"},
    {"ffn.activation", "gelu_tanh"}, {"ffn.gated", "true"}, {"ffn.ratio", "6.0"},
    {"position.kind", "rope"}, {"position.theta", "1000000.0"}, {"position.theta_local", "10000.0"},
    {"position.layout", "half"},
    {"attention.qk_norm", "per_head"}, {"attention.window", "512"},
    {"attention.pattern", "[local, local, local, local, local, full]"},
    {"embedding.tie", "true"}, {"embedding.scale", "sqrt_d"},
};

constexpr PresetSetting kQwen2[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-6"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "5.428571428571429"},
    {"position.kind", "rope"}, {"position.theta", "1000000.0"}, {"position.layout", "half"},
    {"bias.qkv", "true"},
    {"embedding.tie", "true"},
};

constexpr PresetSetting kQwen3[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-6"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "3.0"},
    {"position.kind", "rope"}, {"position.theta", "1000000.0"}, {"position.layout", "half"},
    {"attention.qk_norm", "per_head"},
    {"embedding.tie", "true"},
};

// Without the clipping of q, k, v that one release has.
constexpr PresetSetting kOlmo[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "false"},
    {"norm.weight", "false"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "2.6875"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.layout", "half"},
    {"embedding.tie", "false"},
};

constexpr PresetSetting kOlmo2[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-6"}, {"norm.placement", "output"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "2.6875"},
    {"position.kind", "rope"}, {"position.theta", "500000.0"}, {"position.layout", "half"},
    {"attention.qk_norm", "full"},
    {"embedding.tie", "false"},
    {"init.std", "0.02"}, {"init.depth_scale", "false"}, {"init.trunc", "3.0"},
};

constexpr PresetSetting kCommandR[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "false"},
    {"block.topology", "parallel"}, {"block.parallel_norms", "shared"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "2.75"},
    {"position.kind", "rope"}, {"position.theta", "8000000.0"}, {"position.layout", "interleaved"},
    {"embedding.tie", "true"},
    {"head.scale", "0.0625"},
};

constexpr PresetSetting kCommandA[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "false"},
    {"block.topology", "parallel"}, {"block.parallel_norms", "shared"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "3.0"},
    {"position.kind", "rope"}, {"position.theta", "50000.0"}, {"position.layout", "interleaved"},
    {"position.layers", "local"},
    {"attention.window", "4096"}, {"attention.pattern", "[local, local, local, full]"},
    {"embedding.tie", "true"},
    {"head.scale", "0.25"},
};

constexpr PresetSetting kPhi2[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "true"},
    {"block.topology", "parallel"}, {"block.parallel_norms", "shared"},
    {"ffn.activation", "gelu_tanh"}, {"ffn.gated", "false"}, {"ffn.ratio", "4.0"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.fraction", "0.4"},
    {"position.layout", "half"},
    {"bias.qkv", "true"}, {"bias.attn_out", "true"}, {"bias.ffn", "true"}, {"bias.head", "true"},
    {"embedding.tie", "false"},
};

constexpr PresetSetting kFalcon7b[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "true"},
    {"block.topology", "parallel"}, {"block.parallel_norms", "shared"},
    {"ffn.activation", "gelu"}, {"ffn.gated", "false"}, {"ffn.ratio", "4.0"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.layout", "half"},
    {"n_kv_heads", "1"},
    {"embedding.tie", "true"},
};

// Eight key-value heads at 128 heads: a size.
constexpr PresetSetting kFalcon40b[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "true"},
    {"block.topology", "parallel"}, {"block.parallel_norms", "separate"},
    {"ffn.activation", "gelu"}, {"ffn.gated", "false"}, {"ffn.ratio", "4.0"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.layout", "half"},
    {"embedding.tie", "true"},
};

constexpr PresetSetting kStablelm[] = {
    {"norm.kind", "layernorm"}, {"norm.eps", "1.0e-5"}, {"norm.bias", "true"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "2.7"},
    {"position.kind", "rope"}, {"position.theta", "10000.0"}, {"position.fraction", "0.25"},
    {"position.layout", "half"},
    {"embedding.tie", "false"},
};

// No window: "local" only names the layers with rope; every fourth has none.
constexpr PresetSetting kSmollm3[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-6"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "5.375"},
    {"position.kind", "rope"}, {"position.theta", "2000000.0"}, {"position.layout", "half"},
    {"position.layers", "local"},
    {"attention.pattern", "[local, local, local, full]"},
    {"embedding.tie", "true"},
};

constexpr PresetSetting kLlama4[] = {
    {"norm.kind", "rmsnorm"}, {"norm.eps", "1.0e-5"},
    {"ffn.activation", "silu"}, {"ffn.gated", "true"}, {"ffn.ratio", "3.2"},
    {"position.kind", "rope"}, {"position.theta", "500000.0"}, {"position.layout", "interleaved"},
    {"position.layers", "local"},
    {"attention.qk_norm", "l2"}, {"attention.qk_norm_after_rope", "true"},
    {"attention.qk_norm_layers", "rope"}, {"attention.window", "8192"},
    {"attention.local", "chunk"}, {"attention.pattern", "[local, local, local, full]"},
    {"attention.nope_temperature", "0.1"}, {"attention.nope_temperature_floor", "8192"},
    {"embedding.tie", "false"},
};
// clang-format on

}  // namespace

std::span<const Preset> presets() {
  static constexpr Preset kPresets[] = {
      {"gpt2", "GPT-2: transformers/models/gpt2/configuration_gpt2.py", kGpt2},
      {"gptj", "GPT-J 6B: transformers/models/gptj/modeling_gptj.py", kGptj},
      {"gpt_neox", "Pythia: transformers/models/gpt_neox/modular_gpt_neox.py", kGptNeox},
      {"palm", "PaLM: lucidrains/PaLM-pytorch palm_pytorch/palm_pytorch.py", kPalm},
      {"t5", "T5 v1.0, the decoder without cross-attention: transformers/models/t5/modeling_t5.py",
       kT5},
      {"bloom", "BLOOM: transformers/models/bloom/modeling_bloom.py", kBloom},
      {"llama2", "LLaMA 2 7B: transformers/models/llama/configuration_llama.py, litgpt/config.py",
       kLlama2},
      {"llama3", "Llama 3 8B: transformers/models/llama/configuration_llama.py, litgpt/config.py",
       kLlama3},
      {"mistral", "Mistral 7B v0.1: transformers/models/mistral, litgpt/config.py", kMistral},
      {"gemma", "Gemma 1: transformers/models/gemma/modular_gemma.py", kGemma},
      {"gemma2", "Gemma 2 2B: transformers/models/gemma2/modular_gemma2.py, litgpt/config.py",
       kGemma2},
      {"gemma3", "Gemma 3 1B: transformers/models/gemma3/modular_gemma3.py, litgpt/config.py",
       kGemma3},
      {"qwen2", "Qwen2 0.5B: transformers/models/qwen2", kQwen2},
      {"qwen3", "Qwen3 0.6B: transformers/models/qwen3", kQwen3},
      {"olmo", "OLMo 7B: transformers/models/olmo/modeling_olmo.py", kOlmo},
      {"olmo2",
       "OLMo 2 7B: transformers/models/olmo2/modular_olmo2.py, allenai/OLMo "
       "configs/official-1124/OLMo2-7B-stage1.yaml",
       kOlmo2},
      {"command_r",
       "Command R: transformers/models/cohere/modular_cohere.py, mlx_lm/models/cohere.py",
       kCommandR},
      {"command_a",
       "Command A 111B: transformers/models/cohere2/modular_cohere2.py, "
       "mlx_lm/models/cohere2.py",
       kCommandA},
      {"phi2", "Phi-2: transformers/models/phi/modular_phi.py, mlx_lm/models/phi.py", kPhi2},
      {"falcon_7b", "Falcon 7B: transformers/models/falcon/modeling_falcon.py, litgpt/config.py",
       kFalcon7b},
      {"falcon_40b", "Falcon 40B: transformers/models/falcon/modeling_falcon.py, litgpt/config.py",
       kFalcon40b},
      {"stablelm",
       "StableLM 3B: transformers/models/stablelm/configuration_stablelm.py, modeling_stablelm.py",
       kStablelm},
      {"smollm3", "SmolLM3 3B: transformers/models/smollm3/modular_smollm3.py", kSmollm3},
      {"llama4",
       "Llama 4, a dense text layer: transformers/models/llama4/modeling_llama4.py, "
       "mlx_lm/models/llama4_text.py",
       kLlama4},
  };
  return kPresets;
}

const Preset* find_preset(std::string_view name) {
  for (const Preset& preset : presets()) {
    if (preset.name == name) return &preset;
  }
  return nullptr;
}

}  // namespace ballast
