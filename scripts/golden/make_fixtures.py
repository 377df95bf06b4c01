#!/usr/bin/env python3
"""Writes tests/golden/*.safetensors from the .yaml and .txt files beside them.

  make_fixtures.py           writes them
  make_fixtures.py --check   recomputes them and compares with what is committed

Everything is computed in float64 from float32 weights. Losses, norms and rates are stored as float64,
logits and gradients rounded to float32. The same is computed in float32 as well, and the script fails
if PyTorch itself would not meet half of the tolerances: then a fixture asks for more than float32 has.
"""

import argparse
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import reference_model as reference
from cross_check import cross_check

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
SEED = 20250
STYLES = ("gpt2", "llama", "mixed")  # runs of 20 updates
LISTS = ("variants", "blocks", "attention", "long", "presets")  # one batch a case
MOST_BYTES = 5e6


def rng_of(name):
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def values_of(config):
    """No term may hide: gains differ from 1 and shifts from 0. Depends on name and shape alone, so
    that cases share them."""
    params = {}
    for name, shape in config.parameter_shapes().items():
        values = rng_of(f"{name}{shape}").standard_normal(shape)
        if name.endswith("norm.weight"):
            values = (4 if shape == (1,) else 1) * (1 + 0.1 * values)  # scalenorm's is a length
        elif name.endswith((".attn_scale", ".ffn_scale")):
            values = 0.8 + 0.2 * values
        elif name.endswith(".alpha"):
            values = 0.5 + 0.1 * values
        elif name.endswith(".bias"):
            values = 0.1 * values
        elif name.endswith((".sink", ".t5_bias")):
            pass
        elif name in ("embedding.weight", "position.weight"):
            values = 0.3 * values
        else:
            values = values / np.sqrt(shape[1])
        params[name] = torch.from_numpy(values.astype(np.float32))
    return params


def weights_of(config, values):
    """The parameters. Those of norms are near 1; with unit_offset they are taken from 1 (which is
    exact), since 1 + w is what is near 1 in such a model."""
    if not config.model["norm"]["unit_offset"]:
        return values
    return {key: 1 - p if key.endswith("norm.weight") else p for key, p in values.items()}


def batches_of(name, n_batches, batch_size, seq_len, vocab_size):
    """Ids (n, B, T+1) of a walk that mostly follows one rule, so that there is something to learn."""
    rng = rng_of(name)
    ids = rng.integers(vocab_size, size=(n_batches, batch_size, seq_len + 1))
    follows = rng.random(ids.shape) < 0.75
    for t in range(1, seq_len + 1):
        ids[..., t] = np.where(follows[..., t], (5 * ids[..., t - 1] + 3) % vocab_size, ids[..., t])
    return torch.from_numpy(ids.astype(np.int32))


def lines_of(path):
    """Name and words of each line that is neither empty nor a comment."""
    for line in path.read_text().splitlines():
        words = line.split()
        if words and words[0] != "#":
            yield words[0], words[1:]


def as_dtype(params, dtype):
    return {name: p.to(dtype) for name, p in params.items()}


class Fairness:
    """How far float32 PyTorch is from float64, in units of the tolerances."""

    def __init__(self):
        self.worst_loss = self.worst_gradient = self.worst_norm = self.worst_logit = 0.0

    def loss(self, what, single, double):
        error = abs(single - double) / abs(double)
        self.worst_loss = max(self.worst_loss, error)
        if error > 0.5 * reference.LOSS_TOLERANCE:
            raise SystemExit(f"{what}: float32 PyTorch misses the float64 loss by {error:.1e}")

    def norm(self, what, single, double):
        error = abs(single - double) / double
        self.worst_norm = max(self.worst_norm, error)
        if error > 0.5 * reference.GRADIENT_TOLERANCE:
            raise SystemExit(f"{what}: float32 PyTorch misses the gradient norm by {error:.1e}")

    def logits(self, what, single, double):
        error = ((single.double() - double).abs().max() / double.abs().max()).item()
        self.worst_logit = max(self.worst_logit, error)
        if error > 0.5 * reference.LOGIT_TOLERANCE:
            raise SystemExit(f"{what}: float32 PyTorch misses a logit by {error:.1e}")

    def gradients(self, what, single, double):
        name, error = max(reference.gradient_errors(single, double).items(), key=lambda e: e[1])
        self.worst_gradient = max(self.worst_gradient, error)
        if error > 0.5 * reference.GRADIENT_TOLERANCE:
            raise SystemExit(f"{what}: float32 PyTorch misses grad.{name} by {error:.1e}")


def first_batch(config, params, tokens, fairness, what):
    double = reference.evaluate(config, as_dtype(params, torch.float64), tokens)
    single = reference.evaluate(config, params, tokens)
    fairness.loss(what, single["loss.total"], double["loss.total"])
    fairness.logits(what, single["logits"], double["logits"])
    fairness.gradients(what, single["grads"], double["grads"])
    return double


