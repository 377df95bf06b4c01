"""What Ballast computes, written a second time in plain PyTorch: explicit formulas, explicit (T, T)
attention, no fused function. Reads the same YAML keys and uses the same parameter names.

A key or value that this file does not know is an error: a comparison never passes because both sides
were not asked the same thing. Dropout is left out (comparisons run without it).

Sizes: B batch, T time, D d_model, H heads, K key/value heads, N channels of a head, V vocabulary.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, Callable

import torch
import yaml

from presets import PRESETS

# ---------------------------------------------------------------------------------------------- keys


@dataclass
class Key:
    """A key's default, and how a given value is read: it raises ValueError for what it refuses."""

    default: Any
    read: Callable


def a_bool(value):
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def an_int(value):
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError("expected an integer")
    return int(value)


def flag(default):
    return Key(default, a_bool)


def integer(default=None):
    return Key(default, an_int)


def number(default=None):
    return Key(default, float)  # PyYAML takes 1e-3 for a string; float() reads it


def numbers(*defaults):
    return Key(list(defaults), lambda values: [float(value) for value in values])


def one_of(*words, default=""):
    """The first word is the default unless another (or null) is named."""

    def read(value):
        if value not in words:
            raise ValueError(f"the reference has {words}")
        return value

    return Key(words[0] if default == "" else default, read)


def words_of(*words, default):
    def read(value):
        values = [value] if isinstance(value, str) else list(value)
        if any(item not in words for item in values):
            raise ValueError(f"expected a list of {words}")
        return values

    return Key(list(default), read)


def number_or(default, word):
    return Key(default, lambda value: value if value == word else float(value))


def layer_set():
    """`all`, `local`, `full`, or a list of layer numbers."""
    words = one_of("all", "local", "full")
    return Key(
        "all",
        lambda value: [an_int(i) for i in value] if isinstance(value, list) else words.read(value),
    )


ACTIVATION_KINDS = (
    "silu relu gelu gelu_tanh relu2 elu selu softplus sigmoid tanh mish softsign identity".split()
)

MODEL_KEYS = {
    "preset": one_of(*PRESETS, default=None),
    "d_model": integer(),
    "n_layers": integer(),
    "n_heads": integer(),
    "n_kv_heads": integer(),
    "head_dim": integer(),
    "vocab_size": integer(),
    "max_seq_len": integer(),
    "norm": {
        "kind": one_of("rmsnorm", "layernorm", "scalenorm", "dyt", "none"),
        "placement": one_of("pre", "post", "sandwich", "output"),
        "eps": number(1e-5),
        "weight": flag(True),
        "bias": flag(False),
        "unit_offset": flag(False),
        "final": flag(True),
        "embedding": flag(False),
    },
    "block": {
        "topology": one_of("serial", "parallel"),
        "parallel_norms": one_of("shared", "separate"),
        "residual_scale": number_or(1.0, "depth"),
        "layer_scale": number(),
    },
    "ffn": {
        "activation": one_of(*ACTIVATION_KINDS),
        "gated": flag(True),
        "d_ff": integer(),
        "ratio": number(),
        "multiple_of": integer(8),
    },
    "position": {
        "kind": one_of("rope", "none", "learned", "sinusoidal", "alibi", "t5"),
        "theta": number(10000.0),
        "theta_local": number(),
        "fraction": number(1.0),
        "layout": one_of("half", "interleaved"),
        "layers": layer_set(),
        "alibi_scaled": flag(False),
        "t5_buckets": integer(32),
        "t5_max_distance": integer(128),
    },
    "attention": {
        "qk_norm": one_of("none", "per_head", "per_head_separate", "full", "l2"),
        "qk_norm_kind": one_of("rmsnorm", "layernorm", default=None),
        "qk_norm_after_rope": flag(False),
        "qk_norm_layers": one_of("all", "rope"),
        "v_norm": flag(False),
        "scale": number(),
        "softcap": number(0.0),
        "window": integer(0),
        "local": one_of("window", "chunk"),
        "pattern": words_of("local", "full", default=["full"]),
        "nope_temperature": number(0.0),
        "nope_temperature_floor": integer(8192),
        "sink": one_of("none", "learned", "zero"),
    },
    "bias": {"qkv": flag(False), "attn_out": flag(False), "ffn": flag(False), "head": flag(False)},
    "embedding": {"tie": flag(False), "scale": number_or(1.0, "sqrt_d")},
    "head": {"softcap": number(0.0), "scale": number_or(1.0, "rsqrt_d")},
    "dropout": {"embedding": number(0.0), "attention": number(0.0), "residual": number(0.0)},
    "init": {
        "scheme": one_of("normal", "fan_in", "xavier", "small"),
        "std": number(0.02),
        "depth_scale": flag(True),
        "embedding_std": number(),
        "trunc": number(),
    },
}

