"""Moves weights between this program and Keras.

    python3 -m venv venv && venv/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.1 safetensors==0.8.0

    resnet-xla export --checkpoint runs/keras --out weights.safetensors
    venv/bin/python scripts/keras_weights.py to-keras weights.safetensors model.keras

    venv/bin/python scripts/keras_weights.py from-keras model.keras weights.safetensors
    resnet-xla --init-weights weights.safetensors          # train on
    resnet-xla eval --checkpoint weights.safetensors       # or score, or predict

    resnet-xla eval --checkpoint weights.safetensors --dump-logits logits.npy
    venv/bin/python scripts/keras_weights.py check weights.safetensors logits.npy

`resnet-xla export --out model.keras` needs no script: that model takes raw pixels. The one of `to-keras` takes normalised
ones, and can be a .h5 file.

No value is changed on the way, in either direction. A model of any layer names will do if it is the tutorial's
network: layers are paired by their place in it. Keras's optimizer state does not travel.
"""

import argparse
import json
import pathlib
import sys

import keras
import keras_resnet
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

INFO_KEY = "resnet-xla"
# Of CIFAR-10's training images.
NORMALIZATION = {"mean": [125.3069, 122.9504, 113.8654], "std": [62.9932, 62.0887, 66.7049]}
SAMPLE = pathlib.Path(__file__).parents[1] / "assets/sample/test.bin"
TOLERANCE = 1e-4


def read(path):
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[INFO_KEY])


def load(path):
    """The Keras model of the weights at `path`, and what the file says of itself."""
    tensors, info = read(path)
    if info.get("model", "resnet-v2") != "resnet-v2":
        sys.exit(f"{path}: the network is `{info['model']}`; only resnet-v2 can be converted to Keras")
    if spec := info.get("spec"):
        keras_resnet.SIDE, keras_resnet.CLASSES = spec["side"], len(spec["class_names"])
    model = keras_resnet.build(info["depth"], info["l2"])
    for name, variable in keras_resnet.variables(model).items():
        variable.assign(tensors[name])
    return model, info


def layers_by_place(model):
    """The layers that have weights: main convolutions, shortcuts, batch norms and dense, each from input to output."""
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    narrowest = {}
    for layer in convolutions:
        known = narrowest.get(id(layer.input), layer.filters)
        narrowest[id(layer.input)] = min(known, layer.filters)
    # A shortcut has the same input as a unit's first convolution, and more filters.
    shortcuts = [layer for layer in convolutions if layer.filters > narrowest[id(layer.input)]]
    return {
        "convolution": [layer for layer in convolutions if layer not in shortcuts],
        "shortcut": shortcuts,
        "batch norm": [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)],
        "dense": [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)],
    }


def pairs(model, ours):
    """Each layer of `model` beside the layer of `ours` in the same place."""
    theirs, ours = layers_by_place(model), layers_by_place(ours)
    for kind, layers in ours.items():
        if len(theirs[kind]) != len(layers):
            sys.exit(f"not the tutorial's network: {len(theirs[kind])} {kind} layers, expected {len(layers)}")
        for layer, own in zip(theirs[kind], layers):
            found, expected = ([tuple(v.shape) for v in one.weights] for one in (layer, own))
            if found != expected:
                sys.exit(f"layer {layer.name}: shapes {found}, expected {expected} as {own.name}")
            yield layer, own


def to_keras(weights, model):
    load(weights)[0].save(model)


def normalization(model):
    """Of the images that `model` takes: told by the layer that `resnet-xla export` begins with, or CIFAR-10's."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    if not layers:
        return NORMALIZATION
    scale, offset = np.array(layers[0].scale), np.array(layers[0].offset)
    return {"mean": (-offset / scale).tolist(), "std": (1 / scale - 1e-6).tolist()}


def from_keras(model, weights):
    model = keras.saving.load_model(model, compile=False)
    # Every layer but the stem's convolution and the dense one follows a batch norm, and so does the pooling.
    depth = len(layers_by_place(model)["batch norm"]) + 1
    try:
        ours = keras_resnet.build(depth)
    except ValueError as error:
        sys.exit(f"not the tutorial's network: {error}")
    tensors = {}
    for layer, own in pairs(model, ours):
        place = own.name.replace(".", "/")
        tensors |= {f"{place}/{variable.name}": variable.numpy() for variable in layer.weights}
    regularizer = layers_by_place(model)["convolution"][0].kernel_regularizer
    info = {
        "depth": depth,
        "l2": float(regularizer.l2) if regularizer else 0.0,
        "dataset": "cifar10",
        "normalization": normalization(model),
    }
    save_file(tensors, weights, {INFO_KEY: json.dumps(info)})
    print(f"{weights}: depth {depth}, {len(tensors)} tensors")


def test_file(dataset, data_dir):
    if dataset == "sample":
        return SAMPLE
    nested = data_dir / "cifar-10-batches-bin" / "test_batch.bin"
    return nested if nested.exists() else data_dir / "test_batch.bin"


def check(weights, logits, data_dir):
    model, info = load(weights)
    ours = np.load(logits)
    records = np.fromfile(test_file(info["dataset"], data_dir), np.uint8).reshape(-1, 3073)[: len(ours)]
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    mean, std = (np.array(info["normalization"][key], np.float32) for key in ("mean", "std"))
    theirs = model.predict((pixels - mean) / (std + np.float32(1e-6)), batch_size=128, verbose=0)
    deviation = np.abs(ours - theirs).max() / np.abs(theirs).max()
    same = (ours.argmax(1) == theirs.argmax(1)).sum()
    print(f"{len(ours)} images: largest deviation {deviation:.1e} of the largest logit, {same} same predictions")
    if not deviation <= TOLERANCE:
        sys.exit(f"more than {TOLERANCE:.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("to-keras", help="write a Keras model with the weights of an exported file")
    command.add_argument("weights", help="a .safetensors file that `export` wrote")
    command.add_argument("model", help="the .keras or .h5 file to write")
    command = commands.add_parser("from-keras", help="write the weights of a Keras model, for --init-weights")
    command.add_argument("model", help="a .keras or .h5 file")
    command.add_argument("weights", help="the .safetensors file to write")
    command = commands.add_parser("check", help="compare the logits of both programs")
    command.add_argument("weights", help="a .safetensors file")
    command.add_argument("logits", help="what `eval --checkpoint WEIGHTS --dump-logits` wrote")
    command.add_argument("--data-dir", type=pathlib.Path, default="data", help="folder of the CIFAR-10 files")
    options = vars(parser.parse_args())
    {"to-keras": to_keras, "from-keras": from_keras, "check": check}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
