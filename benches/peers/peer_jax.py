"""The training step in JAX with Flax (linen): one jitted function by automatic differentiation, state donated."""

import functools

import common
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp


class Unit(nn.Module):
    """BN-ReLU-conv three times beside a shortcut."""

    inputs: int
    outputs: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        inner = self.outputs // common.BOTTLENECK
        a1 = bn_relu("bn1", x, self.dtype)
        shortcut = x
        if self.inputs != self.outputs:
            shortcut = conv("shortcut", a1, self.outputs, self.dtype, stride=self.stride)
        y = conv("conv1", a1, inner, self.dtype, stride=self.stride)
        y = conv("conv2", bn_relu("bn2", y, self.dtype), inner, self.dtype, side=3)
        return conv("conv3", bn_relu("bn3", y, self.dtype), self.outputs, self.dtype) + shortcut


class Network(nn.Module):
    depth: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images):
        x = conv("conv_in", images, common.STEM_FILTERS, self.dtype, side=3)
        for name, inputs, outputs, stride in common.units(self.depth):
            x = Unit(inputs, outputs, stride, self.dtype, name=name)(x)
        x = bn_relu("bn_out", x, self.dtype).mean((1, 2))
        return nn.Dense(common.CLASSES, name="dense")(x)


def conv(name, x, filters, dtype, side=1, stride=1):
    return nn.Conv(filters, (side, side), stride, padding="SAME", use_bias=False, dtype=dtype, name=name)(x)


def bn_relu(name, x, dtype):
    norm = nn.BatchNorm(False, momentum=common.BN_MOMENTUM, epsilon=common.BN_EPSILON, dtype=dtype, name=name)
    return nn.relu(norm(x))


def with_first_weights(variables, depth):
    """`variables` with the weights of `common` in the places of their own."""
    theirs = {"gamma": "scale", "beta": "bias", "kernel": "kernel", "bias": "bias"}
    params = {}
    for name, values in common.first_weights(depth).items():
        path, kind = name.rsplit("/", 1)
        # A unit's name has a slash in it; its layers come after.
        parts = [path] if not path.startswith("stage") else path.rsplit("/", 1)
        params[(*parts, theirs[kind])] = values
    own = flax.traverse_util.flatten_dict(variables["params"])
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in params.items()}
    return flax.traverse_util.unflatten_dict(params)


def main():
    args = common.arguments(__doc__, precision=["f32", "bf16"])
    network = Network(args.depth, jnp.bfloat16 if args.precision == "bf16" else jnp.float32)
    images, labels = map(jnp.asarray, common.synthetic_batch(args.batch_size))
    variables = jax.jit(network.init)(jax.random.key(0), images[:1])
    params = jax.tree.map(jnp.asarray, with_first_weights(variables, args.depth))
    momentum = jax.tree.map(jnp.zeros_like, params)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state, images, labels):
        params, statistics, momentum = state

        def loss_of(params):
            inputs = {"params": params, "batch_stats": statistics}
            logits, updates = network.apply(inputs, images, mutable=["batch_stats"])
            log_likelihood = jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], axis=1)
            kernels = [value for value in jax.tree.leaves(params) if value.ndim > 1]
            penalty = common.L2 * sum(jnp.sum(kernel**2) for kernel in kernels)
            return penalty - log_likelihood.mean(), updates["batch_stats"]

        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        momentum = jax.tree.map(lambda v, g: common.MOMENTUM * v - common.LEARNING_RATE * g, momentum, gradients)
        params = jax.tree.map(jnp.add, params, momentum)
        return (params, statistics, momentum), loss

    state = (params, variables["batch_stats"], momentum)
    count = sum(value.size for value in jax.tree.leaves(params))

    def step():
        nonlocal state
        state, loss = train_step(state, images, labels)
        return loss

    common.measure(
        args,
        step,
        name="JAX with Flax",
        version=f"{jax.__version__}, flax {flax.__version__}",
        precision=args.precision,
        trainable_parameters=count,
    )


main()