OPTIM_KEYS = {
    "kind": one_of("adamw", "adam", "sgd", "lion"),
    "lr": number(3e-4),
    "betas": numbers(0.9, 0.95),
    "eps": number(1e-8),
    "weight_decay": number(0.1),
    "decay": one_of("coupled", "independent"),
    "no_decay": words_of("norm", "bias", "embedding", "head", default=["norm", "bias"]),
    "clip": {"kind": one_of("global", "none"), "max_norm": number(1.0)},
    "schedule": {
        "kind": one_of("cosine", "constant", "linear", "wsd", "inv_sqrt"),
        "warmup_steps": integer(0),
        "min_lr": number(0.0),
        "decay_steps": integer(),
    },
}


def resolve(keys, given, where):
    """`given` over the defaults; null means the default. Refuses what it does not know."""
    unknown = given.keys() - keys.keys()
    if unknown:
        raise ValueError(f"{where}.{min(unknown)} is not in the reference")
    resolved = {}
    for name, key in keys.items():
        value = given.get(name)
        if isinstance(key, dict):
            resolved[name] = resolve(key, value or {}, f"{where}.{name}")
        elif value is None:
            resolved[name] = key.default
        else:
            try:
                resolved[name] = key.read(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}.{name} = {value!r}: {error}") from None
    return resolved


def load_yaml(path, overrides=()):
    """The file as a dict, with `key=value` overrides as on Ballast's command line."""
    with open(path, encoding="utf-8") as file:
        run = yaml.safe_load(file)
    if "extends" in run:
        raise ValueError(f"{path} extends another file; pass the resolved configuration")
    return override(run, overrides)


def override(run, overrides):
    run = yaml.safe_load(yaml.safe_dump(run))  # a deep copy
    for text in overrides:
        dotted, value = text.split("=", 1)
        put(run, dotted, yaml.safe_load(value))
    return run


def put(tree, dotted, value):
    *parents, last = dotted.split(".")
    for key in parents:
        tree = tree.setdefault(key, {})
    tree[last] = value


def with_preset(model):
    """The keys of `model:` over those of the preset it names."""
    if model.get("preset") is None:
        return model
    if model["preset"] not in PRESETS:
        raise ValueError(f"model.preset = {model['preset']!r} is not in the reference")
    merged = {}
    for dotted, value in PRESETS[model["preset"]].items():
        put(merged, dotted, value)
    for key, value in model.items():
        merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    return merged


