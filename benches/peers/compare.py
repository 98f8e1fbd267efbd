"""Runs this program and its peers in turn, each measurement in a process of its own, and writes the tables.

    python3 -m venv venv && venv/bin/pip install -r benches/peers/requirements.txt
    cargo build --release
    venv/bin/python benches/peers/compare.py

Round after round, every configuration runs once, so that all of them see the same moods of the machine. Each result is
appended to docs/performance.jsonl as it comes; the tables of docs/performance.md and docs/operations.md are made from that
file, by `--tables` alone without measuring.
"""

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

import tables

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAM = ROOT / "target/release/resnet-xla"
RESULTS = ROOT / "docs/performance.jsonl"

BENCH = [PROGRAM, "bench", "--json", "--device", "cpu"]
PEERS = {
    "ours": [*BENCH, "--precision", "f32"],
    "ours-avx2": ["env", "RESNET_XLA_ISA=avx2", *BENCH, "--precision", "f32"],
    "ours-avx512": ["env", "RESNET_XLA_ISA=avx512", *BENCH, "--precision", "f32"],
    "ours-dots": [*BENCH, "--precision", "f32", "--lowering", "dots"],
    "ours-bf16": [*BENCH, "--precision", "bf16"],
    "ours-bf16-avx512": ["env", "RESNET_XLA_ISA=avx512-bf16", *BENCH, "--precision", "bf16"],
    "pytorch": ["peer_pytorch.py"],
    "pytorch-compile": ["peer_pytorch.py", "--mode", "compile"],
    "pytorch-bf16": ["peer_pytorch.py", "--precision", "bf16"],
    "keras": ["peer_keras.py"],
    "jax": ["peer_jax.py"],
}
DEPTHS = [20, 56, 110, 164]
INPUT = {
    "ours-keras": [PROGRAM, "bench", "--input", "--augment", "keras", "--json"],
    "ours-crop": [PROGRAM, "bench", "--input", "--augment", "crop", "--json"],
    "keras": ["peer_input.py", "--library", "keras"],
    "torchvision": ["peer_input.py", "--library", "torchvision"],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=lambda text: [int(n) for n in text.split(",")], default=DEPTHS)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="timed steps of a process (more for small depths), or runs of an operation")
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=["f32", "bf16"], help="of --only ops")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefix", default="", help="command to run each measurement under, such as a lock")
    parser.add_argument("--only", choices=["steps", "input", "ops"], help="one of the tables")
    parser.add_argument("--tables", action="store_true", help="write the tables from the results that are there")
    return parser.parse_args()


def run(command, args):
    """The one JSON object that a measurement prints, or what it failed with."""
    return run_all(command, args)[-1]


def run_all(command, args):
    """The JSON objects that a measurement prints one behind the other, and what it failed with."""
    if str(command[0]).endswith(".py"):
        command = [sys.executable, HERE / command[0], *command[1:]]
    cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[: args.threads])
    command = [*shlex.split(args.prefix), "taskset", "-c", cpus, *command]
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    failed = [{"error": done.stderr.strip().splitlines()[-1:]}] if done.returncode != 0 else []
    return objects(done.stdout) + failed


def objects(text):
    """The JSON objects in `text`."""
    found = []
    while "{" in text:
        text = text[text.index("{") :]
        result, end = json.JSONDecoder().raw_decode(text)
        found.append(result)
        text = text[end:]
    return found


def record(result):
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")
    shown = {key: result[key] for key in ("kind", "round", "peer", "depth", "isa", "precision", "step_ms", "images_per_sec", "error") if key in result}
    print(json.dumps(shown), flush=True)


def run_steps(args, folder):
    # It takes NumPy, which the tables do without.
    import common

    for number in range(args.rounds):
        for depth in args.depths:
            weights = folder / f"{depth}.safetensors"
            common.write_first_weights(depth, weights)
            steps = args.steps or max(4, 240 // depth)
            for peer in args.peers:
                command = [*PEERS[peer], "--depth", depth, "--steps", steps, "--warmup", 2]
                if peer.startswith("ours"):
                    command += ["--init-weights", weights]
                record({"kind": "step", "round": number, "peer": peer, "depth": depth} | run(command, args))


def run_input(args):
    for number in range(args.rounds):
        for peer, command in INPUT.items():
            record({"kind": "input", "round": number, "peer": peer} | run(command, args))


def run_ops(args):
    for precision in args.precisions:
        command = [*BENCH, "--ops", "--all-sets", "--precision", precision, "--depth", max(args.depths)]
        for result in run_all([*command, "--steps", args.steps or 9], args):
            record({"kind": "ops", "precision": precision} | result)


def main():
    args = arguments()
    if not args.tables:
        record({"kind": "machine", "threads": args.threads} | tables.machine())
        record({"kind": "roofline"} | run(["peer_roofline.py"], args))
        if args.only in (None, "steps"):
            with tempfile.TemporaryDirectory() as folder:
                run_steps(args, pathlib.Path(folder))
        if args.only in (None, "input"):
            run_input(args)
        if args.only in (None, "ops"):
            run_ops(args)
    tables.write(RESULTS, ROOT / "docs", PROGRAM, list(PEERS), DEPTHS)


main()
