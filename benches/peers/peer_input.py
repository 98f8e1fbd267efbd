"""The input pipelines of others on one thread: Keras's ImageDataGenerator, torchvision's RandomCrop and flip.

Both get images that are decoded already; this program's rate has the decoding in it.
"""

import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import common
import numpy as np

IMAGES = 5000
MEAN = [127.5] * 3
STD = [73.9] * 3


def keras_batches(images, labels, batch_size):
    """Continuous shifts by up to an eighth, flips, featurewise normalisation: the tutorial's augmentation."""
    import keras
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(
        width_shift_range=0.125,
        height_shift_range=0.125,
        horizontal_flip=True,
        featurewise_center=True,
        featurewise_std_normalization=True,
    )
    generator.mean, generator.std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    flow = generator.flow(images.astype(np.float32), labels, batch_size=batch_size)
    return "Keras ImageDataGenerator", keras.__version__, lambda: next(flow)


def torchvision_batches(images, labels, batch_size):
    """Crops out of 4 pixels of padding, flips, normalisation: what CIFAR-10 scripts in PyTorch do."""
    import torch
    import torchvision
    from PIL import Image
    from torchvision import transforms

    torch.set_num_threads(1)
    transform = transforms.Compose([
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([mean / 255 for mean in MEAN], [std / 255 for std in STD]),
    ])

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return transform(Image.fromarray(images[index])), int(labels[index])

    loader = torch.utils.data.DataLoader(Images(), batch_size, shuffle=True, drop_last=True)

    def endless():
        while True:
            yield from loader

    batches = endless()
    return "torchvision crop and flip", torchvision.__version__, lambda: next(batches)


def main():
    args = common.arguments(__doc__, library=["keras", "torchvision"])
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, common.SIDE, common.SIDE, 3), np.uint8)
    labels = np.arange(IMAGES) % common.CLASSES
    make = keras_batches if args.library == "keras" else torchvision_batches
    name, version, next_batch = make(images, labels, args.batch_size)
    rates = []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        batch, _ = next_batch()
        rates.append(len(batch) / (time.perf_counter() - start))
    timed = rates[args.warmup :]
    q1, median, q3 = statistics.quantiles(timed, n=4, method="inclusive")
    report = {
        "name": name,
        "version": version,
        "threads": 1,
        "batch_size": args.batch_size,
        "n": len(timed),
        "images_per_sec": median,
        "images_per_sec_q1": q1,
        "images_per_sec_q3": q3,
    }
    print(json.dumps(report))


main()
