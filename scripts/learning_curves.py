"""Whether this program learns as Keras does: many short runs of both, and the chance that they differ by luck.

    python3 -m venv venv && venv/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.1 safetensors==0.8.0 scipy
    cargo build --release && target/release/resnet-xla fetch
    venv/bin/python scripts/learning_curves.py run runs/learning-curves --core 0 &
    venv/bin/python scripts/learning_curves.py run runs/learning-curves --core 1 &
    wait
    venv/bin/python scripts/learning_curves.py table runs/learning-curves

Every run trains depth 11 on CIFAR-10 by the tutorial's recipe for two epochs; the first of them is also a run of one
epoch, because its rate is the same. A run has a seed, an augmentation (the tutorial's, or none), who trains (this program
or Keras on TensorFlow) and whose first weights these are (of this program or of Keras, by the same seed): all of these
combined. An epoch has 390 whole batches of 128 images on both sides, all 10,000 test images are scored after it, and the
loss is the mean over the epoch with its L2 penalty.

`run` appends a line to FOLDER/results.jsonl for each run that ends, and skips those that are there. Several of them may
work on one folder: each takes a run that no other is at. Stopped, they go on where they were but for the runs they were at.
`table` prints means, standard errors and Welch's t as Markdown. `--steps 20` makes a run of seconds, to try all of it.
"""

import argparse
import csv
import fcntl
import importlib.metadata
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
SIDES = ["ours", "keras"]
AUGMENTS = ["keras", "none"]
DEPTH, BATCH, EPOCHS = 11, 128, 2
WHOLE_EPOCH = 390
LEARNING_RATE, MOMENTUM, L2 = 0.1, 0.9, 1e-4
FIGURES = ["loss", "acc", "val_loss", "val_acc"]
# Two means part when chance gives such a difference once in so many studies like this.
CHANCE = 0.05


def run_all(args):
    os.sched_setaffinity(0, {args.core})
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    args.folder.mkdir(parents=True, exist_ok=True)
    for seed, augment, trained_by, first in itertools.product(range(args.seeds), args.augments, args.trained_by, SIDES):
        run = {"seed": seed, "augment": augment, "trained_by": trained_by, "first_weights": first, "steps": args.steps}
        with lock_of(run, args.folder) as lock:
            if taken(lock) or run in [{key: done[key] for key in run} for done in results(args.folder)]:
                continue
            start = time.monotonic()
            weights = first_weights(first, seed, args)
            epochs = {"ours": train_ours, "keras": train_keras}[trained_by](run, weights, args)
            run |= {"epochs": epochs, "seconds": round(time.monotonic() - start, 1), "versions": versions(args)}
            with open(args.folder / "results.jsonl", "a") as file:
                file.write(json.dumps(run) + "\n")
            print(json.dumps(run), flush=True)


def lock_of(run, folder):
    (folder / "locks").mkdir(exist_ok=True)
    return open(folder / "locks" / "-".join(map(str, run.values())), "w")


