"""The Keras side of learning_curves.py: first weights, and runs of some epochs, as many as wanted in one process.

A process makes many runs because Keras needs seconds to start and to trace a model. Each run sets the seeds of all random
numbers, all weights and all state of the optimiser, so that those before it leave nothing.
"""

import importlib.metadata
import json
import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import keras_resnet
import keras_weights
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from safetensors.numpy import load_file, save_file

DEPTH, BATCH = 11, 128
LEARNING_RATE, MOMENTUM, L2 = 0.1, 0.9, 1e-4
FIGURES = ["loss", "acc", "val_loss", "val_acc"]
# Of one epoch, and of all test images.
ALL_STEPS = 390


class Trainer:
    """Trains depth 11 by the tutorial's recipe, `steps` an epoch, on the CIFAR-10 in `data_dir`."""

    def __init__(self, data_dir, steps):
        self.steps = steps
        images, self.labels = read(data_dir, "data_batch_[1-5].bin")
        test_images, test_labels = read(data_dir, "test_batch.bin")
        self.mean, self.deviation = images.mean((0, 1, 2), np.float64), images.std((0, 1, 2), np.float64)
        self.images = images
        scored = steps * BATCH if steps < ALL_STEPS else len(test_images)
        self.scored_on = self.normalised(test_images[:scored]), test_labels[:scored]
        self.model = keras_resnet.build(DEPTH, L2)
        self.model.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy("acc")],
            jit_compile=False,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.first_optimizer = [np.array(variable) for variable in self.model.optimizer.variables]

    def normalised(self, images):
        return ((images - self.mean) / (self.deviation + 1e-6)).astype(np.float32)

    def write_first_weights(self, seed, path):
        """Those that Keras draws by `seed`, in a file that `--init-weights` and `fit` read."""
        keras.utils.set_random_seed(seed)
        variables = keras_resnet.variables(keras_resnet.build(DEPTH, L2))
        tensors = {name: np.array(variable) for name, variable in variables.items()}
        info = {"depth": DEPTH, "l2": L2, "dataset": "cifar10", "normalization": keras_weights.NORMALIZATION}
        save_file(tensors, path, {keras_weights.INFO_KEY: json.dumps(info)})

    def fit(self, seed, augments, weights, epochs):
        """The figures after each epoch of `Model.fit` from `weights`. The order of images is drawn here, not by Keras."""
        self.reset(seed, weights)
        order = np.random.default_rng(seed)
        found = []
        for _ in range(epochs):
            chosen = order.permutation(len(self.images))[: self.steps * BATCH].reshape(-1, BATCH)
            batches = Batches(self, chosen, augments)
            history = self.model.fit(batches, validation_data=self.scored_on, validation_batch_size=BATCH, verbose=0).history
            found.append({name: history[name][0] for name in FIGURES})
        return found

    def reset(self, seed, weights):
        keras.utils.set_random_seed(seed)
        tensors = load_file(weights)
        for name, variable in keras_resnet.variables(self.model).items():
            variable.assign(tensors[name])
        for variable, first in zip(self.model.optimizer.variables, self.first_optimizer):
            variable.assign(first)

    def versions(self):
        return f"Keras {keras.__version__} on TensorFlow {importlib.metadata.version('tensorflow-cpu')}"


class Batches(keras.utils.PyDataset):
    """The images of `trainer` that `chosen` `[steps, BATCH]` names, augmented as the tutorial does if wanted."""

    def __init__(self, trainer, chosen, augments):
        super().__init__()
        self.trainer, self.chosen, self.augments = trainer, chosen, augments
        self.generator = ImageDataGenerator(width_shift_range=0.125, height_shift_range=0.125, horizontal_flip=True)

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, index):
        chosen = self.chosen[index]
        batch = self.trainer.images[chosen].astype(np.float32)
        if self.augments:
            batch = np.stack([self.generator.random_transform(image) for image in batch])
        return self.trainer.normalised(batch), self.trainer.labels[chosen]


def read(data_dir, pattern):
    """Images [N, 32, 32, 3] of bytes, and labels [N]."""
    files = sorted(pathlib.Path(data_dir).glob(f"**/{pattern}"))
    if not files:
        sys.exit(f"no {pattern} in {data_dir}; `resnet-xla fetch` puts them there")
    records = np.concatenate([np.fromfile(file, np.uint8) for file in files]).reshape(-1, 3073)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int32)
