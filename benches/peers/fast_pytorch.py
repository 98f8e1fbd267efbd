"""Trains the network of `--preset fast` by its recipe in PyTorch, on the same images, and prints a line an epoch.

    resnet-xla fetch
    venv/bin/python benches/peers/fast_pytorch.py --data data/cifar-10-batches-bin [--precision bf16]

Network, first values, schedule, optimiser and augmentation are those of `resnet-xla --preset fast` (docs/numerics.md has
the formulas), but for the random numbers and for PyTorch's variances, which divide by n - 1. The test images are scored once, after the last epoch.
"""

import argparse
import pathlib
import time

import common
import numpy as np
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


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        parts = zip(images.split(1000), labels.split(1000))
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in parts)
    model.train()
    return right / len(images)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/cifar-10-batches-bin")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--lr", type=float, default=0.08)
    parser.add_argument("--rest-lr", type=float, default=0.5)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="stop after so many steps, to time them")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(common.threads())
    random = torch.Generator().manual_seed(args.seed)

    parts = [load(args.data, f"data_batch_{number}.bin") for number in range(1, 6)]
    images, labels = (torch.cat(part) for part in zip(*parts))
    mean, deviation = (f(images, (0, 2, 3))[:, None, None] for f in (torch.mean, torch.std))
    images = (images - mean) / deviation
    model = network()
    whiten(model[0], images)
    model = model.to(memory_format=torch.channels_last).train()
    kernels = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)][1:]
    rest = [weight for weight in model.parameters() if all(weight is not kernel for kernel in kernels)]
    groups = [{"params": kernels, "hidden": True}, {"params": rest, "hidden": False}]
    optimiser = Muon(groups, dict(lr=args.lr, momentum=args.momentum, rest=args.rest_lr))
    flips = torch.rand(len(images), generator=random) < 0.5
    per_epoch = len(images) // BATCH
    total, step, begun = per_epoch * args.epochs, 0, time.perf_counter()
    for epoch in range(args.epochs):
        right = seen = 0
        for x, y in batches(images, labels, epoch, flips, random):
            for group in optimiser.param_groups:
                group["lr"] = args.lr * (total - step) / total
            with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
                logits = model(x)
                loss = F.cross_entropy(logits, y, label_smoothing=SMOOTHING)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            right += (logits.argmax(1) == y).sum().item()
            seen += len(y)
            step += 1
            if step == args.max_steps:
                print(f"{step} steps, loss {loss.item():.4f}, {(time.perf_counter() - begun) / step * 1e3:.0f} ms a step")
                return
        print(f"epoch {epoch + 1}: acc {right / seen:.4f}, {(time.perf_counter() - begun) / 60:.1f} minutes", flush=True)
    minutes = (time.perf_counter() - begun) / 60
    test_images, test_labels = load(args.data, "test_batch.bin")
    test_images = ((test_images - mean) / deviation).contiguous(memory_format=torch.channels_last)
    score = accuracy(model, test_images, test_labels)
    print(f"test accuracy {score:.4f}, {minutes:.1f} minutes of training, PyTorch {torch.__version__}, {args.precision}")


if __name__ == "__main__":
    main()
