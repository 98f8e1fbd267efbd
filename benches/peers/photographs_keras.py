"""Trains on a folder of pictures in Keras as this program does, and prints accuracy and time of both.

    python benches/peers/make_photographs.py --wheel scikit_image-0.26.0-*.whl --out photographs
    cargo build --release
    taskset -c 0,1 venv/bin/python benches/peers/photographs_keras.py --pictures photographs

The same job: ResNet-20 v2 of scripts/keras_resnet.py on images of 32 x 32, SGD with momentum, steps of the learning rate,
shifts and flips, batches of 32. Keras reads the pictures anew in each epoch unless they are cached, so they are.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import keras_resnet

DEPTH, SIDE, BATCH = 20, 32, 32
RATE, MOMENTUM = 0.05, 0.9
SHIFT = 0.125
# There are few steps: with the usual 0.99 the statistics would lag behind.
BN_MOMENTUM = 0.9


def theirs(args):
    """Test accuracy, seconds of training, and seconds of all."""
    start = time.perf_counter()

    def images(part):
        options = {"image_size": (SIDE, SIDE), "crop_to_aspect_ratio": True, "batch_size": None, "verbose": False}
        dataset = keras.utils.image_dataset_from_directory(args.pictures / part, **options)
        pairs = list(dataset.as_numpy_iterator())
        return np.stack([pixels for pixels, _ in pairs]), np.array([label for _, label in pairs])

    (x, y), (x_test, y_test) = images("train"), images("test")
    mean, std = x.mean((0, 1, 2)), x.std((0, 1, 2))
    x, x_test = (x - mean) / std, (x_test - mean) / std
    keras_resnet.CLASSES = int(y.max()) + 1
    model = keras_resnet.build(DEPTH)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BN_MOMENTUM
    shifted = keras.Sequential([
        keras.layers.RandomTranslation(SHIFT, SHIFT, fill_mode="nearest"),
        keras.layers.RandomFlip("horizontal"),
        model,
    ])
    shifted.compile(
        keras.optimizers.SGD(RATE, momentum=MOMENTUM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    drops = {args.epochs * 2 // 3: RATE / 10}
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: drops.get(epoch, rate))
    training = time.perf_counter()
    shifted.fit(x, y, BATCH, args.epochs, verbose=0, callbacks=[schedule], validation_data=(x_test, y_test))
    end = time.perf_counter()
    accuracy = shifted.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]
    return accuracy, end - training, end - start


def ours(args):
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        options = f"--dataset folder --image-size {SIDE} --depth {DEPTH} --batch-size {BATCH} --epochs {args.epochs}"
        options += f" --lr {RATE} --lr-drops {args.epochs * 2 // 3}:{RATE / 10} --bn-momentum {BN_MOMENTUM} --progress none --device cpu"
        command = [args.program, *options.split(), "--data-dir", args.pictures, "--out-dir", out]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        result = json.loads((out / "result.json").read_text())
        rows = (out / "history.csv").read_text().splitlines()
    seconds = rows[0].split(",").index("seconds")
    training = sum(float(row.split(",")[seconds]) for row in rows[1:])
    return result["val_acc"], training, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/resnet-xla")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    keras.utils.set_random_seed(args.seed)
    for name, job in (("resnet-xla", ours), (f"Keras {keras.__version__}", theirs)):
        accuracy, training, everything = job(args)
        print(f"{name}: {100 * accuracy:.1f} % of the test pictures, {training:.0f} s of training, {everything:.0f} s in all", flush=True)


main()
