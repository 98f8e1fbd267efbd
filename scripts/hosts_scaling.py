#!/usr/bin/env python3
"""How training scales over processes, as a table in Markdown: weak (more images with more processes) and strong.

Every process is pinned to one processor, in turn, so that more processes than processors share them. With --delay also
two processes on two hosts that this machine plays, with a line in between (scripts/two_hosts.py, which needs root).

    cargo build --release
    scripts/hosts_scaling.py --depth 20 --delay 0.1 1

All configurations run once in each round, one after another; the table has medians over the rounds. A run is an epoch
to get warm and one that is measured. A share of collectives is the time in them, waiting for the others included.
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("RESNET_XLA_BIN", ROOT / "target/release/resnet-xla")
PROCESSORS = sorted(os.sched_getaffinity(0))
COLUMNS = ["processes", "line", "batch", "bn", "images/s", "of ideal", "ms a step", "in collectives", "collectives", "MB"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64, help="images of one process")
    parser.add_argument("--steps", type=int, default=6, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--bn", nargs="+", default=["sync", "local"])
    parser.add_argument("--delay", type=float, nargs="+", default=[], metavar="MS", help="each way")
    args = parser.parse_args()
    configurations = list(all_configurations(args))
    measured = {configuration: [] for configuration in configurations}
    for number in range(args.rounds):
        for configuration in configurations:
            print(f"round {number + 1} of {args.rounds}:", *configuration, file=sys.stderr)
            measured[configuration].append(measure(args, *configuration))
    alone = median(measured[configurations[0]], "images_per_sec")
    row(COLUMNS)
    row(["---"] * len(COLUMNS))
    for configuration in configurations:
        row(cells(configuration, measured[configuration], alone))


def all_configurations(args):
    """Number of processes, delay of their line (none: one host), images of a step, batch normalisation."""
    yield 1, None, args.batch, args.bn[0]
    for bn in args.bn:
        lines = [(processes, None) for processes in args.processes] + [(2, delay) for delay in args.delay]
        for processes, delay in lines:
            yield processes, delay, args.batch * processes, bn
            yield processes, delay, args.batch, bn


def measure(args, processes, delay, batch, bn):
    """The last epoch of a run: images per second, and what result.json says about collectives."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder, "run")
        command = [*launcher(processes, delay), PROGRAM, "--device", "cpu", "--dataset", "sample", "--depth", args.depth]
        command += ["--bn", bn, "--batch-size", batch, "--steps-per-epoch", args.steps, "--epochs", "2"]
        command += ["--eval-steps", "1", "--out-dir", run, "--progress", "none"]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if ended.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}\n{ended.stderr}")
        with open(run / "history.csv", encoding="utf-8", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    none = {"count": 0, "bytes": 0, "ms": 0}
    return {"images_per_sec": float(last["images_per_sec"]), **result.get("collectives", none)}


def launcher(processes, delay):
    """The beginning of a command that starts so many processes."""
    pin = f'all=({" ".join(map(str, PROCESSORS))}); exec taskset -c ${{all[OMPI_COMM_WORLD_RANK % {len(PROCESSORS)}]}} "$@"'
    pinned = ["bash", "-c", pin, "bash"]
    if processes == 1:
        return pinned
    together = ["mpirun", "-n", processes, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    if delay is None:
        return together + pinned
    hosts = [ROOT / "scripts/two_hosts.py", "--delay", delay]
    return hosts + together + ["--host", "10.77.0.1,10.77.0.2"] + pinned


def median(runs, name):
    return statistics.median(run[name] for run in runs)


def cells(configuration, runs, alone):
    processes, delay, batch, bn = configuration
    rate, spent = median(runs, "images_per_sec"), median(runs, "ms")
    step = 1e3 * batch / rate
    ideal = alone * min(processes, len(PROCESSORS))
    line = "none" if processes == 1 else "memory" if delay is None else f"{delay:g} ms"
    return [
        processes,
        line,
        batch,
        "" if processes == 1 else bn,
        f"{rate:.0f}",
        f"{100 * rate / ideal:.0f} %",
        f"{step:.0f}",
        f"{spent:.1f} ms, {100 * spent / step:.0f} %",
        f"{median(runs, 'count'):.0f}",
        f"{median(runs, 'bytes') / 1e6:.2f}",
    ]


def row(values):
    print("|", " | ".join(map(str, values)), "|")


if __name__ == "__main__":
    main()
