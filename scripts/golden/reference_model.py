"""What Ballast computes, written a second time in plain PyTorch: explicit formulas, explicit (T, T)
attention, no fused function. Reads the same YAML keys and uses the same parameter names.

A key or value that this file does not know is an error: a comparison never passes because both sides
were not asked the same thing. Dropout is left out (comparisons run without it).

Sizes: B batch, T time, D d_model, H heads, K key/value heads, N channels of a head, V vocabulary.
"""

import math

import torch
import yaml

# The served keys of `model:` with their defaults. A type stands for "null, or a value of this type".
MODEL_DEFAULTS = {
    "preset": None,
    "d_model": int,
    "n_layers": int,
    "n_heads": int,
    "n_kv_heads": int,
    "head_dim": int,
    "vocab_size": int,
    "max_seq_len": int,
    "norm": {
        "kind": ("rmsnorm", "layernorm", "none"),
        "placement": ("pre",),
        "eps": 1e-5,
        "weight": True,
        "bias": False,
        "unit_offset": False,
        "final": True,
        "embedding": False,
    },
    "block": {"topology": ("serial",)},
    "ffn": {
        "activation": ("silu", "relu", "gelu", "gelu_tanh"),
        "gated": True,
        "d_ff": int,
        "ratio": float,
        "multiple_of": 8,
    },
    "position": {
        "kind": ("rope", "none", "learned"),
        "theta": 10000.0,
        "fraction": 1.0,
        "layout": ("half", "interleaved"),
    },
    "attention": {"scale": float},
    "bias": {"qkv": False, "attn_out": False, "ffn": False, "head": False},
    "embedding": {"tie": False},
    "dropout": {"embedding": 0.0, "attention": 0.0, "residual": 0.0},
    "init": {
        "scheme": ("normal", "fan_in", "xavier", "small"),
        "std": 0.02,
        "depth_scale": True,
        "embedding_std": float,
        "trunc": float,
    },
}

# Keys whose variants are not served yet, with the value that means "off".
MODEL_OFF = {
    "block.parallel_norms": "shared",
    "block.residual_scale": 1.0,
    "block.layer_scale": None,
    "position.theta_local": None,
    "position.layers": "all",
    "position.alibi_scaled": False,
    "position.t5_buckets": 32,
    "position.t5_max_distance": 128,
    "attention.qk_norm": "none",
    "attention.qk_norm_kind": None,
    "attention.qk_norm_after_rope": False,
    "attention.qk_norm_layers": "all",
    "attention.v_norm": False,
    "attention.softcap": 0.0,
    "attention.window": 0,
    "attention.local": "window",
    "attention.pattern": ["full"],
    "attention.nope_temperature": 0.0,
    "attention.sink": "none",
    "embedding.scale": 1.0,
    "head.softcap": 0.0,
    "head.scale": 1.0,
}

OPTIM_DEFAULTS = {
    "kind": ("adamw",),
    "lr": 3e-4,
    "betas": [0.9, 0.95],
    "eps": 1e-8,
    "weight_decay": 0.1,
    "decay": ("coupled", "independent"),
    "no_decay": ["norm", "bias"],
    "clip": {"kind": ("global", "none"), "max_norm": 1.0},
    "schedule": {
        "kind": ("cosine", "constant", "linear", "wsd", "inv_sqrt"),
        "warmup_steps": 0,
        "min_lr": 0.0,
        "decay_steps": int,
    },
}


def coerce(kind, value, where):
    """Reads a scalar as the kind asks; PyYAML takes 1e-3 for a string."""
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{where} = {value!r}; expected true or false")
        return value
    if kind is int and (isinstance(value, bool) or int(value) != float(value)):
        raise ValueError(f"{where} = {value!r}; expected an integer")
    return kind(value)


