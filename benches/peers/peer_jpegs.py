"""torchvision's loader on a folder of JPEGs on one core, decoding included, beside this program on the same files.

    venv/bin/python benches/peers/make_jpegs.py --photos china.jpg flower.jpg --out jpegs
    cargo build --release
    taskset -c 0 venv/bin/python benches/peers/peer_jpegs.py --jpegs jpegs

torchvision decodes each picture in each epoch; this program decodes it once, so the rate of a run depends on its epochs:
the table has it for several.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import torch
import torchvision
from PIL import Image
from torchvision import transforms

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = ROOT / "target/release/resnet-xla"
# Of ImageNet.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
EPOCHS = (1, 3, 10, 90)


def loader(paths, side, batch_size):
    """What the reference script of torchvision does with ImageNet's training images."""
    transform = transforms.Compose([
        transforms.RandomResizedCrop(side),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, index):
            with open(paths[index], "rb") as file:
                return transform(Image.open(file).convert("RGB")), 0

    return torch.utils.data.DataLoader(Pictures(), batch_size, shuffle=True)


def theirs(args, paths):
    """Images per second of each epoch but the first."""
    torch.set_num_threads(1)
    batches = loader(paths, args.image_size, args.batch_size)
    rates = []
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        images = sum(len(images) for images, _ in batches)
        rates.append(images / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def ours(args):
    options = ["--augment", "crop", "--batch-size", args.batch_size, "--epochs", args.rounds, "--image-size", args.image_size]
    command = [args.program, "bench", "--input", "--pictures", args.jpegs, "--json", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jpegs", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    paths = sorted(args.jpegs.glob("*.jpg"))
    mine, peer = ours(args), theirs(args, paths)
    decode, batch = 1 / mine["decode_images_per_sec"], 1 / mine["batch_images_per_sec"]
    print(f"{len(paths)} JPEGs at {args.image_size}, one core; torchvision {torchvision.__version__}: {peer:.0f} images/s")
    print(f"here: {1e3 * decode:.2f} ms to decode an image once, {1e3 * batch:.2f} ms for its place in a batch of each epoch")
    for epochs in EPOCHS:
        rate = epochs / (decode + epochs * batch)
        print(f"a run of {epochs:2} epochs: {rate:6.0f} images/s, {rate / peer:5.2f} times torchvision")


main()