class Config:
    """A run configuration, resolved as far as the mathematics needs it."""

    def __init__(self, run):
        data = run.get("data") or {}
        c = self.model = resolve(MODEL_KEYS, with_preset(run["model"]), "model")
        self.run = run
        self.z_loss = float((run.get("loss") or {}).get("z_loss", 0.0))
        self.n_steps = int((run.get("train") or {}).get("steps", 0))

        self.D, self.n_layers, self.H = c["d_model"], c["n_layers"], c["n_heads"]
        self.K = c["n_kv_heads"] or self.H
        self.N = c["head_dim"] or self.D // self.H
        self.V = c["vocab_size"] or 256
        self.max_seq_len = c["max_seq_len"] or int(data.get("seq_len", 256))
        ffn = c["ffn"]
        self.d_ff = ffn["d_ff"]
        if self.d_ff is None:
            ratio = ffn["ratio"] or (8 / 3 if ffn["gated"] else 4)
            multiple = ffn["multiple_of"]
            self.d_ff = math.ceil(math.ceil(ratio * self.D - 1e-9) / multiple) * multiple
        self.d_rot = round(c["position"]["fraction"] * self.N)
        self.scale = c["attention"]["scale"]
        if self.scale is None:
            self.scale = 1 / math.sqrt(self.N)
        self.residual_scale = c["block"]["residual_scale"]
        if self.residual_scale == "depth":
            self.residual_scale = 1 / math.sqrt(2 * self.n_layers)
        self.embedding_scale = c["embedding"]["scale"]
        if self.embedding_scale == "sqrt_d":
            self.embedding_scale = math.sqrt(self.D)
        self.head_scale = c["head"]["scale"]
        if self.head_scale == "rsqrt_d":
            self.head_scale = 1 / math.sqrt(self.D)
        self.qk_norm_kind = c["attention"]["qk_norm_kind"]
        if self.qk_norm_kind is None:
            is_layernorm = c["norm"]["kind"] == "layernorm" and c["attention"]["qk_norm"] != "l2"
            self.qk_norm_kind = "layernorm" if is_layernorm else "rmsnorm"
        self.refuse_contradictions()

    def refuse_contradictions(self):
        c = self.model
        if self.H % self.K:
            raise ValueError("model.n_kv_heads does not divide model.n_heads")
        if c["position"]["kind"] == "rope" and self.d_rot % 2:
            raise ValueError("model.position.fraction rotates an odd number of channels")
        if c["attention"]["qk_norm"] == "l2" and self.qk_norm_kind == "layernorm":
            raise ValueError("model.attention.qk_norm l2 is no layernorm")
        if c["attention"]["v_norm"] and c["attention"]["qk_norm"] == "none":
            raise ValueError("model.attention.v_norm needs qk_norm")

    @functools.cached_property
    def optim(self):
        return resolve(OPTIM_KEYS, self.run.get("optim") or {}, "optim")

    def is_local(self, i):
        pattern = self.model["attention"]["pattern"]
        return pattern[i % len(pattern)] == "local"

    def in_position_layers(self, i):
        """Whether rope or alibi, if that is the kind, applies to layer i."""
        layers = self.model["position"]["layers"]
        if isinstance(layers, list):
            return i in layers
        return layers == "all" or (layers == "local") == self.is_local(i)

    def has_rope(self, i):
        return self.model["position"]["kind"] == "rope" and self.in_position_layers(i)

    def has_alibi(self, i):
        return self.model["position"]["kind"] == "alibi" and self.in_position_layers(i)

    def has_qk_norm(self, i):
        a = self.model["attention"]
        return a["qk_norm"] != "none" and (a["qk_norm_layers"] == "all" or self.has_rope(i))

    def parameter_shapes(self):
        """Name -> shape of every parameter."""
        c, D, H, K, N = self.model, self.D, self.H, self.K, self.N
        shapes = {"embedding.weight": (self.V, D)}
        if c["position"]["kind"] == "learned":
            shapes["position.weight"] = (self.max_seq_len, D)
        if c["position"]["kind"] == "t5":
            shapes["position.t5_bias"] = (c["position"]["t5_buckets"], H)

        def norm(name):
            kind = c["norm"]["kind"]
            if kind == "none":
                return
            if kind == "dyt":
                shapes[name + ".alpha"] = (1,)
            if kind == "scalenorm":
                shapes[name + ".weight"] = (1,)
            elif c["norm"]["weight"]:
                shapes[name + ".weight"] = (D,)
            if kind in ("layernorm", "dyt") and c["norm"]["bias"]:
                shapes[name + ".bias"] = (D,)

        def head_norm(name, n_heads):
            kind = c["attention"]["qk_norm"]
            shape = {"per_head": (N,), "per_head_separate": (n_heads, N), "full": (n_heads * N,)}
            if kind == "l2":
                return
            if c["norm"]["weight"]:
                shapes[name + ".weight"] = shape[kind]
            if self.qk_norm_kind == "layernorm" and c["norm"]["bias"]:
                shapes[name + ".bias"] = shape[kind]

        def linear(name, n_out, n_in, has_bias):
            shapes[name + ".weight"] = (n_out, n_in)
            if has_bias:
                shapes[name + ".bias"] = (n_out,)

        placement, bias = c["norm"]["placement"], c["bias"]
        is_parallel = c["block"]["topology"] == "parallel"
        has_one_norm = is_parallel and c["block"]["parallel_norms"] == "shared"
        if c["norm"]["embedding"]:
            norm("embedding_norm")
        for i in range(self.n_layers):
            block = f"blocks.{i}."
            if placement in ("pre", "sandwich"):
                norm(block + "attn_norm")
                if not has_one_norm:
                    norm(block + "ffn_norm")
            if placement != "pre":
                norm(block + "attn_post_norm")
                if not (is_parallel and placement == "post"):
                    norm(block + "ffn_post_norm")
            linear(block + "attn.wq", H * N, D, bias["qkv"])
            linear(block + "attn.wk", K * N, D, bias["qkv"])
            linear(block + "attn.wv", K * N, D, bias["qkv"])
            linear(block + "attn.wo", D, H * N, bias["attn_out"])
            if self.has_qk_norm(i):
                head_norm(block + "attn.q_norm", H)
                head_norm(block + "attn.k_norm", K)
                if c["attention"]["v_norm"]:
                    head_norm(block + "attn.v_norm", K)
            if c["attention"]["sink"] == "learned":
                shapes[block + "attn.sink"] = (H,)
            if c["ffn"]["gated"]:
                linear(block + "ffn.w_gate", self.d_ff, D, bias["ffn"])
            linear(block + "ffn.w_up", self.d_ff, D, bias["ffn"])
            linear(block + "ffn.w_down", D, self.d_ff, bias["ffn"])
            if c["block"]["layer_scale"] is not None:
                shapes[block + "attn_scale"] = shapes[block + "ffn_scale"] = (D,)
        if c["norm"]["final"]:
            norm("final_norm")
        if not c["embedding"]["tie"]:
            shapes["head.weight"] = (self.V, D)
        if bias["head"]:
            shapes["head.bias"] = (self.V,)
        return shapes