def resolve(defaults, given, where, off=None):
    """`given` over `defaults`; refuses what it does not know."""
    resolved = {}
    for key, default in defaults.items():
        value = given.get(key)
        name = f"{where}.{key}"
        if isinstance(default, dict):
            resolved[key] = resolve(default, value or {}, name, off)
        elif isinstance(default, tuple):
            resolved[key] = default[0] if key not in given else value
            if resolved[key] not in default:
                raise ValueError(f"{name} = {value!r} is not in the reference; it has {default}")
        elif isinstance(default, type):
            resolved[key] = None if value is None else coerce(default, value, name)
        elif isinstance(default, list):
            resolved[key] = default if value is None else value
        elif default is None:
            if value is not None:
                raise ValueError(f"{name} = {value!r} is not in the reference")
            resolved[key] = None
        else:
            resolved[key] = default if value is None else coerce(type(default), value, name)
    for key in given.keys() - defaults.keys():
        name = f"{where}.{key}".removeprefix("model.")
        if isinstance(given[key], dict) and any(o.startswith(name + ".") for o in off or {}):
            resolve({}, given[key], f"{where}.{key}", off)
        elif name not in (off or {}) or given[key] != off[name]:
            raise ValueError(f"{where}.{key} = {given[key]!r} is not in the reference")
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
        *parents, last = dotted.split(".")
        section = run
        for key in parents:
            section = section.setdefault(key, {})
        section[last] = yaml.safe_load(value)
    return run


class Config:
    """A run configuration, resolved as far as the mathematics needs it."""

    def __init__(self, run):
        data = run.get("data") or {}
        c = resolve(MODEL_DEFAULTS, run["model"], "model", MODEL_OFF)
        self.model = c
        self.optim = resolve(OPTIM_DEFAULTS, run.get("optim") or {}, "optim")
        self.optim["betas"] = [float(beta) for beta in self.optim["betas"]]
        if c["norm"]["kind"] == "rmsnorm" and c["norm"]["bias"]:
            raise ValueError("model.norm.bias with rmsnorm is not in the reference")
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

    def parameter_shapes(self):
        """Name -> shape of every parameter."""
        c, D = self.model, self.D
        shapes = {"embedding.weight": (self.V, D)}
        if c["position"]["kind"] == "learned":
            shapes["position.weight"] = (self.max_seq_len, D)

        def norm(name):
            if c["norm"]["kind"] == "none":
                return
            if c["norm"]["weight"]:
                shapes[name + ".weight"] = (D,)
            if c["norm"]["bias"]:
                shapes[name + ".bias"] = (D,)

        def linear(name, n_out, n_in, has_bias):
            shapes[name + ".weight"] = (n_out, n_in)
            if has_bias:
                shapes[name + ".bias"] = (n_out,)

        if c["norm"]["embedding"]:
            norm("embedding_norm")
        for i in range(self.n_layers):
            block, bias = f"blocks.{i}.", c["bias"]
            norm(block + "attn_norm")
            linear(block + "attn.wq", self.H * self.N, D, bias["qkv"])
            linear(block + "attn.wk", self.K * self.N, D, bias["qkv"])
            linear(block + "attn.wv", self.K * self.N, D, bias["qkv"])
            linear(block + "attn.wo", D, self.H * self.N, bias["attn_out"])
            norm(block + "ffn_norm")
            if c["ffn"]["gated"]:
                linear(block + "ffn.w_gate", self.d_ff, D, bias["ffn"])
            linear(block + "ffn.w_up", self.d_ff, D, bias["ffn"])
            linear(block + "ffn.w_down", D, self.d_ff, bias["ffn"])
        if c["norm"]["final"]:
            norm("final_norm")
        if not c["embedding"]["tie"]:
            shapes["head.weight"] = (self.V, D)
        if c["bias"]["head"]:
            shapes["head.bias"] = (self.V,)
        return shapes


# ------------------------------------------------------------------------------------------ formulas


def layer_norm(x, weight, bias, eps, unit_offset=False):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + eps)
    if weight is not None:
        y = y * (1 + weight if unit_offset else weight)
    return y if bias is None else y + bias


def rms_norm(x, weight, eps, unit_offset=False):
    y = x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps)
    if weight is not None:
        y = y * (1 + weight if unit_offset else weight)
    return y


def activation(kind, x):
    if kind == "relu":
        return torch.where(x > 0, x, torch.zeros_like(x))
    if kind == "gelu":
        return x * 0.5 * torch.special.erfc(-x / math.sqrt(2))
    if kind == "gelu_tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if kind == "silu":
        return x / (1 + torch.exp(-x))
    raise ValueError(kind)


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


