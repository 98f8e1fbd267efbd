"""What scripts/accelerator.sh measures: numerics against the CPU, then the training step beside its peers.

    python3 benches/peers/accelerator.py WORK --seconds 500 [--parts numerics,speed] [--plugin PATH]

WORK is the folder that `scripts/accelerator.sh` unpacks: tools/ with the program, its exported programs, the plan and the
CPU's numbers, and state/, whose results.jsonl gets a line for each measurement as it comes. What is there is not measured
again, and what the end of the time cuts off has no line, so that the next call measures it. Needs nothing but Python's own
library; a peer whose library is not there gets a line that says so.
"""

import argparse
import array
import csv
import functools
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
# What another device may differ by in f32. Two formulations on a CPU differ by some 1e-6, and products of factors that
# were rounded to 10 bits by some 1e-3; what computes something else differs by far more.
BOUND = 1e-2
# Longer than any measurement but one that hangs.
PATIENCE = 300

# Every configuration by its name in a plan; `ours` runs an exported program.
PEERS = {
    "jax": ["peer_jax.py"],
    "pytorch": ["peer_pytorch.py", "--layout", "contiguous"],
    "pytorch-channels-last": ["peer_pytorch.py"],
    "pytorch-compile": ["peer_pytorch.py", "--mode", "compile"],
}


class Session:
    def __init__(self, args):
        self.work, self.deadline = args.work, time.monotonic() + args.seconds
        self.tools, self.results = args.work / "tools", args.work / "state/results.jsonl"
        self.plan = json.loads((self.tools / "plan.json").read_text())
        self.device = ["--plugin", args.plugin] if args.plugin else ["--device", self.plan["on"]]
        self.done = [json.loads(line) for line in self.results.read_text().splitlines()] if self.results.exists() else []
        # What the peers compile stays for the next round.
        caches = {"JAX_COMPILATION_CACHE_DIR": "jax", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
        self.caches = {variable: str(args.work / "peers" / folder) for variable, folder in caches.items()}

    def seconds_left(self):
        return self.deadline - time.monotonic()

    def record(self, result):
        self.done.append(result)
        with self.results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        shown = ("kind", "round", "peer", "depth", "batch_size", "precision", "step_ms", "logits", "error")
        print(json.dumps({key: result[key] for key in shown if key in result}), flush=True)

    def has(self, key):
        return any(all(result.get(name) == value for name, value in key.items()) for result in self.done)

    def run(self, command, **variables):
        """What a command prints; it gets the time that is left."""
        limit = max(1, min(PATIENCE, self.seconds_left()))
        command, environment = list(map(str, command)), os.environ | self.caches | variables
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit)
        except subprocess.TimeoutExpired:
            if limit < PATIENCE:
                raise Cut from None
            raise Failed(f"took longer than {PATIENCE} s") from None
        if done.returncode != 0:
            raise Failed((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])
        return done.stdout

    def program(self, *arguments, **variables):
        return self.run([self.tools / "resnet-xla", *arguments], **variables)


class Failed(Exception):
    """A command did not do what it should."""


class Cut(Exception):
    """The time for all of it was over before a command was."""


def machine(session):
    """The hardware, once."""
    if session.has({"kind": "machine"}):
        return
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        device = session.run(query).strip()
    except (Failed, OSError):
        device = session.program("doctor", *session.device, "--data-dir", session.work / "none").splitlines()[0]
    cores = len(os.sched_getaffinity(0))
    session.record({"kind": "machine", "device": device, "cores": cores, "date": time.strftime("%Y-%m-%d")})


def numerics(session):
    """Five steps and the logits after them, compared with the CPU's. Ends the script where f32 is not f32."""
    for precision in session.plan["precisions"]:
        # A GPU rounds the factors of f32 products to 10 bits unless it is told not to.
        for tf32 in ["0", "1"] if precision == "f32" else ["1"]:
            key = {"kind": "numerics", "precision": precision, "tf32": tf32 == "1"}
            if not session.has(key):
                session.record(key | deviations(session, precision, NVIDIA_TF32_OVERRIDE=tf32))
    for result in session.done:
        if result["kind"] == "numerics" and result["precision"] == "f32" and not result["tf32"]:
            worst = max(result["logits"], result["loss"], result["val_loss"])
            if not worst <= BOUND:
                sys.exit(f"the device computes other numbers than the CPU: {result}, expected at most {BOUND}")