def training_fixture(style, fairness):
    run = reference.load_yaml(GOLDEN / f"{style}.yaml")
    config = reference.Config(run)
    params = weights_of(config, values_of(config))
    seq_len, batch_size = run["data"]["seq_len"], run["train"]["batch_size"]
    batches = batches_of(style, config.n_steps, batch_size, seq_len, config.V)
    first = first_batch(config, params, batches[0], fairness, style)

    tensors = {"tokens": batches, "logits": first["logits"].float()}
    tensors |= {f"param.{name}": p for name, p in params.items()}
    tensors |= {f"grad.{name}": g.float() for name, g in first["grads"].items()}
    for name, (base, *overrides) in lines_of(GOLDEN / "runs.txt"):
        if base != style:
            continue
        changed = reference.Config(reference.override(run, overrides))
        double = reference.train(changed, as_dtype(params, torch.float64), batches)
        single = reference.train(changed, params, batches)
        for s in range(config.n_steps):
            fairness.loss(f"{name} step {s}", single["loss"][s], double["loss"][s])
            fairness.norm(f"{name} step {s}", single["grad_norm"][s], double["grad_norm"][s])
        for key in ("loss", "grad_norm", "lr"):
            tensors[f"{name}/{key}"] = torch.tensor(double[key], dtype=torch.float64)
        clipped = sum(reference.clip_scale(changed.optim, n) < 1 for n in double["grad_norm"])
        print(f"  {name:22} loss {double['loss'][0]:.3f} -> {double['loss'][-1]:.3f}", end="")
        print(f"  gradient norm {min(double['grad_norm']):.2f} … {max(double['grad_norm']):.2f}", end="")
        print(f"  clipped {clipped} of {config.n_steps}")
    return tensors


def list_fixture(name, fairness):
    """The cases of a list. They share weights: those of one name and shape are stored once, as
    param.<name>(18, 18)."""
    run = reference.load_yaml(GOLDEN / f"{name}.yaml")
    seq_len, batch_size = run["data"]["seq_len"], run["train"]["batch_size"]
    tokens = batches_of(name, 1, batch_size, seq_len, run["model"]["vocab_size"])[0]
    tensors = {"tokens": tokens}
    seen = []
    for case, overrides in lines_of(GOLDEN / f"{name}.txt"):
        config = reference.Config(reference.override(run, overrides))
        values = values_of(config)
        params = weights_of(config, values)
        double = first_batch(config, params, tokens, fairness, case)
        refuse_twins(case, double, seen)
        for key, p in values.items():
            tensors[f"param.{key}({', '.join(map(str, p.shape))})"] = p
        tensors |= {f"{case}/grad.{key}": g.float() for key, g in double["grads"].items()}
        tensors[f"{case}/logits"] = double["logits"].float()
        for key in ("loss.ce", "loss.z"):
            tensors[f"{case}/{key}"] = torch.tensor(double[key], dtype=torch.float64)
    print(f"  {len(seen)} cases of {name}")
    return tensors


def refuse_twins(case, result, seen):
    """A case that computes what another one computes tests nothing of its own."""
    for other, logits, loss in seen:
        difference = (result["logits"] - logits).abs().max()
        if difference < 1e-9 * logits.abs().max() and abs(result["loss.total"] - loss) < 1e-9 * loss:
            raise SystemExit(f"{case} computes what {other} computes")
    seen.append((case, result["logits"], result["loss.total"]))


def write(name, tensors):
    path = GOLDEN / f"{name}.safetensors"
    save_file({key: t.contiguous() for key, t in tensors.items()}, path)
    path.chmod(0o644)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size / 1000:.0f} kB")


def check(name, tensors):
    """Another machine's exp and sums may round differently: a few ulp of the largest entry."""
    stored = load_file(GOLDEN / f"{name}.safetensors")
    if stored.keys() != tensors.keys():
        raise SystemExit(f"{name}: the names of the tensors differ; run without --check")
    for key, expected in tensors.items():
        ulp = 2e-7 if expected.dtype == torch.float32 else 1e-10
        difference = (stored[key].double() - expected.double()).abs().max().item()
        if difference > ulp * max(1e-6, expected.double().abs().max().item()):
            raise SystemExit(f"{name}: {key} differs by {difference:.1e}")
    print(f"{name}: as committed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    put = check if parser.parse_args().check else write
    torch.set_num_threads(1)
    cross_check()
    fairness = Fairness()
    for style in STYLES:
        put(style, training_fixture(style, fairness))
    for name in LISTS:
        put(name, list_fixture(name, fairness))
    n_bytes = sum(path.stat().st_size for path in GOLDEN.glob("*.safetensors"))
    print(f"together {n_bytes / 1e6:.2f} MB")
    if n_bytes > MOST_BYTES:
        raise SystemExit(f"the fixtures may take {MOST_BYTES / 1e6:.0f} MB")
    print("float32 PyTorch against these, largest error and what Ballast is allowed:")
    print(f"  loss {fairness.worst_loss:.1e} of {reference.LOSS_TOLERANCE:.0e}", end="")
    print(f"  logits {fairness.worst_logit:.1e} of {reference.LOGIT_TOLERANCE:.0e}", end="")
    print(f"  gradients {fairness.worst_gradient:.1e}, their norm {fairness.worst_norm:.1e}", end="")
    print(f" of {reference.GRADIENT_TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
