"""Compiles this program's training step and a plain Flax one for TPU chips that are not there, and writes the table.

    python3 -m venv venv && venv/bin/pip install -r benches/peers/requirements-tpu.txt
    ./setup tpu && cargo build --release
    venv/bin/python benches/peers/compare_tpu.py

Both columns are the same compiler's numbers for its own output: the cycle estimates in the optimised program added up,
and the memory and cost analyses of the executable. Each result is appended to docs/tpu-compile.jsonl as it comes, and
the table of docs/cloud-tpu.md is made of the newest of each; `--tables` does that alone, `--missing` first compiles what
the file lacks. Needs no accelerator. Everything takes an hour on two cores.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
from datetime import date

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "docs/tpu-compile.jsonl"
DOCUMENT = ROOT / "docs/cloud-tpu.md"
BEGIN, END = "<!-- begin tpu -->", "<!-- end tpu -->"

# Topology, depth, images a chip, precision.
ROWS = [
    ("v5e:2x4", 164, 128, "bf16"),
    ("v5e:2x4", 164, 128, "f32"),
    ("v5e:2x4", 164, 256, "bf16"),
    ("v6e:2x4", 164, 128, "bf16"),
    ("v4:2x2x1", 164, 128, "bf16"),
    ("v5e:2x4", 29, 128, "bf16"),
]
KEY = ("target", "depth", "batch_per_chip", "precision")
WHO = ("resnet-xla", "Flax")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")], help="of the table, from 0")
    parser.add_argument("--who", choices=WHO, help="one of the two")
    parser.add_argument("--missing", action="store_true", help="only what the file of results lacks")
    parser.add_argument("--tables", action="store_true", help="write the table from the results that are there")
    parser.add_argument("--program", default=ROOT / "target/release/resnet-xla")
    parser.add_argument("--prefix", default="", help="command to run each compilation under, such as a lock")
    return parser.parse_args()


def compile_flax(options):
    return [sys.executable, HERE / "jax_tpu_compile.py", *options]


def compile_ours(program, options):
    return [program, "compile", *options, "--json"]


def ours(report):
    """The numbers of `resnet-xla compile`, under the names that jax_tpu_compile.py gives its own."""
    if report["estimate"]["loops_of_unknown_length"]:
        raise SystemExit("this program has loops of unknown length: its cycles cannot be added up")
    return {
        "compile_s": report["compile_s"],
        "cycles": report["estimate"]["cycles"],
        "temporaries": report["memory"]["temporaries"],
        "total": report["memory"]["total"],
        "flops": report["flops"],
        "bytes_accessed": report["bytes_accessed"],
        "all_reduces": report["all_reduces"],
        "chips": report["chips"],
        "ms_per_cycle": report["estimate"]["step_ms"] / report["estimate"]["cycles"],
    }


def measure(who, row, args):
    """Compiles one row and records it."""
    target, depth, batch, precision = row
    options = ["--target", target, "--depth", depth, "--batch-per-chip", batch, "--precision", precision]
    command = compile_flax(options) if who == "Flax" else compile_ours(args.program, options)
    command = [*shlex.split(args.prefix), *map(str, command)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)} ended with exit code {done.returncode}")
    numbers = json.loads(done.stdout)
    numbers = numbers if who == "Flax" else ours(numbers)
    result = {"date": date.today().isoformat(), "who": who} | dict(zip(KEY, row)) | numbers
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(f"{who} {row}: {numbers['cycles']:,} cycles, {numbers['total'] / 1e6:,.0f} MB", flush=True)


def newest():
    """The newest result of each program and row."""
    results = {}
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else []:
        result = json.loads(line)
        results[result["who"], *(result[key] for key in KEY)] = result
    return results


def table_row(row, who, result, of_ours):
    target, depth, batch, precision = row
    # The chips and the clock are the same for both.
    step_ms = result["cycles"] * of_ours["ms_per_cycle"]
    images_per_sec = batch * of_ours["chips"] / step_ms * 1e3
    return (
        f"| {target} | {depth} | {batch} | {precision} | {who} | {result['cycles'] / 1e6:.2f} M"
        f" | {step_ms:.1f} ms | {images_per_sec:,.0f}"
        f" | {result['total'] / 1e6:,.0f} MB | {result['temporaries'] / 1e6:,.0f} MB"
        f" | {result['bytes_accessed'] / 1e9:.1f} GB | {result['all_reduces']} | {result['compile_s']:.0f} s |"
    )


HEADER = [
    "| topology | depth | batch a chip | precision | who | cycles | step | images/s in all | memory a chip"
    " | of it temporaries | moved | all-reduces | compile |",
    "| --- " * 13 + "|",
]


def table():
    results = newest()
    lines = list(HEADER)
    for row in ROWS:
        of_ours = results.get(("resnet-xla", *row))
        for who in WHO:
            result = results.get((who, *row))
            if of_ours and result:
                lines.append(table_row(row, who, result, of_ours))
    return lines


def write():
    """Replaces what stands between the markers of the document."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text("\n".join([before + BEGIN, "", *table(), "", END + after]))


def main():
    args = arguments()
    for number, row in enumerate(ROWS):
        for who in WHO:
            wanted = (args.rows is None or number in args.rows) and args.who in (None, who)
            done = args.missing and (who, *row) in newest()
            if wanted and not done and not args.tables:
                measure(who, row, args)
    write()


main()