def causal_attention(q_BTHN, k_BTKN, v_BTKN, scale):
    """softmax(scale * q k^T + mask) v with the whole (T, T) matrix; head h reads floor(h K / H)."""
    T, H, K = q_BTHN.shape[1], q_BTHN.shape[2], k_BTKN.shape[2]
    kv_head = [h * K // H for h in range(H)]
    k, v = k_BTKN[:, :, kv_head], v_BTKN[:, :, kv_head]
    logits = scale * torch.einsum("bihn,bjhn->bhij", q_BTHN, k)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    logits = logits.masked_fill(future, -math.inf)
    weights = torch.exp(logits - logits.max(-1, keepdim=True).values)
    probabilities = weights / weights.sum(-1, keepdim=True)
    return torch.einsum("bhij,bjhn->bihn", probabilities, v)


# --------------------------------------------------------------------------------------------- model


def forward(config, params, tokens):
    """Logits (B, T, V) of token ids (B, T)."""
    c = config.model
    B, T = tokens.shape

    def norm(name, x):
        weight, bias = params.get(name + ".weight"), params.get(name + ".bias")
        eps, unit_offset = c["norm"]["eps"], c["norm"]["unit_offset"]
        if c["norm"]["kind"] == "layernorm":
            return layer_norm(x, weight, bias, eps, unit_offset)
        if c["norm"]["kind"] == "rmsnorm":
            return rms_norm(x, weight, eps, unit_offset)
        return x

    def linear(name, x):
        y = x @ params[name + ".weight"].T
        return y + params[name + ".bias"] if name + ".bias" in params else y

    def attention(block, x):
        q = linear(block + "attn.wq", x).reshape(B, T, config.H, config.N)
        k = linear(block + "attn.wk", x).reshape(B, T, config.K, config.N)
        v = linear(block + "attn.wv", x).reshape(B, T, config.K, config.N)
        if c["position"]["kind"] == "rope":
            q = rope(q, config.d_rot, c["position"]["theta"], c["position"]["layout"])
            k = rope(k, config.d_rot, c["position"]["theta"], c["position"]["layout"])
        o = causal_attention(q, k, v, config.scale)
        return linear(block + "attn.wo", o.reshape(B, T, config.H * config.N))

    def ffn(block, x):
        up = linear(block + "ffn.w_up", x)
        if c["ffn"]["gated"]:
            hidden = activation(c["ffn"]["activation"], linear(block + "ffn.w_gate", x)) * up
        else:
            hidden = activation(c["ffn"]["activation"], up)
        return linear(block + "ffn.w_down", hidden)

    x = params["embedding.weight"][tokens]
    if c["position"]["kind"] == "learned":
        x = x + params["position.weight"][:T]
    if c["norm"]["embedding"]:
        x = norm("embedding_norm", x)
    for i in range(config.n_layers):
        block = f"blocks.{i}."
        x = x + attention(block, norm(block + "attn_norm", x))
        x = x + ffn(block, norm(block + "ffn_norm", x))
    if c["norm"]["final"]:
        x = norm("final_norm", x)
    head = params["embedding.weight" if c["embedding"]["tie"] else "head.weight"]
    logits = x @ head.T
    return logits + params["head.bias"] if c["bias"]["head"] else logits


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
    if name.endswith(".bias"):
        group = "bias"
    elif name.endswith("norm.weight"):
        group = "norm"
    elif name in ("embedding.weight", "position.weight"):
        group = "embedding"
    elif name == "head.weight":
        group = "head"
    else:
        group = "linear"
    return group not in no_decay


class AdamW:
    """Both decay forms, written out. `params` are changed in place."""

    def __init__(self, optim, params):
        self.optim, self.params, self.n_updates = optim, params, 0
        self.m = {name: torch.zeros_like(p) for name, p in params.items()}
        self.v = {name: torch.zeros_like(p) for name, p in params.items()}

    def step(self, grads, lr):
        o = self.optim
        beta1, beta2 = o["betas"]
        self.n_updates += 1
        for name, w in self.params.items():
            g, m, v = grads[name], self.m[name], self.v[name]
            m.copy_(beta1 * m + (1 - beta1) * g)
            v.copy_(beta2 * v + (1 - beta2) * g * g)
            m_hat = m / (1 - beta1**self.n_updates)
            v_hat = v / (1 - beta2**self.n_updates)
            update = lr * m_hat / (torch.sqrt(v_hat) + o["eps"])
            if decays(name, o["no_decay"]):
                rate = lr if o["decay"] == "coupled" else lr / o["lr"]
                update = update + rate * o["weight_decay"] * w
            w.sub_(update)


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
    optimizer = AdamW(config.optim, params)
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
