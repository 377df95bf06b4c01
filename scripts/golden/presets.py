"""The known architectures as settings of `model:` keys, written from the checkpoints' own descriptions
and not from Ballast's table: that both agree is the check. A preset names no size but the ratio of the
feed-forward, and one key/value head where the architecture is multi-query.
"""

LAYERNORM = {"norm.kind": "layernorm", "norm.bias": True, "norm.eps": 1e-5}
LAYERNORM_WITHOUT_BIAS = {"norm.kind": "layernorm", "norm.bias": False, "norm.eps": 1e-5}
RMSNORM_5 = {"norm.kind": "rmsnorm", "norm.eps": 1e-5}
RMSNORM_6 = {"norm.kind": "rmsnorm", "norm.eps": 1e-6}

PARALLEL = {"block.topology": "parallel", "block.parallel_norms": "shared"}
PARALLEL_TWO_NORMS = {"block.topology": "parallel", "block.parallel_norms": "separate"}

BLOCK_BIASES = {"bias.qkv": True, "bias.attn_out": True, "bias.ffn": True}
DROPOUT = {"dropout.embedding": 0.1, "dropout.attention": 0.1, "dropout.residual": 0.1}
TIED = {"embedding.tie": True}


def plain(activation):
    return {"ffn.gated": False, "ffn.activation": activation, "ffn.ratio": 4.0}


def gated(activation, ratio):
    return {"ffn.gated": True, "ffn.activation": activation, "ffn.ratio": ratio}


def swiglu(ratio):
    return gated("silu", ratio)


def rope(theta=10000.0, fraction=1.0, layout="half"):
    return {
        "position.kind": "rope",
        "position.theta": theta,
        "position.fraction": fraction,
        "position.layout": layout,
    }


def locals_of(pattern, window, local="window"):
    return {
        "attention.pattern": pattern,
        "attention.window": window,
        "attention.local": local,
    }


THREE_LOCAL = ["local", "local", "local", "full"]

GEMMA = {**RMSNORM_6, "norm.unit_offset": True, "embedding.scale": "sqrt_d", **TIED}
COHERE = {**LAYERNORM_WITHOUT_BIAS, **PARALLEL, **TIED}