def deviations(session, precision, **variables):
    run, logits = session.work / "numerics", session.work / "numerics.npy"
    program = ["--program", session.tools / f"programs/numerics-{precision}"]
    train = [*program, *session.device, "--out-dir", run, "--overwrite", "--progress", "none"]
    session.program("train", *train, **variables)
    steps = ["--steps", session.plan["numerics_steps"], "--dump-logits", logits]
    session.program("eval", "--checkpoint", run, *program, *session.device, *steps, **variables)
    reference = session.tools / "reference"
    ours, theirs = read_npy(logits), read_npy(reference / "logits.npy")
    largest = max(map(abs, theirs))
    result = {"logits": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / largest}
    ours, theirs = last_row(run / "history.csv"), last_row(reference / "history.csv")
    return result | {name: abs(ours[name] / theirs[name] - 1) for name in ("loss", "val_loss")}


def last_row(path):
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return {name: float(value) for name, value in rows[-1].items()}


def read_npy(path):
    """The values of an array of f32."""
    content = path.read_bytes()
    begin = 10 + int.from_bytes(content[8:10], "little")
    assert b"'<f4'" in content[:begin], f"{path}: expected little-endian f32"
    return array.array("f", content[begin:])


def speed(session):
    """Every peer once a round, so that all of them see the same moods of the machine."""
    plan = session.plan
    for number in range(plan["rounds"]):
        for depth in plan["depths"]:
            weights = first_weights(session, depth)
            for batch in plan["batches"]:
                for precision in plan["precisions"]:
                    for peer in ["ours", *plan["peers"]]:
                        key = {"kind": "step", "round": number, "peer": peer, "depth": depth}
                        key |= {"batch_size": batch, "precision": precision}
                        if session.has(key) or is_absent(session, peer):
                            continue
                        if session.seconds_left() < plan["seconds_a_measurement"]:
                            return
                        session.record(key | step(session, key, weights))


def is_absent(session, peer):
    """Whether the peer's library is not there, which an earlier line says."""
    lines = [result.get("error", "") for result in session.done if result.get("peer") == peer]
    return any("ModuleNotFoundError" in line for line in lines)


def first_weights(session, depth):
    """The option for the weights that the peers start from; none where there is no NumPy or safetensors to write them."""
    path = session.work / f"first-{depth}.safetensors"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        call = f"import common; common.write_first_weights({depth}, {str(unfinished)!r})"
        try:
            session.run([sys.executable, "-c", call], PYTHONPATH=str(HERE))
        except Failed as reason:
            print(f"our own first weights at depth {depth}: {reason}")
            return []
        unfinished.rename(path)
    return ["--init-weights", path]


def step(session, key, weights):
    """A measurement as the program prints it, or why there is none. Raises `Cut` if the time did not suffice."""
    options = ["--steps", session.plan["steps"], "--warmup", session.plan["warmup"]]
    if key["peer"] == "ours":
        program = session.tools / "programs" / "{depth}-{precision}-{batch_size}".format(**key)
        cache = ["--compile-cache", session.work / "compiled"]
        measure = functools.partial(
            session.program, "bench", "--json", "--program", program, *session.device, *weights, *cache, *options
        )
    else:
        script, *more = PEERS[key["peer"]]
        if script == "peer_pytorch.py" and session.plan["on"] == "gpu":
            more += ["--device", "cuda"]
        shape = ["--depth", key["depth"], "--batch-size", key["batch_size"], "--precision", key["precision"]]
        measure = functools.partial(session.run, [sys.executable, HERE / script, *more, *shape, *options])
    try:
        return object_in(measure()) | key
    except Failed as reason:
        return {"error": str(reason)}


def object_in(printed):
    """The JSON object at the end of what a program printed."""
    try:
        return json.loads(printed[printed.index("{") :])
    except ValueError:
        raise Failed(f"expected a JSON object, got {printed[-200:]!r}") from None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, required=True, help="time for all of it")
    parser.add_argument("--parts", default="numerics,speed", help="what to measure; others are ignored [default: %(default)s]")
    parser.add_argument("--plugin", help="the PJRT plugin [default: the one that the program finds]")
    args = parser.parse_args()
    session = Session(args)
    chosen = args.parts.split(",")
    for part in (machine, *(part for part in (numerics, speed) if part.__name__ in chosen)):
        if session.seconds_left() < session.plan["seconds_a_measurement"]:
            break
        try:
            part(session)
        except Failed as reason:
            sys.exit(f"{part.__name__}: {reason}")
        except Cut:
            print(f"{part.__name__}: out of time; the next call goes on")
            break


main()
