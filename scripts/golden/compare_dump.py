#!/usr/bin/env python3
"""Is what `ballast dump` wrote what the reference computes? Exit code 1 if not.

  ballast config show CONFIG > resolved.yaml
  ballast dump CONFIG --tokens batch.safetensors -o dump.safetensors
  compare_dump.py resolved.yaml dump.safetensors [key=value ...]

Takes the weights and tokens from the dump, computes logits, loss and gradients in float64, and prints
the largest errors: loss relative to its size; each gradient relative to the larger of its own largest
entry and 1 % of the largest entry of all; logits relative to the largest logit.
"""

import argparse
import sys

import torch
from safetensors.torch import load_file

import reference_model as reference


def tokens_of(dump):
    """Ids (B, T+1). Targets must be the tokens moved by one, or the comparison asks for nothing."""
    tokens, targets = dump["tokens"], dump["targets"]
    if tokens.shape[1] == targets.shape[1] + 1:
        tokens = tokens[:, :-1]
    if not torch.equal(tokens[:, 1:], targets[:, :-1]):
        raise SystemExit("targets are not the tokens that follow")
    return torch.cat([tokens, targets[:, -1:]], dim=1)


def parts(dump, prefix):
    return {key.removeprefix(prefix): t for key, t in dump.items() if key.startswith(prefix)}


def check_names(config, tensors, what):
    expected = config.parameter_shapes()
    problems = [f"{what}.{name} is missing" for name in expected.keys() - tensors.keys()]
    problems += [f"{what}.{name} is not a parameter" for name in tensors.keys() - expected.keys()]
    problems += [
        f"{what}.{name} is {tuple(t.shape)}; expected {expected[name]}"
        for name, t in tensors.items()
        if name in expected and tuple(t.shape) != expected[name]
    ]
    if problems:
        raise SystemExit("\n".join(sorted(problems)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a resolved configuration, as `ballast config show` prints it")
    parser.add_argument("dump", help="the file `ballast dump` wrote")
    parser.add_argument("overrides", nargs="*", help="key=value, as given to dump")
    args = parser.parse_args()

    config = reference.Config(reference.load_yaml(args.config, args.overrides))
    dump = load_file(args.dump)
    params, grads = parts(dump, "param."), parts(dump, "grad.")
    check_names(config, params, "param")
    check_names(config, grads, "grad")
    expected = reference.evaluate(
        config, {name: p.double() for name, p in params.items()}, tokens_of(dump)
    )

    n_failed = 0

    def report(what, error, tolerance):
        nonlocal n_failed
        is_good = error <= tolerance  # False for NaN
        n_failed += not is_good
        print(f"{what:44} {error:9.1e}  of {tolerance:.0e}  {'' if is_good else 'FAILED'}".rstrip())

    for key in ("loss.total", "loss.ce", "loss.z"):
        error = abs(dump[key].double().item() - expected[key]) / max(abs(expected[key]), 1e-30)
        report(key, error if expected[key] or dump[key].item() else 0.0, reference.LOSS_TOLERANCE)
    logits = expected["logits"]
    difference = (dump["logits"].double() - logits).abs().max().item()
    report("logits", difference / logits.abs().max().item(), reference.LOGIT_TOLERANCE)
    errors = reference.gradient_errors(grads, expected["grads"])
    for name, error in sorted(errors.items(), key=lambda e: -e[1]):
        report(f"grad.{name}", error, reference.GRADIENT_TOLERANCE)
    print(f"{len(errors) + 4 - n_failed} agree, {n_failed} do not")
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
