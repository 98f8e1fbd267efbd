"""The training step in PyTorch: eager or compiled, channels_last or contiguous, float32 or autocast to bfloat16."""

import common
import torch
from torch import nn
from torch.nn import functional as F


class Unit(nn.Module):
    """BN-ReLU-conv three times beside a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        inner = outputs // common.BOTTLENECK
        self.bn1, self.conv1 = batch_norm(inputs), conv(inputs, inner, stride=stride)
        self.bn2, self.conv2 = batch_norm(inner), conv(inner, inner, side=3)
        self.bn3, self.conv3 = batch_norm(inner), conv(inner, outputs)
        self.shortcut = conv(inputs, outputs, stride=stride) if inputs != outputs else None

    def forward(self, x):
        a1 = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(a1)
        y = self.conv2(F.relu(self.bn2(self.conv1(a1))))
        return self.conv3(F.relu(self.bn3(y))) + shortcut


class Network(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.conv_in = conv(3, common.STEM_FILTERS, side=3)
        self.units = nn.ModuleDict()
        for name, inputs, outputs, stride in common.units(depth):
            self.units[name.replace("/", "_")] = Unit(inputs, outputs, stride)
        self.bn_out = batch_norm(common.STAGE_FILTERS[-1])
        self.dense = nn.Linear(common.STAGE_FILTERS[-1], common.CLASSES)

    def forward(self, images):
        x = self.conv_in(images)
        for unit in self.units.values():
            x = unit(x)
        return self.dense(F.relu(self.bn_out(x)).mean((2, 3)))


def conv(inputs, outputs, side=1, stride=1):
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)


def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=common.BN_EPSILON, momentum=1 - common.BN_MOMENTUM)


def load(network, weights):
    """Puts `weights`, named as in `common`, into the network."""
    ours_of = {"gamma": "weight", "beta": "bias", "kernel": "weight", "bias": "bias"}
    state = {}
    for name, values in weights.items():
        path, kind = name.rsplit("/", 1)
        if path.startswith("stage"):
            stage, unit, layer = path.split("/")
            path = f"units.{stage}_{unit}.{layer}"
        if kind == "kernel":
            values = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values.T
        state[f"{path}.{ours_of[kind]}"] = torch.from_numpy(values.copy())
    missing = network.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys, missing
    assert all("running_" in key or "num_batches" in key for key in missing.missing_keys), missing


def main():
    choices = {"mode": ["eager", "compile"], "precision": ["f32", "bf16"], "device": ["cpu", "cuda"]}
    args = common.arguments(__doc__, **choices, layout=["channels_last", "contiguous"])
    layout = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}[args.layout]
    torch.set_num_threads(common.threads())
    network = Network(args.depth)
    load(network, common.first_weights(args.depth))
    network = network.to(args.device, memory_format=layout).train()
    kernels = [p for name, p in network.named_parameters() if p.ndim > 1]
    others = [p for name, p in network.named_parameters() if p.ndim == 1]
    # The derivative of 1e-4 * w^2 is 2e-4 * w.
    groups = [{"params": kernels, "weight_decay": 2 * common.L2}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=common.LEARNING_RATE, momentum=common.MOMENTUM, fused=True)
    images, labels = map(torch.from_numpy, common.synthetic_batch(args.batch_size))
    images = images.permute(0, 3, 1, 2).contiguous(memory_format=layout).to(args.device)
    labels = labels.long().to(args.device)
    model = torch.compile(network) if args.mode == "compile" else network
    # Weight decay makes its gradient; its value is only for the loss that is printed.
    penalty = common.L2 * sum(float((kernel.detach() ** 2).sum()) for kernel in kernels)

    def step():
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item() + penalty

    common.measure(
        args,
        step,
        name=f"PyTorch {args.mode}" + (", contiguous" if args.layout == "contiguous" else ""),
        version=torch.__version__,
        precision=args.precision,
        trainable_parameters=sum(p.numel() for p in network.parameters()),
    )


if __name__ == "__main__":
    main()
