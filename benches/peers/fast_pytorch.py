"""Trains the network of `--preset fast` by its recipe in PyTorch, on the same images, and prints a line an epoch.

    resnet-xla fetch
    venv/bin/python benches/peers/fast_pytorch.py --out-dir runs/fast-pytorch-0 [--precision bf16] [--seed 1]

Network, first values, schedule, optimiser and augmentation are those of `resnet-xla --preset fast` (docs/numerics.md has
the formulas), but for the random numbers and for PyTorch's variances, which divide by n - 1. The test images are scored once,
after the last epoch, as they are and with their mirror images.

The folder gets a row of history.csv after each epoch, and result.json at the end. A run that was stopped goes on from its last
whole epoch when the same command is given again. Its seconds are those of training alone.
"""

import argparse
import csv
import json
import os
import pathlib
import sys
import time

import common
import numpy as np
import tables
import torch
from torch import nn
from torch.nn import functional as F

WIDTHS = (128, 256, 384)
STEM = 32
BATCH = 512
SHIFT = 2
CUTOUT = 12
SMOOTHING = 0.2
BN_MOMENTUM = 0.9
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ROUNDS = 3


class Pre(nn.Module):
    """BN-ReLU-conv 3x3; then max pooling, or the input added."""

    def __init__(self, inputs, outputs, pools):
        super().__init__()
        self.pools = pools
        self.bn = nn.BatchNorm2d(inputs, eps=common.BN_EPSILON, momentum=1 - BN_MOMENTUM)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv(F.relu(self.bn(x)))
        return F.max_pool2d(y, 2) if self.pools else x + y


def network():
    layers, inputs = [nn.Conv2d(3, STEM, 3, padding=1, bias=False)], STEM
    for width in WIDTHS:
        layers += [Pre(inputs, width, pools=True), Pre(width, width, pools=False)]
        inputs = width
    last = nn.BatchNorm2d(inputs, eps=common.BN_EPSILON, momentum=1 - BN_MOMENTUM)
    head = [last, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, common.CLASSES)]
    model = nn.Sequential(*layers, *head)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            # Keras's he_normal: truncated at two deviations, and scaled so that the variance stays 2 / fan_in.
            deviation = (2 / module.weight[0].numel()) ** 0.5 / 0.879625661034239
            nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def whiten(conv, images):
    """Filters along the eigenvectors of the covariance of 3x3 patches, and their negatives."""
    patches = images[:1000].unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 27).double()
    values, vectors = torch.linalg.eigh(torch.cov(patches.T, correction=0))
    half = conv.out_channels // 2
    values, vectors = values.flip(0)[:half], vectors.flip(1)[:, :half]
    filters = (vectors / (values + 5e-4).sqrt()).T.reshape(half, 3, 3, 3).float()
    conv.weight.data = torch.cat([filters, -filters])


