"""The training step in plain Flax, compiled for TPU chips that are not there; prints the compiler's numbers as JSON.

ResNet-164 (or --depth N) written the way a Flax user would write it: linen modules, jax.grad, optax SGD, the batch split
over the chips by sharding, so that batch norm is synchronised. compare_tpu.py puts it beside this program's step.

    python3 -m venv venv && venv/bin/pip install -r benches/peers/requirements-tpu.txt
    venv/bin/python benches/peers/jax_tpu_compile.py --target v5e:2x4

Needs no accelerator.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import re
import time

# Without these libtpu asks a cloud metadata server for minutes.
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-8"
os.environ["JAX_PLATFORMS"] = "cpu"

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

L2 = 1e-4


class Unit(nn.Module):
    outputs: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(
            nn.BatchNorm, use_running_average=False, momentum=0.99, epsilon=1e-3, dtype=self.dtype
        )
        conv = functools.partial(
            nn.Conv, use_bias=False, padding="SAME", dtype=self.dtype, kernel_init=nn.initializers.he_normal()
        )
        inner = self.outputs // 4
        a = nn.relu(norm()(x))
        y = conv(inner, (1, 1), self.stride)(a)
        y = conv(inner, (3, 3))(nn.relu(norm()(y)))
        y = conv(self.outputs, (1, 1))(nn.relu(norm()(y)))
        if x.shape[-1] != self.outputs:
            x = conv(self.outputs, (1, 1), self.stride)(a)
        return x + y


class ResNet(nn.Module):
    depth: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (3, 3), use_bias=False, dtype=self.dtype)(x.astype(self.dtype))
        for stage, outputs in enumerate([64, 128, 256]):
            for unit in range((self.depth - 2) // 9):
                x = Unit(outputs, 2 if stage > 0 and unit == 0 else 1, self.dtype)(x)
        x = nn.BatchNorm(use_running_average=False, momentum=0.99, epsilon=1e-3, dtype=self.dtype)(x)
        x = jnp.mean(nn.relu(x), axis=(1, 2))
        return nn.Dense(10)(x.astype(jnp.float32))


def make_step(model, tx):
    def step(params, stats, velocity, images, labels, learning_rate):
        def loss_of(params):
            logits, updates = model.apply(
                {"params": params, "batch_stats": stats}, images, mutable=["batch_stats"]
            )
            cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            kernels = [p for p in jax.tree.leaves(params) if p.ndim > 1]
            penalty = L2 * sum(jnp.sum(k * k) for k in kernels)
            accuracy = jnp.mean(jnp.argmax(logits, -1) == labels)
            return jnp.mean(cross_entropy) + penalty, (updates["batch_stats"], accuracy)

        (loss, (new_stats, accuracy)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, new_velocity = tx.update(gradients, velocity)
        updates = jax.tree.map(lambda u: -learning_rate * u, updates)
        return optax.apply_updates(params, updates), new_stats, new_velocity, loss, accuracy

    return step


def compile_flax(target, depth, batch, dtype):
    """Compiles the Flax step; returns its numbers."""
    # The two cores of a v4 chip work as one device, as a run finds it.
    options = {"chip_config_name": "megacore"} if target.startswith("v4:") else {}
    topology = topologies.get_topology_desc(target, platform="tpu", **options)
    chips = len(topology.devices)
    mesh = Mesh(np.array(topology.devices), ("batch",))
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("batch"))

    model = ResNet(depth, dtype)
    tx = optax.trace(decay=0.9)
    images = jax.ShapeDtypeStruct((batch * chips, 32, 32, 3), jnp.float32, sharding=split)
    labels = jax.ShapeDtypeStruct((batch * chips,), jnp.int32, sharding=split)
    rate = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    everywhere = lambda tree: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), tree
    )
    params, stats = everywhere(variables["params"]), everywhere(variables["batch_stats"])
    velocity = everywhere(jax.eval_shape(tx.init, params))

    step = jax.jit(make_step(model, tx), donate_argnums=(0, 1, 2))
    lowered = step.lower(params, stats, velocity, images, labels, rate)
    start = time.time()
    compiled = lowered.compile()
    seconds = time.time() - start
    text = compiled.as_text()
    memory = compiled.memory_analysis()
    cost = compiled.cost_analysis()
    numbers = {
        "compile_s": seconds,
        "cycles": sum(int(n) for n in re.findall(r'"estimated_cycles":"(\d+)"', text)),
        "temporaries": memory.temp_size_in_bytes,
        "total": memory.temp_size_in_bytes
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.generated_code_size_in_bytes,
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "all_reduces": len(re.findall(r"= \S.* all-reduce(?:-start)?\(", text)),
        "versions": {name: importlib.metadata.version(name) for name in ("libtpu", "jax", "flax")},
    }
    if " while(" in text:
        raise SystemExit("the Flax program has loops: its cycles cannot be added up line by line")
    return numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="v5e:2x4")
    parser.add_argument("--depth", type=int, default=164)
    parser.add_argument("--batch-per-chip", type=int, default=128)
    parser.add_argument("--precision", choices=["bf16", "f32"], default="bf16")
    args = parser.parse_args()
    dtype = jnp.bfloat16 if args.precision == "bf16" else jnp.float32
    print(json.dumps(compile_flax(args.target, args.depth, args.batch_per_chip, dtype)))


main()
