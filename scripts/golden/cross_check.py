"""The reference against PyTorch's own functions, in float64: a shared misreading of a formula would
otherwise pass on both sides. Runs before fixtures are written, and alone: python3 cross_check.py"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

import reference_model as reference


def same(actual, expected, what, tolerance=1e-12):
    error = (actual - expected).abs().max().item() / max(1.0, expected.abs().max().item())
    if not error <= tolerance:
        raise SystemExit(f"{what}: the reference differs from PyTorch's by {error:.2e}")


def random(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def check_norms(rng):
    x, w, b = 3 * random(rng, 5, 12), random(rng, 12), random(rng, 12)
    same(reference.layer_norm(x, w, b, 0.1), F.layer_norm(x, (12,), w, b, 0.1), "layer_norm")
    same(reference.layer_norm(x, w, b, 0.1, True), F.layer_norm(x, (12,), 1 + w, b, 0.1), "1 + w")
    same(reference.rms_norm(x, w, 0.1), F.rms_norm(x, (12,), w, 0.1), "rms_norm")
    same(reference.rms_norm(x, w, 0.1, True), F.rms_norm(x, (12,), 1 + w, 0.1), "rms_norm 1 + w")
    eps = x.norm(dim=-1).median().item()  # some rows are shorter
    same(reference.scale_norm(x, w[:1], eps), w[0] * F.normalize(x, dim=-1, eps=eps), "scale_norm")
    same(reference.dyt(x, w[:1], w, b), torch.addcmul(b, torch.tanh(w[0] * x), w), "dyt")


def check_activations(rng):
    x = 3 * random(rng, 5, 12)
    peers = {
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "relu2": lambda x: F.relu(x).square(),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "identity": torch.nn.Identity(),
    }
    for kind in reference.ACTIVATION_KINDS:
        peer = peers.get(kind) or getattr(F, kind)
        same(reference.ACTIVATIONS[kind](x), peer(x), kind)


def check_rope(rng):
    # A rotation is a product of complex numbers: pair (a, b) is a + ib, turned by exp(i angle).
    q = random(rng, 2, 7, 6, 4)
    for layout in ("half", "interleaved"):
        turned = reference.rope(q, 4, 100.0, layout)
        a, b = (q[..., :2], q[..., 2:]) if layout == "half" else (q[..., 0::2], q[..., 1::2])
        angle = torch.arange(7)[:, None] * torch.tensor([1.0, 0.1], dtype=torch.float64)
        z = torch.complex(a, b) * torch.polar(torch.ones_like(angle), angle)[None, :, None, :]
        parts = [z.real, z.imag]
        expected = torch.cat(parts, -1) if layout == "half" else torch.stack(parts, -1).flatten(-2)
        same(turned, expected, f"rope {layout}")


def check_positions():
    frequency = torch.logspace(0, -4, 7, dtype=torch.float64)[:6]  # 10000^(-2i/12)
    angle = torch.outer(torch.arange(9.0, dtype=torch.float64), frequency)
    wave = torch.polar(torch.ones_like(angle), angle)
    expected = torch.stack([wave.imag, wave.real], -1).flatten(-2)
    same(reference.sinusoidal(9, 12), expected, "sinusoidal")

    def slopes(*exponents):
        return torch.tensor([2.0**-e for e in exponents], dtype=torch.float64)

    # The paper's 8 heads, and what its code gives for 12: those of 8, then every other one of 16.
    same(reference.alibi_slopes(8), slopes(1, 2, 3, 4, 5, 6, 7, 8), "alibi slopes")
    of_12 = slopes(1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5)
    same(reference.alibi_slopes(12), of_12, "alibi slopes of 12 heads")

    # T5's own expression; 1e-9 lifts the exact powers that a logarithm may round below the boundary.
    for n_buckets, max_distance in ((32, 128), (8, 16), (7, 20), (5, 100)):
        n_exact = n_buckets // 2
        for distance in range(300):
            bucket = distance
            if distance >= n_exact:
                share = math.log(distance / n_exact) / math.log(max_distance / n_exact)
                bucket = n_exact + math.floor(share * (n_buckets - n_exact) + 1e-9)
            ours = reference.t5_bucket(distance, n_buckets, max_distance)
            if ours != min(bucket, n_buckets - 1):
                raise SystemExit(f"t5: distance {distance} is in bucket {ours} of {n_buckets}")


def by_distance(values):
    """(H, T) -> (H, T, T): entry (i, j) is values[i - j], and 0 for j > i."""
    T = values.shape[-1]
    return F.pad(values.flip(-1), (0, T - 1)).unfold(-1, T, 1).flip(1)


def check_attention(rng):
    T, H, scale = 9, 6, 0.3
    q, k, v = (random(rng, 2, T, n, 4) for n in (H, 3, 3))
    heads_first = [t.transpose(1, 2) for t in (q, k, v)]

    def sdpa(heads=heads_first, **options):
        o = F.scaled_dot_product_attention(*heads, scale=scale, enable_gqa=True, **options)
        return o.transpose(1, 2)

    same(reference.causal_attention(q, k, v, scale), sdpa(is_causal=True), "causal_attention")

    # Local masks as products of triangles and of blocks.
    ones = torch.ones(T, T, dtype=torch.bool)
    window = ones.tril().logical_and(ones.triu(-2))
    blocks = torch.block_diag(*[torch.ones(4, 4)] * 3)[:T, :T].bool()
    chunk = ones.tril().logical_and(blocks)
    same(reference.visible(T, 3, "window").double(), window.double(), "window")
    same(reference.visible(T, 4, "chunk").double(), chunk.double(), "chunk")

    # Biases as additive masks. Falcon-RW's is added before the scale, so the scale is on it too.
    alibi = by_distance(-torch.outer(reference.alibi_slopes(H), torch.arange(T).double()))
    for mask in (window, chunk):
        ours = reference.causal_attention(q, k, v, scale, mask, bias=reference.alibi(H, T))
        same(ours, sdpa(attn_mask=alibi.masked_fill(~mask, -math.inf)), "alibi in local layers")
    ours = reference.causal_attention(q, k, v, scale, bias_before_scale=reference.alibi(H, T))
    scaled = (scale * alibi).masked_fill(~ones.tril(), -math.inf)
    same(ours, sdpa(attn_mask=scaled), "scaled alibi")
    table = random(rng, 8, H)
    near = table[[reference.t5_bucket(d, 8, 16) for d in range(T)]].T
    ours = reference.causal_attention(q, k, v, scale, bias=reference.t5_bias(table, T, 16))
    t5 = by_distance(near).masked_fill(~ones.tril(), -math.inf)
    same(ours, sdpa(attn_mask=t5), "t5 bias")

    # A sink is one more key of length 0 with its own bias and a value of 0.
    sink = random(rng, H)
    wider = [heads_first[0]] + [F.pad(t, (0, 0, 0, 1)) for t in heads_first[1:]]
    mask = torch.zeros(H, T, T, dtype=torch.float64).masked_fill(~window, -math.inf)
    mask = torch.cat([mask, sink[:, None, None].expand(H, T, 1)], -1)
    ours = reference.causal_attention(q, k, v, scale, window, sink=sink)
    same(ours, sdpa(wider, attn_mask=mask), "sink")

    def score_mod(score, b, h, i, j):
        capped = 0.7 * torch.tanh(score / 0.7) - slopes[h] * (i - j)
        return torch.where((i >= j) & (i // 4 == j // 4), capped, -math.inf)

    slopes = reference.alibi_slopes(H)
    with warnings.catch_warnings(action="ignore"):  # that it is not compiled
        flex = flex_attention(*heads_first, score_mod=score_mod, scale=scale, enable_gqa=True)
    ours = reference.causal_attention(q, k, v, scale, chunk, 0.7, reference.alibi(H, T))
    same(ours, flex.transpose(1, 2), "softcap, alibi and chunk")


def model_of(rng, **model):
    """A configuration and random parameters for it."""
    sizes = {"d_model": 12, "n_layers": 2, "n_heads": 3, "vocab_size": 11}
    config = reference.Config({"model": sizes | model})
    shapes = config.parameter_shapes()
    return config, {name: 0.5 * random(rng, *shape) for name, shape in shapes.items()}


def check_blocks(rng):
    """Pre- and post-norm models against torch.nn.TransformerEncoderLayer under a causal mask."""
    tokens = torch.randint(11, (2, 7), generator=rng)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    for placement in ("pre", "post"):
        config, params = model_of(
            rng,
            norm={"kind": "layernorm", "bias": True, "placement": placement, "final": False},
            ffn={"activation": "gelu", "gated": False, "d_ff": 20},
            position={"kind": "none"},
            bias={"qkv": True, "attn_out": True, "ffn": True},
        )
        x = params["embedding.weight"][tokens]
        for i in range(2):
            layer = torch.nn.TransformerEncoderLayer(
                12, 3, 20, 0.0, F.gelu, batch_first=True, norm_first=placement == "pre"
            ).double()
            of = {name.removeprefix(f"blocks.{i}."): p for name, p in params.items()}
            norm = "norm" if placement == "pre" else "post_norm"
            state = {}
            for kind in ("weight", "bias"):
                qkv = [of[f"attn.w{z}.{kind}"] for z in "qkv"]
                state[f"self_attn.in_proj_{kind}"] = torch.cat(qkv)
                state[f"self_attn.out_proj.{kind}"] = of[f"attn.wo.{kind}"]
                state[f"linear1.{kind}"] = of[f"ffn.w_up.{kind}"]
                state[f"linear2.{kind}"] = of[f"ffn.w_down.{kind}"]
                state[f"norm1.{kind}"] = of[f"attn_{norm}.{kind}"]
                state[f"norm2.{kind}"] = of[f"ffn_{norm}.{kind}"]
            layer.load_state_dict(state)
            x = layer(x, src_mask=mask, is_causal=True)
        logits = reference.forward(config, params, tokens)
        same(logits, F.linear(x, params["head.weight"]).detach(), f"{placement}-norm blocks")


def check_qk_norm(rng):
    """LayerNorm of each head with gains of its own is a group norm of the projection."""
    x, w, b = random(rng, 10, 12), random(rng, 3, 4), random(rng, 3, 4)
    ours = reference.layer_norm(x.reshape(10, 3, 4), w, b, 0.1).flatten(1)
    same(ours, F.group_norm(x, 3, w.flatten(), b.flatten(), 0.1), "qk_norm per_head_separate")
    l2 = reference.rms_norm(x.reshape(10, 3, 4), None, 0.0).flatten(1)
    same(l2, 2 * F.normalize(x.reshape(10, 3, 4), dim=-1).flatten(1), "qk_norm l2")


def check_loss(rng):
    run = {"model": {"d_model": 4, "n_layers": 1, "n_heads": 1}, "loss": {"z_loss": 0.01}}
    logits = torch.randn(2, 3, 11, generator=rng, dtype=torch.float64) * 4
    targets = torch.randint(11, (2, 3), generator=rng)
    ce, z = reference.loss_terms(reference.Config(run), logits, targets)
    same(ce, F.cross_entropy(logits.flatten(0, 1), targets.flatten()), "cross-entropy")
    same(z, 0.01 * (logits.logsumexp(-1) ** 2).mean(), "z-loss")


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.9, 0.95), eps=1e-4),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.9, 0.95), eps=1e-4),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
}


def check_optimizer(rng, kind):
    optim = {"kind": kind, "lr": 0.02, "betas": [0.9, 0.95], "eps": 1e-4, "weight_decay": 0.3}
    optim |= {"decay": "coupled", "no_decay": ["bias"], "clip": {"kind": "global", "max_norm": 5.0}}
    ours = {name: random(rng, n, 5) for name, n in (("head.weight", 3), ("head.bias", 2))}
    theirs = {name: torch.nn.Parameter(p.clone()) for name, p in ours.items()}
    groups = [
        {"params": [theirs["head.weight"]], "weight_decay": 0.3},
        {"params": [theirs["head.bias"]], "weight_decay": 0.0},
    ]
    peer = OPTIMIZERS[kind](groups)
    optimizer = reference.Optimizer(optim, ours)
    for s in range(10):
        grads = {name: (s + 1) * random(rng, *p.shape) for name, p in ours.items()}
        lr = 0.02 * (s + 1) / 10
        for name, p in theirs.items():
            p.grad = grads[name].clone()
        norm = torch.nn.utils.clip_grad_norm_(theirs.values(), 5.0)
        for group in peer.param_groups:
            group["lr"] = lr
        peer.step()
        same(norm, torch.tensor(reference.global_norm(grads), dtype=norm.dtype), "gradient norm")
        factor = reference.clip_scale(optim, reference.global_norm(grads))
        optimizer.step({name: factor * g for name, g in grads.items()}, lr)
    for name, p in ours.items():
        same(p, theirs[name].detach(), f"{kind} {name}")


def check_lion():
    """PyTorch has none. Two updates by hand: signs of 0.9 m + 0.1 g, m from 0.5, decay decoupled."""
    optim = {"kind": "lion", "lr": 0.1, "betas": [0.9, 0.5], "weight_decay": 0.2, "no_decay": []}
    for decay, second in (("coupled", 0.05), ("independent", 0.5)):
        w = {"head.weight": torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)}
        lion = reference.Optimizer(optim | {"decay": decay}, w)
        g = torch.tensor([[4.0, -1.0, 0.0]], dtype=torch.float64)
        lion.step({"head.weight": g}, 0.1)
        rate = 0.1 if decay == "coupled" else 1.0
        first = [1 - 0.1 - rate * 0.2, 2 + 0.1 - rate * 0.4, 3 - rate * 0.6]
        same(w["head.weight"][0], torch.tensor(first, dtype=torch.float64), "lion")
        # m = (2, -0.5, 0); 0.9 m + 0.1 g = (0.8, 0.15, -0.1)
        lion.step({"head.weight": torch.tensor([[-10.0, 6.0, -1.0]], dtype=torch.float64)}, 0.05)
        signs = (1, 1, -1)
        then = [x - 0.05 * sign - second * 0.2 * x for x, sign in zip(first, signs)]
        same(w["head.weight"][0], torch.tensor(then, dtype=torch.float64), f"lion, {decay}")


def check_schedules():
    schedule = {"kind": "cosine", "warmup_steps": 4, "min_lr": 0.1, "decay_steps": None}
    optim = {"lr": 1.0, "schedule": schedule}
    weight = torch.nn.Parameter(torch.zeros(1))
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([weight], lr=1.0), T_max=16, eta_min=0.1
    )
    for s in range(4):
        assert reference.schedule_lr(optim, 20, s) == (s + 1) / 4
    for s in range(4, 20):
        assert math.isclose(reference.schedule_lr(optim, 20, s), peer.get_last_lr()[0], abs_tol=1e-12)
        peer.optimizer.step()
        peer.step()


def cross_check():
    rng = torch.Generator().manual_seed(1)
    check_norms(rng)
    check_qk_norm(rng)
    check_activations(rng)
    check_rope(rng)
    check_positions()
    check_attention(rng)
    check_blocks(rng)
    check_loss(rng)
    for kind in OPTIMIZERS:
        check_optimizer(rng, kind)
    check_lion()
    check_schedules()
    print(f"the reference agrees with PyTorch {torch.__version__}'s own functions")


if __name__ == "__main__":
    cross_check()
