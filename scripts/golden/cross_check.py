"""The reference against PyTorch's own functions, in float64: a shared misreading of a formula would
otherwise pass on both sides. Runs before fixtures are written, and alone: python3 cross_check.py"""

import math

import torch
import torch.nn.functional as F

import reference_model as reference


def same(actual, expected, what, tolerance=1e-12):
    error = (actual - expected).abs().max().item() / max(1.0, expected.abs().max().item())
    if not error <= tolerance:
        raise SystemExit(f"{what}: the reference differs from PyTorch's by {error:.2e}")


def check_formulas(rng):
    x = torch.randn(5, 12, generator=rng, dtype=torch.float64) * 3
    w = torch.randn(12, generator=rng, dtype=torch.float64)
    b = torch.randn(12, generator=rng, dtype=torch.float64)
    same(reference.layer_norm(x, w, b, 0.1), F.layer_norm(x, (12,), w, b, 0.1), "layer_norm")
    same(reference.layer_norm(x, w, b, 0.1, True), F.layer_norm(x, (12,), 1 + w, b, 0.1), "1 + w")
    same(reference.rms_norm(x, w, 0.1), F.rms_norm(x, (12,), w, 0.1), "rms_norm")
    same(reference.activation("relu", x), F.relu(x), "relu")
    same(reference.activation("gelu", x), F.gelu(x), "gelu")
    same(reference.activation("gelu_tanh", x), F.gelu(x, approximate="tanh"), "gelu_tanh")
    same(reference.activation("silu", x), F.silu(x), "silu")

    q = torch.randn(2, 7, 6, 4, generator=rng, dtype=torch.float64)
    k = torch.randn(2, 7, 3, 4, generator=rng, dtype=torch.float64)
    v = torch.randn(2, 7, 3, 4, generator=rng, dtype=torch.float64)
    fused = F.scaled_dot_product_attention(
        *(t.transpose(1, 2) for t in (q, k, v)), is_causal=True, scale=0.3, enable_gqa=True
    )
    same(reference.causal_attention(q, k, v, 0.3), fused.transpose(1, 2), "causal_attention")

    # A rotation is a product of complex numbers: pair (a, b) is a + ib, turned by exp(i angle).
    for layout in ("half", "interleaved"):
        turned = reference.rope(q, 4, 100.0, layout)
        a, b = (q[..., :2], q[..., 2:]) if layout == "half" else (q[..., 0::2], q[..., 1::2])
        angle = torch.arange(7)[:, None] * torch.tensor([1.0, 0.1], dtype=torch.float64)
        z = torch.complex(a, b) * torch.polar(torch.ones_like(angle), angle)[None, :, None, :]
        parts = [z.real, z.imag]
        expected = torch.cat(parts, -1) if layout == "half" else torch.stack(parts, -1).flatten(-2)
        same(turned, expected, f"rope {layout}")


def check_loss(rng):
    run = {"model": {"d_model": 4, "n_layers": 1, "n_heads": 1}, "loss": {"z_loss": 0.01}}
    logits = torch.randn(2, 3, 11, generator=rng, dtype=torch.float64) * 4
    targets = torch.randint(11, (2, 3), generator=rng)
    ce, z = reference.loss_terms(reference.Config(run), logits, targets)
    same(ce, F.cross_entropy(logits.flatten(0, 1), targets.flatten()), "cross-entropy")
    same(z, 0.01 * (logits.logsumexp(-1) ** 2).mean(), "z-loss")


def check_optimizer(rng):
    optim = {"lr": 0.02, "betas": [0.9, 0.95], "eps": 1e-4, "weight_decay": 0.3}
    optim |= {"decay": "coupled", "no_decay": ["bias"], "clip": {"kind": "global", "max_norm": 5.0}}
    ours = {
        name: torch.randn(n, 5, generator=rng, dtype=torch.float64)
        for name, n in (("head.weight", 3), ("head.bias", 2))
    }
    theirs = {name: torch.nn.Parameter(p.clone()) for name, p in ours.items()}
    groups = [
        {"params": [theirs["head.weight"]], "weight_decay": 0.3},
        {"params": [theirs["head.bias"]], "weight_decay": 0.0},
    ]
    peer = torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.95), eps=1e-4)
    adamw = reference.AdamW(optim, ours)
    for s in range(10):
        grads = {
            name: torch.randn(p.shape, generator=rng, dtype=torch.float64) * (s + 1)
            for name, p in ours.items()
        }
        lr = 0.02 * (s + 1) / 10
        for name, p in theirs.items():
            p.grad = grads[name].clone()
        norm = torch.nn.utils.clip_grad_norm_(theirs.values(), 5.0)
        for group in peer.param_groups:
            group["lr"] = lr
        peer.step()
        same(norm, torch.tensor(reference.global_norm(grads), dtype=norm.dtype), "gradient norm")
        factor = reference.clip_scale(optim, reference.global_norm(grads))
        adamw.step({name: factor * g for name, g in grads.items()}, lr)
    for name, p in ours.items():
        same(p, theirs[name].detach(), f"AdamW {name}")


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
    check_formulas(rng)
    check_loss(rng)
    check_optimizer(rng)
    check_schedules()
    print(f"the reference agrees with PyTorch {torch.__version__}'s own functions")


if __name__ == "__main__":
    cross_check()
