"""What the peers share: the network's tensors, the batch, the measurement and the object they print.

Every peer trains the network of scripts/keras_resnet.py on one synthetic batch, from the same first weights, and
prints one JSON object with the keys of `resnet-xla bench --json`.
"""

import argparse
import json
import os
import pathlib
import statistics
import time

import numpy as np

CLASSES = 10
SIDE = 32
STEM_FILTERS = 16
STAGE_FILTERS = (64, 128, 256)
BOTTLENECK = 4
L2 = 1e-4
LEARNING_RATE = 0.01
MOMENTUM = 0.9
BN_MOMENTUM = 0.99
BN_EPSILON = 1e-3


def units(depth):
    """(name, channels in, channels out, stride) of each bottleneck unit."""
    inputs = STEM_FILTERS
    for stage, filters in enumerate(STAGE_FILTERS, start=1):
        for index in range(1, (depth - 2) // 9 + 1):
            stride = 2 if stage > 1 and index == 1 else 1
            yield f"stage{stage}/unit{index:02}", inputs, filters, stride
            inputs = filters


def shapes(depth):
    """The shape of every weight by name: kernels HWIO, dense [in, out], vectors [channels]."""

    def conv(name, side, inputs, outputs):
        return {f"{name}/kernel": (side, side, inputs, outputs)}

    def bn(name, channels):
        return {f"{name}/gamma": (channels,), f"{name}/beta": (channels,)}

    all_shapes = conv("conv_in", 3, 3, STEM_FILTERS)
    for name, inputs, outputs, _ in units(depth):
        inner = outputs // BOTTLENECK
        all_shapes |= bn(f"{name}/bn1", inputs) | conv(f"{name}/conv1", 1, inputs, inner)
        all_shapes |= bn(f"{name}/bn2", inner) | conv(f"{name}/conv2", 3, inner, inner)
        all_shapes |= bn(f"{name}/bn3", inner) | conv(f"{name}/conv3", 1, inner, outputs)
        if inputs != outputs:
            all_shapes |= conv(f"{name}/shortcut", 1, inputs, outputs)
    last = STAGE_FILTERS[-1]
    return all_shapes | bn("bn_out", last) | {"dense/kernel": (last, CLASSES), "dense/bias": (CLASSES,)}


def first_weights(depth):
    """The weights that every peer, and `resnet-xla bench --init-weights`, starts from: name to float32 array."""
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in shapes(depth).items():
        if name.endswith("/kernel"):
            fan_in = np.prod(shape[:-1])
            weights[name] = (random.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        else:
            weights[name] = np.full(shape, name.endswith("/gamma"), np.float32)
    return weights


def write_first_weights(depth, path):
    """The first weights of all, in the file that `bench --init-weights` reads."""
    # The peers themselves do without it.
    from safetensors.numpy import save_file

    weights = first_weights(depth)
    for name in [name for name in weights if name.endswith("/gamma")]:
        layer = name.removesuffix("/gamma")
        weights[f"{layer}/moving_mean"] = np.zeros_like(weights[name])
        weights[f"{layer}/moving_variance"] = np.ones_like(weights[name])
    save_file(weights, path)


def synthetic_batch(size):
    """Images [size, 32, 32, 3] and labels [size]: the batch of src/bench/step.rs, bit for bit."""
    bits = np.arange(size * SIDE * SIDE * 3, dtype=np.uint32)
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    bits ^= bits >> np.uint32(16)
    noise = (bits >> np.uint32(8)).astype(np.float32) * np.float32(2**-22) - np.float32(2)
    return noise.reshape(size, SIDE, SIDE, 3), np.arange(size, dtype=np.int32) % CLASSES


def arguments(description, **choices):
    """The options of a peer; `choices` adds options that take one of a list, by default the first."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--depth", type=int, default=164)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="steps to time")
    parser.add_argument("--warmup", type=int, default=3, help="steps before those, the first of which compiles")
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    return parser.parse_args()


def threads():
    """Processors this process may run on: limit them with `taskset`."""
    return len(os.sched_getaffinity(0))


def peak_rss_mb():
    """The most memory that this process ever had resident, in 10^6 bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def measure(args, step, **facts):
    """Times `step`, which trains once and returns the loss as a number, and prints the result with `facts`."""
    times, losses = [], []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        losses.append(float(step()))
        times.append((time.perf_counter() - start) * 1e3)
    timed = times[args.warmup :]
    q1, median, q3 = statistics.quantiles(timed, n=4, method="inclusive") if len(timed) > 1 else timed * 3
    report = facts | {
        "threads": threads(),
        "depth": args.depth,
        "batch_size": args.batch_size,
        "warmup_steps": args.warmup,
        "n": len(timed),
        "step_ms": median,
        "step_ms_q1": q1,
        "step_ms_q3": q3,
        "times_ms": timed,
        "images_per_sec": args.batch_size / median * 1e3,
        # What the first step took longer than the others.
        "compile_s": max(0, times[0] - median) / 1e3,
        "peak_rss_mb": peak_rss_mb(),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }
    print(json.dumps(report))