def orthogonal(matrix):
    a, b, c = NEWTON_SCHULZ
    x = matrix / (matrix.norm() + 1e-7)
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """As xla_graphs/src/optimiser/muon.rs. Groups with `hidden` are kernels of hidden convolutions."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
                velocity.mul_(momentum).add_(weight.grad)
                direction = weight.grad.add(velocity, alpha=momentum)
                if group["hidden"]:
                    step = orthogonal(direction.reshape(len(direction), -1)).reshape(weight.shape)
                    weight.mul_(len(weight) ** 0.5 / weight.norm())
                    weight.sub_(step, alpha=rate)
                else:
                    weight.sub_(direction, alpha=rate * group["rest"])


def load(folder, name):
    raw = np.fromfile(pathlib.Path(folder) / name, np.uint8).reshape(-1, 3073)
    return torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32)), torch.from_numpy(raw[:, 0].astype(np.int64))


def batches(images, labels, epoch, flips, random):
    """Whole-pixel shifts with reflection; each image flipped in every other epoch; a square set to zero."""
    order = torch.randperm(len(images), generator=random)
    for start in range(0, len(images) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        padded = F.pad(images[chosen], (SHIFT,) * 4, mode="reflect")
        rows, columns = torch.randint(0, 2 * SHIFT + 1, (2, BATCH), generator=random)
        grid = torch.arange(32)
        rows = (rows[:, None] + grid)[:, None, :, None]
        columns = (columns[:, None] + grid)[:, None, None, :]
        moved = padded[torch.arange(BATCH)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns]
        flip = (flips[chosen] ^ bool(epoch % 2))[:, None, None, None]
        moved = torch.where(flip, moved.flip(3), moved)
        moved = moved.masked_fill(square(random), 0)
        yield moved.contiguous(memory_format=torch.channels_last), labels[chosen]


def square(random):
    """Where the square of each image is, its centre on any pixel, the border cutting it: [batch, 1, 32, 32]."""
    first = torch.randint(0, 32, (2, BATCH, 1), generator=random) - CUTOUT // 2
    at = torch.arange(32)
    rows, columns = (first <= at) & (at < first + CUTOUT)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def accuracies(model, images, labels):
    """Of the images alone, and of the mean logits of image and mirror image."""
    model.eval()
    plain = flipped = 0
    with torch.no_grad():
        for x, y in zip(images.split(1000), labels.split(1000)):
            logits, mirrored = model(x), model(x.flip(3).contiguous(memory_format=torch.channels_last))
            plain += (logits.argmax(1) == y).sum().item()
            flipped += ((logits + mirrored).argmax(1) == y).sum().item()
    return plain / len(images), flipped / len(images)


class Data:
    """Images [N, 3, 32, 32], normalised by the mean and deviation of the training images, and labels."""

    def __init__(self, folder):
        parts = [load(folder, f"data_batch_{number}.bin") for number in range(1, 6)]
        images, self.labels = (torch.cat(part) for part in zip(*parts))
        mean, deviation = (f(images, (0, 2, 3))[:, None, None] for f in (torch.mean, torch.std))
        self.images = (images - mean) / deviation
        test_images, self.test_labels = load(folder, "test_batch.bin")
        self.test_images = ((test_images - mean) / deviation).contiguous(memory_format=torch.channels_last)


class Run:
    """A run between two epochs: all that the next one depends on."""

    def __init__(self, args, data):
        torch.manual_seed(args.seed)
        self.args, self.data = args, data
        self.random = torch.Generator().manual_seed(args.seed)
        model = network()
        whiten(model[0], data.images)
        self.model = model.to(memory_format=torch.channels_last).train()
        kernels = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)][1:]
        rest = [weight for weight in model.parameters() if all(weight is not kernel for kernel in kernels)]
        groups = [{"params": kernels, "hidden": True}, {"params": rest, "hidden": False}]
        self.optimiser = Muon(groups, dict(lr=args.lr, momentum=args.momentum, rest=args.rest_lr))
        self.flips = torch.rand(len(data.images), generator=self.random) < 0.5
        self.per_epoch = len(data.images) // BATCH
        self.history = []

    def epoch(self):
        """Trains for one epoch. Returns early, with no row of the history, after `--max-steps` steps."""
        args, number = self.args, len(self.history)
        total, step = self.per_epoch * args.epochs, self.per_epoch * number
        right = seen = loss_sum = 0
        begun = time.perf_counter()
        for x, y in batches(self.data.images, self.data.labels, number, self.flips, self.random):
            rate = args.lr * (total - step) / total
            loss, hits = self.step(x, y, rate)
            loss_sum, right, seen, step = loss_sum + loss * len(y), right + hits, seen + len(y), step + 1
            if step == args.max_steps:
                print(f"{step} steps, loss {loss:.4f}, {(time.perf_counter() - begun) / step * 1e3:.0f} ms a step")
                return
        seconds = time.perf_counter() - begun
        self.history.append({"epoch": number, "loss": loss_sum / seen, "acc": right / seen, "lr": rate, "seconds": seconds})

    def step(self, x, y, rate):
        """The loss before the step, and how many of the images were right."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.precision == "bf16"):
            logits = self.model(x)
            loss = F.cross_entropy(logits, y, label_smoothing=SMOOTHING)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.item(), (logits.argmax(1) == y).sum().item()

    def settings(self):
        """What a run that goes on must have in common with its beginning."""
        names = ["epochs", "lr", "rest_lr", "momentum", "precision", "seed"]
        return {name: getattr(self.args, name) for name in names}

    def save(self, folder):
        state = {
            "settings": self.settings(),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": self.random.get_state(),
            "flips": self.flips,
            "history": self.history,
        }
        # Renamed when it is whole: a run may be stopped at any time.
        torch.save(state, folder / "checkpoint.tmp")
        os.replace(folder / "checkpoint.tmp", folder / "checkpoint.pt")
        with open(folder / "history.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, self.history[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)

    def go_on(self, folder):
        """Takes up the run in `folder`, if there is one."""
        if not (folder / "checkpoint.pt").exists():
            return
        state = torch.load(folder / "checkpoint.pt")
        if state["settings"] != self.settings():
            sys.exit(f"{folder} holds a run with {state['settings']}, and this one has {self.settings()}; take another --out-dir")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.random.set_state(state["random"])
        self.flips, self.history = state["flips"], state["history"]

    def result(self):
        plain, flipped = accuracies(self.model, self.data.test_images, self.data.test_labels)
        return self.settings() | {
            "acc": plain,
            "acc_flip": flipped,
            "train_acc": self.history[-1]["acc"],
            "minutes": sum(epoch["seconds"] for epoch in self.history) / 60,
            "torch": torch.__version__,
            "machine": tables.machine(),
            "threads": torch.get_num_threads(),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/cifar-10-batches-bin")
    parser.add_argument("--out-dir", type=pathlib.Path, help="folder of the run; without it nothing is kept")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--lr", type=float, default=0.08)
    parser.add_argument("--rest-lr", type=float, default=0.5)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="stop within the first epoch after so many steps, to time them")
    args = parser.parse_args()
    torch.set_num_threads(common.threads())
    run = Run(args, Data(args.data))
    if args.out_dir:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        run.go_on(args.out_dir)
    for number in range(len(run.history), args.epochs):
        run.epoch()
        if len(run.history) == number:
            return
        last = run.history[-1]
        print(f"epoch {number + 1}: loss {last['loss']:.4f}, acc {last['acc']:.4f}, {last['seconds']:.0f} s", flush=True)
        if args.out_dir:
            run.save(args.out_dir)
    result = run.result()
    print(json.dumps(result, indent=2))
    if args.out_dir:
        (args.out_dir / "result.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
