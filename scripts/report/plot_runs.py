#!/usr/bin/env python3
"""Plots the raw loss and gradient norm of runs, every step, nothing smoothed.

  plot_runs.py RUN... -o FILE.svg [--label NAME]...

RUN is a run's folder. Non-finite values leave a gap. Needs matplotlib (python3-matplotlib).
"""
import argparse
import json
import pathlib

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "ballast"  # the same data gives the same file
import matplotlib.pyplot as plt  # noqa: E402

PANELS = [("train/ce", "training loss (nats)"), ("optim/grad_norm", "gradient norm before clipping")]


def read_metrics(run):
    """Lists of steps and values of each panel's key."""
    columns = {key: ([], []) for key, _ in PANELS}
    with open(run / "metrics.jsonl", encoding="utf-8") as lines:
        for text in lines:
            line = json.loads(text)
            for key, (steps, values) in columns.items():
                if key in line:
                    steps.append(line["step"])
                    values.append(float("nan") if line[key] is None else line[key])
    return columns


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--label", action="append", default=[])
    args = parser.parse_args()

    figure, axes = plt.subplots(1, len(PANELS), figsize=(10, 3.2), constrained_layout=True)
    for i, run in enumerate(args.runs):
        columns = read_metrics(run)
        label = args.label[i] if i < len(args.label) else run.name
        for axis, (key, _) in zip(axes, PANELS):
            axis.plot(*columns[key], linewidth=0.8, label=label)
    for axis, (_, title) in zip(axes, PANELS):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(args.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