# ------------------------------------------------------------------------------------------ formulas


def gain(y, weight, unit_offset):
    if weight is None:
        return y
    return y * (1 + weight) if unit_offset else y * weight


def layer_norm(x, weight, bias, eps, unit_offset=False):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    y = gain((x - mean) / torch.sqrt(variance + eps), weight, unit_offset)
    return y if bias is None else y + bias


def rms_norm(x, weight, eps, unit_offset=False):
    return gain(x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps), weight, unit_offset)


def scale_norm(x, weight, eps):
    length = torch.sqrt((x**2).sum(-1, keepdim=True))
    return weight * x / torch.clamp(length, min=eps)


def dyt(x, alpha, weight, bias):
    y = gain(torch.tanh(alpha * x), weight, False)
    return y if bias is None else y + bias


def softplus(x):
    return torch.clamp(x, min=0) + torch.log1p(torch.exp(-x.abs()))


SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def elu(x, alpha):
    return torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0)))


ACTIVATIONS = {
    "relu": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "gelu": lambda x: x * 0.5 * torch.special.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "relu2": lambda x: torch.where(x > 0, x**2, torch.zeros_like(x)),
    "elu": lambda x: elu(x, 1.0),
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "softplus": softplus,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "tanh": torch.tanh,
    "mish": lambda x: x * torch.tanh(softplus(x)),
    "softsign": lambda x: x / (1 + x.abs()),
    "identity": lambda x: x,
}


def softcap(x, cap):
    return cap * torch.tanh(x / cap) if cap else x


