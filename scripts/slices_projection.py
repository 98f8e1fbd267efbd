#!/usr/bin/env python3
"""What a training step would take on slices of TPU v5e, as two tables in Markdown. Nothing runs on a TPU.

    scripts/slices_projection.py --reports DIR [v5e:4x4 v5e:8x8 v5e:16x16]

The first table is what libtpu's compiler estimates, by `resnet-xla compile`, with statistics of all chips and of each
chip. DIR keeps its reports, so that only what is missing is compiled (minutes each). Collectives have no estimate.

The second adds a time for them that nobody has measured here, by the formulas and figures of part 3 of Austin et al. 2025,
"How to Scale Your Model" (https://jax-ml.github.io/scaling-book/sharding), with hops from corner to corner:

    small all-reduces     number * 2 * hops * latency
    gradients             2 * bytes / bandwidth, or 2 * hops * latency if that is longer
"""

import argparse
import json
import math
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("RESNET_XLA_BIN", ROOT / "target/release/resnet-xla")
# Of one hop, in seconds: "typically around 1us"; and by the book's own measurement, in which three took 8 µs.
HOP, SLOW_HOP = 1e-6, 8e-6 / 3
# Bytes per second along an axis, one way. An axis of 16 chips is a ring and uses both ways, a shorter one is a line.
ONE_WAY = 4.5e10
RING = 16
CHIPS_OF_A_HOST = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=["v5e:2x4", "v5e:4x4", "v5e:8x8", "v5e:16x16"])
    parser.add_argument("--reports", type=Path, required=True, help="folder for what the compiler says")
    parser.add_argument("--depth", type=int, default=164)
    args = parser.parse_args()
    args.reports.mkdir(parents=True, exist_ok=True)
    reports = {(target, bn): report(args, target, bn) for target in args.targets for bn in ("sync", "local")}

    row("slice", "hosts", "bn", "cycles", "step", "memory a chip", "all-reduces", "in all")
    row(*["---"] * 8)
    for (target, bn), said in reports.items():
        estimate = said["estimate"]
        row(target, hosts(target), bn, f"{estimate['cycles'] / 1e6:.2f} M", f"{estimate['step_ms']:.1f} ms",
            f"{said['memory']['total'] / 1e6:.0f} MB", said["all_reduces"], f"{said['all_reduce_bytes'] / 1e6:.2f} MB")
    print()
    row("slice", "hosts", "hops", "gradients", "small, 1 µs a hop", "small, 2.7 µs a hop", "step, local", "step, sync",
        "images/s, local", "images/s, sync", "sync, 2.7 µs a hop")
    row(*["---"] * 11)
    for target in args.targets:
        project(target, reports[target, "local"], reports[target, "sync"])


def report(args, target, bn):
    """What the compiler says of the training step, compiled now or before."""
    file = args.reports / f"{target.replace(':', '-')}-{args.depth}-{bn}.json"
    if not file.exists():
        command = [PROGRAM, "compile", "--target", target, "--depth", str(args.depth), "--bn", bn, "--json"]
        said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        file.write_bytes(said)
    return json.loads(file.read_text())


def project(target, local, sync):
    axes = axes_of(target)
    hops = sum(axis // 2 if axis == RING else axis - 1 for axis in axes)
    bandwidth = sum(2 * ONE_WAY if axis == RING else ONE_WAY for axis in axes)
    number = sync["all_reduces"] - local["all_reduces"]
    gradients = 1e3 * max(2 * local["all_reduce_bytes"] / bandwidth, 2 * hops * HOP)
    small, slow = (1e3 * number * 2 * hops * hop for hop in (HOP, SLOW_HOP))
    steps = [local["estimate"]["step_ms"] + gradients] + [
        sync["estimate"]["step_ms"] + gradients + waiting for waiting in (small, slow)]
    images = local["batch_per_chip"] * local["chips"]
    speeds = [f"{1e3 * images / step:,.0f}" for step in steps]
    row(target, hosts(target), hops, f"{gradients:.2f} ms", f"{small:.1f} ms", f"{slow:.1f} ms", f"{steps[0]:.1f} ms",
        f"{steps[1]:.1f} ms", *speeds)


def axes_of(target):
    return [int(axis) for axis in target.split(":")[1].split("x")]


def hosts(target):
    chips = math.prod(axes_of(target))
    # Eight chips can be one machine's, as in all that docs/cloud-tpu.md says of v5e:2x4.
    return 1 if chips <= 8 else chips // CHIPS_OF_A_HOST


def row(*values):
    print("|", " | ".join(map(str, values)), "|")


if __name__ == "__main__":
    main()