PRESETS = {
    # 124M … 1.5B
    "gpt2": {
        **LAYERNORM,
        **plain("gelu_tanh"),
        "position.kind": "learned",
        **BLOCK_BIASES,
        **TIED,
        **DROPOUT,
    },
    # 6B: 64 of 256 channels turn; the head keeps a bias, q k v and the output projection have none
    "gptj": {
        **LAYERNORM,
        **PARALLEL,
        **plain("gelu_tanh"),
        **rope(fraction=0.25, layout="interleaved"),
        "bias.ffn": True,
        "bias.head": True,
    },
    # Pythia and 20B
    "gpt_neox": {
        **LAYERNORM,
        **PARALLEL_TWO_NORMS,
        **plain("gelu"),
        **rope(fraction=0.25),
        **BLOCK_BIASES,
    },
    # PaLM-pytorch: SwiGLU of width 4, not 8/3
    "palm": {
        **LAYERNORM_WITHOUT_BIAS,
        **PARALLEL,
        **swiglu(4.0),
        **rope(),
        "n_kv_heads": 1,
        **TIED,
    },
    # the decoder of v1.0 without cross-attention: logits are not scaled by 1/sqrt(d), the head's are
    "t5": {
        **RMSNORM_6,
        **plain("relu"),
        "position.kind": "t5",
        "position.t5_buckets": 32,
        "position.t5_max_distance": 128,
        "attention.scale": 1.0,
        **TIED,
        "head.scale": "rsqrt_d",
        **DROPOUT,
    },
    "bloom": {
        **LAYERNORM,
        "norm.embedding": True,
        **plain("gelu_tanh"),
        "position.kind": "alibi",
        **BLOCK_BIASES,
        **TIED,
    },
    "llama2": {**RMSNORM_5, **swiglu(2.6875), **rope()},  # 7B: 11008 / 4096
    "llama3": {**RMSNORM_5, **swiglu(3.5), **rope(500000.0)},  # 8B
    "mistral": {**RMSNORM_5, **swiglu(3.5), **rope(), **locals_of(["local"], 4096)},  # 7B v0.1
    "gemma": {**GEMMA, **gated("gelu_tanh", 8.0), **rope()},
    # even layers are local
    "gemma2": {
        **GEMMA,
        "norm.placement": "sandwich",
        **gated("gelu_tanh", 4.0),
        **rope(),
        **locals_of(["local", "full"], 4096),
        "attention.softcap": 50.0,
        "head.softcap": 30.0,
    },
    # 1B: 6912 / 1152 and a window of 512; the sixth layer is global
    "gemma3": {
        **GEMMA,
        "norm.placement": "sandwich",
        **gated("gelu_tanh", 6.0),
        **rope(1e6),
        "position.theta_local": 10000.0,
        **locals_of(["local"] * 5 + ["full"], 512),
        "attention.qk_norm": "per_head",
    },
    # 0.5B: 4864 / 896
    "qwen2": {**RMSNORM_6, **swiglu(4864 / 896), **rope(1e6), "bias.qkv": True, **TIED},
    # 0.6B: 3072 / 1024
    "qwen3": {**RMSNORM_6, **swiglu(3.0), **rope(1e6), "attention.qk_norm": "per_head", **TIED},
    # 7B; the norm has no parameters
    "olmo": {**LAYERNORM_WITHOUT_BIAS, "norm.weight": False, **swiglu(2.6875), **rope()},
    # 7B
    "olmo2": {
        **RMSNORM_6,
        "norm.placement": "output",
        **swiglu(2.6875),
        **rope(500000.0),
        "attention.qk_norm": "full",
    },
    # 35B: 22528 / 8192
    "command_r": {
        **COHERE,
        **swiglu(2.75),
        **rope(8e6, layout="interleaved"),
        "head.scale": 0.0625,
    },
    # 111B: 36864 / 12288
    "command_a": {
        **COHERE,
        **swiglu(3.0),
        **rope(50000.0, layout="interleaved"),
        "position.layers": "local",
        **locals_of(THREE_LOCAL, 4096),
        "head.scale": 0.25,
    },
    "phi2": {
        **LAYERNORM,
        **PARALLEL,
        **plain("gelu_tanh"),
        **rope(fraction=0.4),
        **BLOCK_BIASES,
        "bias.head": True,
    },
    "falcon_7b": {**LAYERNORM, **PARALLEL, **plain("gelu"), **rope(), "n_kv_heads": 1, **TIED},
    "falcon_40b": {**LAYERNORM, **PARALLEL_TWO_NORMS, **plain("gelu"), **rope(), **TIED},
    # 3B: 6912 / 2560
    "stablelm": {**LAYERNORM, **swiglu(2.7), **rope(fraction=0.25)},
    # 3B: 11008 / 2048; no window anywhere, every fourth layer has no rope
    "smollm3": {
        **RMSNORM_6,
        **swiglu(5.375),
        **rope(2e6),
        "position.layers": "local",
        **locals_of(THREE_LOCAL, 0),
        **TIED,
    },
    # Scout's dense feed-forward: 16384 / 5120
    "llama4": {
        **RMSNORM_5,
        **swiglu(3.2),
        **rope(500000.0, layout="interleaved"),
        "position.layers": "local",
        **locals_of(THREE_LOCAL, 8192, "chunk"),
        "attention.qk_norm": "l2",
        "attention.qk_norm_after_rope": True,
        "attention.qk_norm_layers": "rope",
        "attention.nope_temperature": 0.1,
        "attention.nope_temperature_floor": 8192,
    },
}