def taken(lock):
    """Whether another process is at the run; it is this one's until `lock` is closed or the process ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def results(folder):
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def versions(args):
    program = subprocess.run([args.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    keras, tensorflow = map(importlib.metadata.version, ["keras", "tensorflow-cpu"])
    return f"{program}, Keras {keras} on TensorFlow {tensorflow}"


def first_weights(side, seed, args):
    """The file with the weights that `side` begins with."""
    path = args.folder / "first" / f"{side}-{seed}.safetensors"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = pathlib.Path(folder) / path.name
            {"ours": write_our_first_weights, "keras": write_keras_first_weights}[side](seed, made, args)
            made.rename(path)
    return path


def write_our_first_weights(seed, path, args):
    """Those of a run with a step so small that no weight moves. What it does change are zeros and statistics."""
    import keras_weights
    import numpy as np
    from safetensors.numpy import save_file

    train(seed, path.parent / "run", args, "--max-steps", 1, "--eval-steps", 1, "--lr", 1e-30)
    subprocess.run([args.program, "export", "--checkpoint", path.parent / "run", "--out", path], check=True, stdout=sys.stderr)
    tensors, info = keras_weights.read(path)
    for name, values in tensors.items():
        values[np.abs(values) < 1e-20] = 0
        if "/moving_" in name:
            values[:] = name.endswith("/moving_variance")
    save_file(tensors, path, {keras_weights.INFO_KEY: json.dumps(info)})


def write_keras_first_weights(seed, path, args):
    in_keras("keras-first-weights", {"seed": seed, "path": str(path)})


def train_ours(run, weights, args):
    options = ["--epochs", EPOCHS, "--augment", run["augment"], "--lr", LEARNING_RATE]
    if run["first_weights"] == "keras":
        options += ["--init-weights", weights]
    if run["steps"] < WHOLE_EPOCH:
        options += ["--steps-per-epoch", run["steps"], "--eval-steps", run["steps"]]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        train(run["seed"], pathlib.Path(folder) / "run", args, *options)
        with open(f"{folder}/run/history.csv") as file:
            return [{name: float(row[name]) for name in FIGURES} for row in csv.DictReader(file)]


def train(seed, out_dir, args, *options):
    """Runs this program by the tutorial's recipe."""
    command = [args.program, "--preset", "keras", "--depth", DEPTH, "--device", "cpu", "--precision", "f32", "--seed", seed]
    command += ["--data-dir", args.data_dir, "--out-dir", out_dir, "--progress", "none", *options]
    done = subprocess.run(list(map(str, command)), stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)


def train_keras(run, weights, args):
    return in_keras("keras-fit", run | {"weights": str(weights), "data_dir": str(args.data_dir)})


def in_keras(command, task):
    """What `command` prints, run in a process of its own: Keras's random numbers are then those of one run."""
    done = subprocess.run([sys.executable, __file__, command, json.dumps(task)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def keras_first_weights(task):
    import keras
    import keras_resnet
    import keras_weights

    keras.utils.set_random_seed(task["seed"])
    path = pathlib.Path(task["path"])
    model = path.with_suffix(".keras")
    keras_resnet.build(DEPTH, L2).save(model)
    keras_weights.from_keras(model, path)
    print("null")


def keras_fit(task):
    """Trains in Keras: `Model.fit`, once an epoch. The order of images is drawn here, not by Keras."""
    import keras
    import keras_weights
    import numpy as np
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    class Batches(keras.utils.PyDataset):
        def __init__(self, order):
            super().__init__()
            self.order = order[: task["steps"] * BATCH].reshape(-1, BATCH)

        def __len__(self):
            return len(self.order)

        def __getitem__(self, index):
            chosen = self.order[index]
            batch = images[chosen]
            if task["augment"] == "keras":
                batch = np.stack([generator.random_transform(image) for image in batch])
            return normalised(batch), labels[chosen]

    keras.utils.set_random_seed(task["seed"])
    order = np.random.default_rng(task["seed"])
    generator = ImageDataGenerator(width_shift_range=0.125, height_shift_range=0.125, horizontal_flip=True)
    images, labels = read(task["data_dir"], "data_batch_[1-5].bin")
    test_images, test_labels = read(task["data_dir"], "test_batch.bin")
    mean, deviation = images.mean((0, 1, 2), np.float64), images.std((0, 1, 2), np.float64)

    def normalised(batch):
        return ((batch - mean) / (deviation + 1e-6)).astype(np.float32)

    if task["steps"] < WHOLE_EPOCH:
        test_images, test_labels = test_images[: task["steps"] * BATCH], test_labels[: task["steps"] * BATCH]
    scored_on = normalised(test_images), test_labels
    model, _ = keras_weights.load(task["weights"])
    model.compile(
        optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("acc")],
        jit_compile=False,
    )
    epochs = []
    for _ in range(EPOCHS):
        batches = Batches(order.permutation(len(images)))
        history = model.fit(batches, validation_data=scored_on, validation_batch_size=BATCH, verbose=0).history
        epochs.append({name: history[name][0] for name in FIGURES})
    print(json.dumps(epochs))


def read(data_dir, pattern):
    """Images [N, 32, 32, 3], float32 from 0 to 255, and labels [N]."""
    import numpy as np

    files = sorted(pathlib.Path(data_dir).glob(f"**/{pattern}"))
    if not files:
        sys.exit(f"no {pattern} in {data_dir}; `resnet-xla fetch` puts them there")
    records = np.concatenate([np.fromfile(file, np.uint8) for file in files]).reshape(-1, 3073)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images, np.float32), records[:, 0].astype(np.int32)


