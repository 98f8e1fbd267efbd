"""How many 32x32 pictures `predict` classifies in a second: decoding, network and printing together.

    cargo build --release
    taskset -c 0,1 python3 benches/predict_speed.py

Trains ResNet-20 for a single step, writes the embedded sample's images as PNGs again and again (needs Pillow), and runs
`predict --jsonl` on some and on all of them: the difference leaves out the start of the program and its compilation. The
last line says how long the network took, the bound that is left when reading and printing cost nothing.
"""

import argparse
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
RECORD = 1 + 32 * 32 * 3


def write_pictures(folder, count):
    records = np.fromfile(ROOT / "assets/sample/train.bin", np.uint8).reshape(-1, RECORD)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    folder.mkdir()
    for number in range(count):
        Image.fromarray(images[number % len(images)]).save(folder / f"{number:05}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/resnet-xla")
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--more", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        train = "--depth 20 --dataset sample --max-steps 1 --eval-steps 1 --progress none --device cpu --out-dir"
        subprocess.run([args.program, *train.split(), root / "run"], check=True, capture_output=True)
        seconds = {}
        for count in (args.few, args.more):
            write_pictures(root / str(count), count)
            seconds[count] = []
        predict = [args.program, "predict", "--device", "cpu", "--precision", args.precision, "--jsonl", "--checkpoint", root / "run"]
        for _ in range(args.rounds):
            for count, times in seconds.items():
                start = time.perf_counter()
                command = [*predict, "--out", root / "picture.png", root / str(count)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                times.append(time.perf_counter() - start)
                assert len(done.stdout.splitlines()) == count
        few, more = (statistics.median(seconds[count]) for count in (args.few, args.more))
        rate = (args.more - args.few) / (more - few)
        print(f"{args.few} pictures: {few:.2f} s; {args.more}: {more:.2f} s; medians of {args.rounds}")
        print(f"predict, {args.precision}: {rate:.0f} images/s")
        # Of the last round: how much of the time the network took.
        print(*(line for line in done.stderr.splitlines() if "after the first batch" in line))


main()