def rope(x_BTHN, d_rot, theta, layout):
    """Pairs of the first d_rot channels turn by t * theta^(-2i/d_rot)."""
    T = x_BTHN.shape[1]
    i = torch.arange(d_rot // 2, dtype=torch.float64)
    t = torch.arange(T, dtype=torch.float64)
    angle = t[:, None] * theta ** (-2 * i / d_rot)
    cos = angle.cos().to(x_BTHN.dtype)[None, :, None, :]
    sin = angle.sin().to(x_BTHN.dtype)[None, :, None, :]
    rotated, passed = x_BTHN[..., :d_rot], x_BTHN[..., d_rot:]
    if layout == "half":
        a, b = rotated[..., : d_rot // 2], rotated[..., d_rot // 2 :]
        turned = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
    else:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    return torch.cat([turned, passed], dim=-1)


def sinusoidal(T, D):
    """(T, D): sin on even channels 2i, cos on odd 2i + 1, of t * 10000^(-2i/D). Vaswani et al. 2017."""
    table = torch.empty(T, D, dtype=torch.float64)
    for t in range(T):
        for channel in range(D):
            angle = t / 10000 ** (2 * (channel // 2) / D)
            table[t, channel] = math.cos(angle) if channel % 2 else math.sin(angle)
    return table


def alibi_slopes(H):
    """2^(-8h/H), h = 1..H, when H is a power of 2. Otherwise the paper's rule: the slopes of the next
    lower power P, then every other one of those of 2P. Press et al. 2022."""
    P = 2 ** int(math.log2(H))
    slopes = [2 ** (-8 * h / P) for h in range(1, P + 1)]
    between = [2 ** (-8 * h / (2 * P)) for h in range(1, 2 * P + 1, 2)]
    return torch.tensor(slopes + between[: H - P], dtype=torch.float64)


def t5_bucket(distance, n_buckets, max_distance):
    """Bucket of a key `distance` >= 0 back, for causal attention: one a distance up to half of them,
    the others spaced evenly in the logarithm up to max_distance. In whole numbers, so that no
    boundary depends on the rounding of a logarithm. Raffel et al. 2020."""
    n_exact = n_buckets // 2
    if distance < n_exact:
        return distance
    n_far = n_buckets - n_exact
    step = 0  # the largest with (distance / n_exact)^n_far >= (max_distance / n_exact)^step
    while (
        step < n_far - 1
        and distance**n_far * n_exact ** (step + 1) >= max_distance ** (step + 1) * n_exact**n_far
    ):
        step += 1
    return n_exact + step


def distances(T):
    """(T, T): i - j of query i and key j."""
    t = torch.arange(T)
    return t[:, None] - t[None, :]


def alibi(H, T):
    """(H, T, T): -slope_h * (i - j)."""
    return -alibi_slopes(H)[:, None, None] * distances(T)


def t5_bias(table, T, max_distance):
    """(H, T, T) from one table (n_buckets, H)."""
    bucket = [
        [t5_bucket(max(i - j, 0), table.shape[0], max_distance) for j in range(T)] for i in range(T)
    ]
    return table[torch.tensor(bucket)].permute(2, 0, 1)


def visible(T, window=0, local="window"):
    """(T, T): whether query i sees key j. Window 0: all keys that are not in the future."""
    mask = torch.zeros(T, T, dtype=torch.bool)
    for i in range(T):
        for j in range(i + 1):
            if window == 0:
                mask[i, j] = True
            elif local == "window":
                mask[i, j] = i - j < window
            else:
                mask[i, j] = i // window == j // window
    return mask


def causal_attention(
    q_BTHN, k_BTKN, v_BTKN, scale, mask=None, cap=0.0, bias=None, bias_before_scale=None, sink=None
):
    """softmax(cap(scale * (q k^T + bias_before_scale)) + bias, mask) v with the whole (T, T) matrix;
    head h reads floor(h K / H). The sink (H) is one more term of the softmax's denominator."""
    T, H, K = q_BTHN.shape[1], q_BTHN.shape[2], k_BTKN.shape[2]
    kv_head = [h * K // H for h in range(H)]
    k, v = k_BTKN[:, :, kv_head], v_BTKN[:, :, kv_head]
    logits = torch.einsum("bihn,bjhn->bhij", q_BTHN, k)
    if bias_before_scale is not None:
        logits = logits + bias_before_scale.to(logits.dtype)
    logits = softcap(scale * logits, cap)
    if bias is not None:
        logits = logits + bias.to(logits.dtype)
    logits = logits.masked_fill(~(visible(T) if mask is None else mask), -math.inf)
    top = logits.max(-1, keepdim=True).values.detach()
    if sink is not None:
        top = torch.maximum(top, sink.detach()[:, None, None])
    weights = torch.exp(logits - top)
    total = weights.sum(-1, keepdim=True)
    if sink is not None:
        total = total + torch.exp(sink[:, None, None] - top)
    return torch.einsum("bhij,bjhn->bihn", weights / total, v)


def temperature(T, amount, floor):
    """(T): Llama 4's factor on the queries of layers without rope."""
    steps = torch.tensor([(t + 1) // floor for t in range(T)], dtype=torch.float64)
    return 1 + amount * torch.log1p(steps)


# --------------------------------------------------------------------------------------------- model


def forward(config, params, tokens):
    """Logits (B, T, V) of token ids (B, T)."""
    c = config.model
    B, T = tokens.shape
    dtype = params["embedding.weight"].dtype
    placement, eps = c["norm"]["placement"], c["norm"]["eps"]
    unit_offset = c["norm"]["unit_offset"]

    def norm(name, x):
        weight, bias = params.get(name + ".weight"), params.get(name + ".bias")
        kind = c["norm"]["kind"]
        if kind == "layernorm":
            return layer_norm(x, weight, bias, eps, unit_offset)
        if kind == "rmsnorm":
            return rms_norm(x, weight, eps, unit_offset)
        if kind == "scalenorm":
            return scale_norm(x, weight, eps)
        if kind == "dyt":
            return dyt(x, params[name + ".alpha"], weight, bias)
        return x

    def linear(name, x):
        y = x @ params[name + ".weight"].T
        return y + params[name + ".bias"] if name + ".bias" in params else y

    def head_norm(name, x_BTHN):
        """qk_norm of q, k or v: of each head, or of all heads together when `full`."""
        weight, bias = params.get(name + ".weight"), params.get(name + ".bias")
        x = x_BTHN.flatten(-2) if c["attention"]["qk_norm"] == "full" else x_BTHN
        if config.qk_norm_kind == "layernorm":
            x = layer_norm(x, weight, bias, eps, unit_offset)
        else:
            x = rms_norm(x, weight, eps, unit_offset)
        return x.reshape(x_BTHN.shape)

    def attention(i, x):
        a, p, name = c["attention"], c["position"], f"blocks.{i}.attn."
        q = linear(name + "wq", x).reshape(B, T, config.H, config.N)
        k = linear(name + "wk", x).reshape(B, T, config.K, config.N)
        v = linear(name + "wv", x).reshape(B, T, config.K, config.N)

        def normalised(q, k):
            if not config.has_qk_norm(i):
                return q, k
            return head_norm(name + "q_norm", q), head_norm(name + "k_norm", k)

        def rotated(q, k):
            if not config.has_rope(i):
                return q, k
            is_other = config.is_local(i) and p["theta_local"] is not None
            theta = p["theta_local"] if is_other else p["theta"]
            return tuple(rope(z, config.d_rot, theta, p["layout"]) for z in (q, k))

        q, k = rotated(*normalised(q, k)) if not a["qk_norm_after_rope"] else normalised(*rotated(q, k))
        if config.has_qk_norm(i) and a["v_norm"]:
            v = head_norm(name + "v_norm", v)
        if not config.has_rope(i):
            factors = temperature(T, a["nope_temperature"], a["nope_temperature_floor"])
            q = q * factors.to(dtype)[None, :, None, None]

        bias = bias_before_scale = None
        if p["kind"] == "t5":
            bias = t5_bias(params["position.t5_bias"], T, p["t5_max_distance"])
        elif config.has_alibi(i) and p["alibi_scaled"]:
            bias_before_scale = alibi(config.H, T)
        elif config.has_alibi(i):
            bias = alibi(config.H, T)
        sink = {
            "none": None,
            "zero": torch.zeros(config.H, dtype=dtype),
            "learned": params.get(name + "sink"),
        }[a["sink"]]
        mask = visible(T, a["window"] if config.is_local(i) else 0, a["local"])
        o = causal_attention(
            q, k, v, config.scale, mask, a["softcap"], bias, bias_before_scale, sink
        )
        return linear(name + "wo", o.reshape(B, T, config.H * config.N))

    def ffn(i, x):
        name, act = f"blocks.{i}.ffn.", ACTIVATIONS[c["ffn"]["activation"]]
        up = linear(name + "w_up", x)
        hidden = act(linear(name + "w_gate", x)) * up if c["ffn"]["gated"] else act(up)
        return linear(name + "w_down", hidden)

    def before(i, which, x):
        return norm(f"blocks.{i}.{which}_norm", x) if placement in ("pre", "sandwich") else x

    def after(i, which, y):
        """The branch's output as it is added: normalised, then scaled."""
        if placement in ("sandwich", "output"):
            y = norm(f"blocks.{i}.{which}_post_norm", y)
        if c["block"]["layer_scale"] is not None:
            y = y * params[f"blocks.{i}.{which}_scale"]
        return config.residual_scale * y

    def serial(i, x):
        for which, f in (("attn", attention), ("ffn", ffn)):
            x = x + after(i, which, f(i, before(i, which, x)))
            if placement == "post":
                x = norm(f"blocks.{i}.{which}_post_norm", x)
        return x

    def parallel(i, x):
        for_attn = before(i, "attn", x)
        is_shared = c["block"]["parallel_norms"] == "shared"
        for_ffn = for_attn if is_shared else before(i, "ffn", x)
        x = x + after(i, "attn", attention(i, for_attn)) + after(i, "ffn", ffn(i, for_ffn))
        return norm(f"blocks.{i}.attn_post_norm", x) if placement == "post" else x

    x = config.embedding_scale * params["embedding.weight"][tokens]
    if c["position"]["kind"] == "learned":
        x = x + params["position.weight"][:T]
    if c["position"]["kind"] == "sinusoidal":
        x = x + sinusoidal(T, config.D).to(dtype)
    if c["norm"]["embedding"]:
        x = norm("embedding_norm", x)
    for i in range(config.n_layers):
        x = (parallel if c["block"]["topology"] == "parallel" else serial)(i, x)
    if c["norm"]["final"]:
        x = norm("final_norm", x)
    logits = x @ params["embedding.weight" if c["embedding"]["tie"] else "head.weight"].T
    if c["bias"]["head"]:
        logits = logits + params["head.bias"]
    return softcap(config.head_scale * logits, c["head"]["softcap"])


def loss_terms(config, logits, targets):
    """(ce, z): mean of lse - logit of the target, and z_loss * mean(lse^2)."""
    top = logits.max(-1, keepdim=True).values.detach()
    lse = top[..., 0] + torch.log(torch.exp(logits - top).sum(-1))
    of_target = torch.gather(logits, -1, targets[..., None])[..., 0]
    return (lse - of_target).mean(), config.z_loss * (lse**2).mean()


def evaluate(config, params, tokens):
    """One batch of ids (B, T+1): logits, loss terms, and the gradient of the total by parameter."""
    params = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    inputs, targets = tokens[:, :-1].long(), tokens[:, 1:].long()
    logits = forward(config, params, inputs)
    ce, z = loss_terms(config, logits, targets)
    (ce + z).backward()
    grads = {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in params.items()
    }
    return {
        "logits": logits.detach(),
        "loss.ce": ce.item(),
        "loss.z": z.item(),
        "loss.total": (ce + z).item(),
        "grads": grads,
    }


# ------------------------------------------------------------------------------------------ training


def schedule_lr(optim, n_steps, s):
    """The learning rate of update s = 0, 1, …"""
    lr, schedule = optim["lr"], optim["schedule"]
    kind, warmup, min_lr = schedule["kind"], schedule["warmup_steps"], schedule["min_lr"]
    if s < warmup:
        return lr * (s + 1) / warmup
    if kind == "constant":
        return lr
    if kind == "inv_sqrt":
        return lr * math.sqrt(max(warmup, 1) / (s + 1))
    if kind == "wsd":
        decay_steps = schedule["decay_steps"] or max(1, n_steps // 5)
        begin = max(warmup, n_steps - decay_steps)
        u = min(1, max(0, s - begin) / decay_steps)
    else:
        decay_steps = schedule["decay_steps"] or max(1, n_steps - warmup)
        u = min(1, (s - warmup) / decay_steps)
    if kind == "cosine":
        return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * u))
    return lr + (min_lr - lr) * u  # linear, wsd


def decays(name, no_decay):
    """Whether weight decay reaches the parameter."""
    if name.endswith((".bias", ".sink", ".t5_bias")):
        group = "bias"
    elif name.endswith(("norm.weight", ".alpha", ".attn_scale", ".ffn_scale")):
        group = "norm"
    elif name in ("embedding.weight", "position.weight"):
        group = "embedding"
    elif name == "head.weight":
        group = "head"
    else:
        group = "linear"
    return group not in no_decay


class Optimizer:
    """The four kinds, written out. `params` are changed in place.

    Decay is decoupled in adamw and lion, in two forms: `coupled` takes lr_t * wd * w away, `independent`
    (lr_t / lr) * wd * w. In adam and sgd wd * w is added to the gradient (L2), after clipping."""

    def __init__(self, optim, params):
        self.optim, self.params, self.n_updates = optim, params, 0
        self.m = {name: torch.zeros_like(p) for name, p in params.items()}
        self.v = {name: torch.zeros_like(p) for name, p in params.items()}

    def step(self, grads, lr):
        o = self.optim
        self.n_updates += 1
        for name, w in self.params.items():
            g = grads[name]
            decay = o["weight_decay"] if decays(name, o["no_decay"]) else 0.0
            if o["kind"] in ("adam", "sgd"):
                update = lr * self.direction(name, g + decay * w)
            else:
                rate = lr if o["decay"] == "coupled" else lr / o["lr"]
                update = lr * self.direction(name, g) + rate * decay * w
            w.sub_(update)

    def direction(self, name, g):
        beta1, beta2 = self.optim["betas"]
        m, v = self.m[name], self.v[name]
        if self.optim["kind"] == "sgd":
            m.copy_(beta1 * m + g)
            return m
        if self.optim["kind"] == "lion":  # Chen et al. 2023, algorithm 2
            direction = torch.sign(beta1 * m + (1 - beta1) * g)
            m.copy_(beta2 * m + (1 - beta2) * g)
            return direction
        m.copy_(beta1 * m + (1 - beta1) * g)
        v.copy_(beta2 * v + (1 - beta2) * g * g)
        m_hat = m / (1 - beta1**self.n_updates)
        v_hat = v / (1 - beta2**self.n_updates)
        return m_hat / (torch.sqrt(v_hat) + self.optim["eps"])


def global_norm(grads):
    return math.sqrt(sum((g.double() ** 2).sum().item() for g in grads.values()))


def clip_scale(optim, norm):
    """As torch.nn.utils.clip_grad_norm_, with its 1e-6."""
    if optim["clip"]["kind"] == "none":
        return 1.0
    return min(1.0, optim["clip"]["max_norm"] / (norm + 1e-6))


def train(config, params, batches):
    """One update a batch of ids (steps, B, T+1). Lists by step: loss, grad_norm, lr; and weights."""
    params = {name: p.detach().clone() for name, p in params.items()}
    optimizer = Optimizer(config.optim, params)
    record = {"loss": [], "ce": [], "grad_norm": [], "lr": []}
    for s, tokens in enumerate(batches):
        result = evaluate(config, params, tokens)
        norm = global_norm(result["grads"])
        factor = clip_scale(config.optim, norm)
        lr = schedule_lr(config.optim, config.n_steps, s)
        optimizer.step({name: factor * g for name, g in result["grads"].items()}, lr)
        record["loss"].append(result["loss.total"])
        record["ce"].append(result["loss.ce"])
        record["grad_norm"].append(norm)
        record["lr"].append(lr)
    record["params"] = params
    return record


# ---------------------------------------------------------------------------------------- comparison

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
LOGIT_TOLERANCE = 1e-5


def gradient_errors(actual, expected):
    """Name -> largest difference over the larger of the gradient's own largest entry and 1 % of the
    largest entry of all. A key projection's bias has gradient 0 (softmax does not see a shift of all
    its logits); the second term is what its rounding noise is measured against."""
    largest = {name: g.abs().max().item() for name, g in expected.items()}
    floor = 0.01 * max(largest.values())
    return {
        name: (actual[name].double() - g.double()).abs().max().item() / max(largest[name], floor)
        for name, g in expected.items()
    }
