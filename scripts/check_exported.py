"""Checks a model that `export` wrote, .onnx, .keras or .mlir, by its own programs: the same logits for the same pixels.

    python3 -m venv venv && venv/bin/pip install onnx==1.23.2 onnxruntime==1.32.0 keras==3.15.1 jax==0.10.2 numpy

    resnet-xla export --checkpoint runs/quick --out model.onnx
    resnet-xla eval --checkpoint runs/quick --precision f32 --dump-logits logits.npy
    venv/bin/python scripts/check_exported.py model.onnx logits.npy

    resnet-xla export --checkpoint runs/quick --out model.mlir --batch-size 100
    venv/bin/python scripts/check_exported.py model.mlir logits.npy

The images are those of the sample, or of another file of CIFAR-10's records with --records FILE. An ONNX model is also
given to ONNX's checker.
"""

import argparse
import json
import os
import pathlib
import sys
import zipfile

import numpy as np

SAMPLE = pathlib.Path(__file__).parents[1] / "assets/sample/test.bin"
TOLERANCE = 1e-5
BATCH = 100


def images(records, count):
    data = np.fromfile(records, np.uint8).reshape(-1, 3073)[:count]
    return data[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def onnx_model(path):
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    return names, lambda batch: session.run(["logits"], {"images": batch})[0]


def keras_model(path):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    model = keras.saving.load_model(path, compile=False)
    with zipfile.ZipFile(path) as archive:
        names = json.loads(archive.read("metadata.json"))["class_names"]
    return names, lambda batch: np.asarray(model(batch))


def stablehlo_program(path):
    import jax

    text = pathlib.Path(path).read_text()
    names = json.loads(text.splitlines()[0].removeprefix("// "))["class_names"]
    client = jax.devices("cpu")[0].client
    options = jax._src.compiler.get_compile_options(num_replicas=1, num_partitions=1)
    program = client.compile_and_load(text.encode(), client.devices()[:1], options)

    def run(batch):
        images = np.zeros((BATCH, *batch.shape[1:]), np.uint8)
        images[: len(batch)] = batch
        results = program.execute_sharded([jax.device_put(images)])
        return np.asarray(results.disassemble_into_single_device_arrays()[0][0])[: len(batch)]

    return names, run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="what `export` wrote: .onnx, .keras, or .mlir of 100 images")
    parser.add_argument("logits", help="what `eval --dump-logits` wrote of the same checkpoint")
    parser.add_argument("--records", default=SAMPLE, help="the images that were scored, as records of CIFAR-10")
    options = parser.parse_args()

    loaders = {".onnx": onnx_model, ".keras": keras_model, ".mlir": stablehlo_program}
    names, run = loaders[pathlib.Path(options.model).suffix](options.model)
    ours = np.load(options.logits)
    if len(names) != ours.shape[1]:
        sys.exit(f"{len(names)} class names, expected {ours.shape[1]}")
    pixels = images(options.records, len(ours))
    theirs = np.concatenate([run(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)])
    deviation = np.abs(ours - theirs).max() / np.abs(theirs).max()
    same = (ours.argmax(1) == theirs.argmax(1)).sum()
    print(f"{len(ours)} images: largest deviation {deviation:.1e} of the largest logit, {same} same predictions")
    if not deviation <= TOLERANCE:
        sys.exit(f"more than {TOLERANCE:.0e}")


main()