def table(args):
    done = [result for result in results(args.folder) if result["steps"] == args.steps]
    if not done:
        sys.exit(f"no run of {args.steps} steps an epoch in {args.folder}")
    rows, chances = [], []
    for augment, epoch, figure in itertools.product(AUGMENTS, range(EPOCHS), FIGURES):

        def values(**of):
            wanted = of | {"augment": augment}
            return [r["epochs"][epoch][figure] for r in done if all(r[key] == value for key, value in wanted.items())]

        cells = [spread(values(trained_by=by, first_weights=first)) for by in SIDES for first in SIDES]
        for key in ("trained_by", "first_weights"):
            cell, chance = welch(values(**{key: "ours"}), values(**{key: "keras"}))
            cells.append(cell)
            chances += [] if chance is None else [(chance, f"{key} at {augment}, epoch {epoch + 1}, {figure}")]
        rows.append([augment, epoch + 1, figure, *cells])
    print("trained by / first weights: mean ± standard error (runs); Welch's t (degrees of freedom; chance)\n")
    head = ["augment", "epoch", "figure", *(f"{by} / {first}" for by in SIDES for first in SIDES)]
    head += ["trained by: ours - Keras's", "first weights: ours - Keras's"]
    for cells in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(map(str, cells)) + " |")
    if chances:
        print(f"\n{verdict(chances)}\n\n{done[-1]['versions']}")


def spread(values):
    if len(values) < 2:
        return "-"
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.4f} ± {error:.4f} ({len(values)})"


def welch(ours, theirs):
    """The difference of the means as a cell, and how likely chance alone makes it as large."""
    from scipy import stats

    if min(len(ours), len(theirs)) < 2:
        return "-", None
    test = stats.ttest_ind(ours, theirs, equal_var=False)
    difference = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    return f"{difference:+.4f}, t {test.statistic:+.2f} ({test.df:.0f}; {test.pvalue:.2g})", float(test.pvalue)


def verdict(chances):
    """The least chance, times the number of comparisons (Bonferroni): one of many is small by luck."""
    least, where = min(chances)
    corrected = min(1, least * len(chances))
    word = "more than chance allows" if corrected < CHANCE else "no more than chance allows"
    return f"Of {len(chances)} comparisons the least likely is {where}: {least:.2g}, times their number {corrected:.2g}. They part by {word}."


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in [("run", "make the runs that are not there yet"), ("table", "print what the runs say")]:
        command = commands.add_parser(name, help=does)
        command.add_argument("folder", type=pathlib.Path, help="folder of the study")
        command.add_argument("--steps", type=int, default=WHOLE_EPOCH, help="training steps of an epoch, to try it out")
    run = commands.choices["run"]
    run.add_argument("--seeds", type=int, default=10, help="seeds from 0 on")
    run.add_argument("--core", type=int, default=0, help="the processor to run on")
    run.add_argument("--augments", nargs="+", choices=AUGMENTS, default=AUGMENTS)
    run.add_argument("--trained-by", nargs="+", choices=SIDES, default=SIDES)
    run.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/resnet-xla")
    run.add_argument("--data-dir", type=pathlib.Path, default=ROOT / "data")
    run.set_defaults(does=run_all)
    commands.choices["table"].set_defaults(does=table)
    for name, does in [("keras-first-weights", keras_first_weights), ("keras-fit", keras_fit)]:
        command = commands.add_parser(name, help="a part of `run`, in a process of its own")
        command.add_argument("task", type=json.loads)
        command.set_defaults(does=lambda args, does=does: does(args.task))
    return parser.parse_args()


def main():
    args = arguments()
    args.does(args)


main()
