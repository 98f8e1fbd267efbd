"""Makes the tables of docs/gpu.md and docs/accuracy.md from what scripts/accelerator.sh brought back.

    python3 benches/peers/gpu_tables.py STATE [--docs docs]

STATE is a folder with results.jsonl and, where training has begun, run/history.csv.
"""

import argparse
import csv
import json
import pathlib
import statistics

import tables
from tables import row

NOT_YET = ["Not measured yet: this waits for a machine."]


def machine_lines(results):
    lines = [f"- {result['device']}, {result['cores']} CPU cores; {result['date']}" for result in results if result["kind"] == "machine"]
    return lines or NOT_YET


def numerics_lines(results):
    rows = []
    for result in results:
        if result["kind"] == "numerics":
            rounded = {"f32": "f32, factors rounded to 10 bits (TF32)", "bf16": "bf16"}
            name = rounded[result["precision"]] if result["tf32"] else "f32"
            rows.append(row([name, *(f"{result[figure]:.1e}" for figure in ("loss", "val_loss", "logits"))]))
    if not rows:
        return NOT_YET
    return ["| precision | training loss | validation loss | logits, in parts of the largest |", "| --- | --- | --- | --- |", *rows]


def step_lines(results):
    measured = [result for result in results if result["kind"] == "step" and "error" not in result]
    if not measured:
        return NOT_YET
    lines = []
    for depth, batch in sorted({(result["depth"], result["batch_size"]) for result in measured}):
        own = [result for result in measured if (result["depth"], result["batch_size"]) == (depth, batch)]
        lines += [f"**Depth {depth}, batch {batch}:**", ""]
        lines += ["| program | precision | step, ms | quartiles | n | images/s | time over ours (rounds) | first loss |"]
        lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
        kinds = dict.fromkeys((result["peer"], result["precision"]) for result in own)
        lines += [*(peer_row(*kind, own) for kind in kinds), ""]
    for result in results:
        if "error" in result:
            place = f"depth {result['depth']}, batch {result['batch_size']}, {result['precision']}, round {result['round']}"
            lines.append(f"- {result['peer']} ({place}) gave no result: `{result['error']}`")
    return lines


def peer_row(peer, precision, results):
    """A program's row; ratios are to ours of the same precision and round."""
    of_precision = [result for result in results if result["precision"] == precision]
    own = [result for result in of_precision if result["peer"] == peer]
    times = [time for result in own for time in result["times_ms"]]
    q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    ours = {result["round"]: result["step_ms"] for result in of_precision if result["peer"] == "ours"}
    ratios = [result["step_ms"] / ours[result["round"]] for result in own if result["round"] in ours]
    name = f"{own[0]['name']} {own[0]['version']}"
    rate = f"{own[0]['batch_size'] / median * 1e3:,.0f}"
    quartiles = f"{q1:.2f} to {q3:.2f}"
    cells = [name, precision, f"{median:.2f}", quartiles, len(times), rate, tables.spread_of(ratios), f"{own[0]['first_loss']:.4f}"]
    return row(cells)


def training_lines(run, results):
    history = run / "history.csv"
    epochs = list(csv.DictReader(history.read_text().splitlines())) if history.exists() else []
    if not epochs:
        return NOT_YET
    last = {name: float(value) for name, value in epochs[-1].items()}
    best = max(float(epoch["val_acc"]) for epoch in epochs)
    devices = {result["device"]: None for result in results if result["kind"] == "machine"}
    seconds = sum(float(epoch["seconds"]) for epoch in epochs)
    rate = statistics.median(float(epoch["images_per_sec"]) for epoch in epochs)
    cells = [len(epochs), f"{last['val_acc']:.2%}", f"{best:.2%}", f"{last['val_loss']:.3f}", f"{seconds / 60:.1f}", f"{rate:,.0f}", ", ".join(devices)]
    return [
        "| epochs | test accuracy | best epoch | loss | minutes | images/s | device |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        row(cells),
    ]


def write(document, parts):
    text = document.read_text()
    for name, lines in parts.items():
        text = tables.between_markers(text, name, lines)
    document.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=pathlib.Path)
    parser.add_argument("--docs", type=pathlib.Path, default=pathlib.Path(__file__).parents[2] / "docs")
    args = parser.parse_args()
    path = args.state / "results.jsonl"
    results = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    training = training_lines(args.state / "run", results)
    parts = {"machine": machine_lines(results), "numerics": numerics_lines(results), "steps": step_lines(results)}
    write(args.docs / "gpu.md", parts | {"training": training})
    write(args.docs / "accuracy.md", {"accelerator": training})


main()
