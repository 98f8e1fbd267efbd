"""Runs this program and its peers in turn, each measurement in a process of its own, and writes the tables.

    python3 -m venv venv && venv/bin/pip install -r benches/peers/requirements.txt
    cargo build --release
    venv/bin/python benches/peers/compare.py

Round after round, every configuration runs once, so that all of them see the same moods of the machine. Each result is
appended to docs/performance.jsonl as it comes; the tables of docs/performance.md are made from that file, by
`--tables` alone without measuring.
"""

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

import common
import tables

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAM = ROOT / "target/release/resnet-xla"
RESULTS = ROOT / "docs/performance.jsonl"

PEERS = {
    "ours": [PROGRAM, "bench", "--json", "--device", "cpu", "--precision", "f32"],
    "ours-dots": [PROGRAM, "bench", "--json", "--device", "cpu", "--precision", "f32", "--lowering", "dots"],
    "ours-bf16": [PROGRAM, "bench", "--json", "--device", "cpu", "--precision", "bf16"],
    "pytorch": ["peer_pytorch.py"],
    "pytorch-compile": ["peer_pytorch.py", "--mode", "compile"],
    "pytorch-bf16": ["peer_pytorch.py", "--precision", "bf16"],
    "keras": ["peer_keras.py"],
    "jax": ["peer_jax.py"],
}
INPUT = {
    "ours-keras": [PROGRAM, "bench", "--input", "--augment", "keras", "--json"],
    "ours-crop": [PROGRAM, "bench", "--input", "--augment", "crop", "--json"],
    "keras": ["peer_input.py", "--library", "keras"],
    "torchvision": ["peer_input.py", "--library", "torchvision"],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=lambda text: [int(n) for n in text.split(",")], default=[20, 56, 110, 164])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="timed steps of a process (more for small depths)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefix", default="", help="command to run each measurement under, such as a lock")
    parser.add_argument("--only", choices=["steps", "input", "ops"], help="one of the tables")
    parser.add_argument("--tables", action="store_true", help="write the tables from the results that are there")
    return parser.parse_args()


def run(command, args):
    """The JSON object that a measurement prints, or what it failed with."""
    if str(command[0]).endswith(".py"):
        command = [sys.executable, HERE / command[0], *command[1:]]
    cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[: args.threads])
    command = [*shlex.split(args.prefix), "taskset", "-c", cpus, *command]
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        return {"error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout[done.stdout.index("{") :])


def record(result):
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")
    shown = {key: result[key] for key in ("kind", "round", "peer", "depth", "step_ms", "images_per_sec", "error") if key in result}
    print(json.dumps(shown), flush=True)


def run_steps(args, folder):
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
    command = [PROGRAM, "bench", "--ops", "--json", "--device", "cpu", "--depth", max(args.depths), "--steps", 9]
    record({"kind": "ops"} | run(command, args))


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
    tables.write(RESULTS, ROOT / "docs/performance.md", PROGRAM)


main()
