"""Whether this program learns as Keras does: many short runs of both, and the chance that they differ by luck.

    python3 -m venv venv && venv/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.1 safetensors==0.8.0 scipy==1.18.0
    cargo build --release && target/release/resnet-xla fetch
    venv/bin/python scripts/learning_curves.py run --core 0 --minutes 40 &
    venv/bin/python scripts/learning_curves.py run --core 1 --minutes 40
    venv/bin/python scripts/learning_curves.py table

Every run trains depth 11 on CIFAR-10 by the tutorial's recipe for two epochs; the first of them is also a run of one
epoch, because its rate is the same. A run has a seed, an augmentation (the tutorial's, or none), who trains (this program
or Keras on TensorFlow) and whose first weights these are (of this program or of Keras, by the same seed). An epoch has 390
whole batches of 128 images on both sides, all 10,000 test images are scored after it, and the loss is the mean over the
epoch with its L2 penalty.

The runs come in two halves. In the first, both sides train by each of ten seeds, with and without augmentation: by even
seeds each from its own first weights, by odd ones each from the other's. These 40 runs answer the question: ten runs of each
side and ten from the first weights of each, for each augmentation. The second half, 40 more, exchanges the first weights
that the first did not.

`run` adds a line to docs/runs/learning-curves.csv for each run that ends, and makes no run that is there. Commit the file, and
any other machine goes on where this one stopped; `--minutes` is how long new runs are begun. Several of them may work at
once: each takes a run that no other is at. `table` prints means, standard errors and chances as Markdown. `--steps 20` makes
runs of seconds, to try all of it, with a file of results of their own.
"""

import argparse
import csv
import fcntl
import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "docs/runs/learning-curves.csv"
SIDES = ["ours", "keras"]
AUGMENTS = ["keras", "none"]
DEPTH, BATCH, EPOCHS = 11, 128, 2
WHOLE_EPOCH = 390
FIGURES = ["loss", "acc", "val_loss", "val_acc"]
RUN = ["seed", "augment", "trained_by", "first_weights"]
COLUMNS = [*RUN, *(f"{figure}_{epoch}" for epoch in range(1, EPOCHS + 1) for figure in FIGURES), "seconds", "versions"]
# Two sets of runs part when chance gives such a difference once in so many studies like this.
CHANCE = 0.05


def design(seeds):
    """All runs, in the order that they are made in."""
    for half, seed, augment, side in itertools.product(range(2), range(seeds), AUGMENTS, range(2)):
        first = SIDES[(side + seed + half) % 2]
        yield dict(zip(RUN, [str(seed), augment, SIDES[side], first]))


def run_all(args):
    os.sched_setaffinity(0, {args.core})
    args.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    keras = Keras(args)
    for run in design(args.seeds):
        if args.minutes is not None and time.monotonic() - begun > 60 * args.minutes:
            return
        with lock_of(run, args.folder) as lock:
            if run["trained_by"] not in args.trained_by or taken(lock) or is_done(run, args.results):
                continue
            start = time.monotonic()
            epochs = train_ours(run, keras, args) if run["trained_by"] == "ours" else train_keras(run, keras, args)
            figures = {f"{name}_{number}": f"{epoch[name]:.6f}" for number, epoch in enumerate(epochs, 1) for name in FIGURES}
            seconds = f"{time.monotonic() - start:.0f}"
            add(args.results, run | figures | {"seconds": seconds, "versions": versions(run, keras, args)})
            print(run, figures, seconds, "s", flush=True)


class Keras:
    """The module that trains in Keras, imported when it is first used: this takes seconds, and Keras shows what it finds."""

    def __init__(self, args):
        self.trainer = None
        self.args = args

    def __call__(self):
        if self.trainer is None:
            import learning_curves_keras

            self.trainer = learning_curves_keras.Trainer(self.args.data_dir, self.args.steps)
        return self.trainer


def lock_of(run, folder):
    (folder / "locks").mkdir(exist_ok=True)
    return open(folder / "locks" / "-".join(run.values()), "w")


def taken(lock):
    """Whether another process is at the run; it is this one's until `lock` is closed or the process ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def results(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def is_done(run, path):
    return any(all(result[name] == value for name, value in run.items()) for result in results(path))


def add(path, result):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if os.fstat(file.fileno()).st_size == 0:
            writer.writeheader()
        writer.writerow(result)


def versions(run, keras, args):
    """Of what trained."""
    if run["trained_by"] == "keras":
        return keras().versions()
    return subprocess.run([args.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def first_weights(run, keras, args):
    """The file with the first weights of the run."""
    side, seed = run["first_weights"], run["seed"]
    path = args.folder / "first" / f"{side}-{seed}.safetensors"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = pathlib.Path(folder) / path.name
            if side == "ours":
                write_our_first_weights(seed, made, args)
            else:
                keras().write_first_weights(int(seed), made)
            made.rename(path)
    return path


def write_our_first_weights(seed, path, args):
    """Those of a run with a step so small that no weight moves. What it does change are zeros and statistics."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    train(seed, path.parent / "run", args, "--max-steps", 1, "--eval-steps", 1, "--lr", 1e-30)
    subprocess.run([args.program, "export", "--checkpoint", path.parent / "run", "--out", path], check=True, stdout=sys.stderr)
    tensors = load_file(path)
    for name, values in tensors.items():
        values[np.abs(values) < 1e-20] = 0
        if "/moving_" in name:
            values[:] = name.endswith("/moving_variance")
    save_file(tensors, path)


def train_ours(run, keras, args):
    options = ["--epochs", EPOCHS, "--augment", run["augment"]]
    if run["first_weights"] == "keras":
        options += ["--init-weights", first_weights(run, keras, args)]
    if args.steps < WHOLE_EPOCH:
        options += ["--steps-per-epoch", args.steps, "--eval-steps", args.steps]
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


def train_keras(run, keras, args):
    weights = first_weights(run, keras, args)
    return keras().fit(int(run["seed"]), run["augment"] == "keras", weights, EPOCHS)


def table(args):
    done = results(args.results)
    if not done:
        sys.exit(f"no run in {args.results}; `learning_curves.py run` makes them")
    rows, chances = [], []
    for augment, epoch, figure in itertools.product(AUGMENTS, range(1, EPOCHS + 1), FIGURES):

        def values(**of):
            wanted = of | {"augment": augment}
            return [float(r[f"{figure}_{epoch}"]) for r in done if all(r[key] == value for key, value in wanted.items())]

        cells = [spread(values(trained_by=by, first_weights=first)) for by in SIDES for first in SIDES]
        for key in ("trained_by", "first_weights"):
            cell, chance = compared(values(**{key: "ours"}), values(**{key: "keras"}))
            cells.append(cell)
            chances += [] if chance is None else [(chance, f"{key} at {augment}, epoch {epoch}, {figure}")]
        rows.append([augment, epoch, figure, *cells])
    print("trained by / first weights: mean ± standard error (runs); differences with the chance of the rank test\n")
    head = ["augment", "epoch", "figure", *(f"{by} / {first}" for by in SIDES for first in SIDES)]
    head += ["trained by: ours - Keras's", "first weights: ours - Keras's"]
    for cells in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(map(str, cells)) + " |")
    if chances:
        print(f"\n{verdict(chances)}")
    print(f"\n{len(done)} runs of {len(list(design(args.seeds)))}: {'; '.join(sorted({r['versions'] for r in done}))}")


def error(values):
    """The standard error of their mean."""
    return statistics.stdev(values) / len(values) ** 0.5


def spread(values):
    if len(values) < 2:
        return "-"
    return f"{statistics.mean(values):.4f} ± {error(values):.4f} ({len(values)})"


def compared(ours, theirs):
    """The difference of the means as a cell, and how likely chance alone parts the two sets as far.

    The chance is that of the ranks (Mann and Whitney): a single run that goes astray, as some do in their first epoch, moves a
    mean and its error, and hides with them what all others say.
    """
    from scipy import stats

    if min(len(ours), len(theirs)) < 2:
        return "-", None
    chance = float(stats.mannwhitneyu(ours, theirs).pvalue)
    difference = statistics.mean(ours) - statistics.mean(theirs)
    of_difference = (error(ours) ** 2 + error(theirs) ** 2) ** 0.5
    return f"{difference:+.4f} ± {of_difference:.4f}, chance {chance:.2g} ({len(ours)} and {len(theirs)})", chance


def verdict(chances):
    """The least chance, times the number of comparisons (Bonferroni): one of many is small by luck."""
    least, where = min(chances)
    corrected = min(1, least * len(chances))
    word = "more than chance allows" if corrected < CHANCE else "no more than chance allows"
    return f"Of {len(chances)} comparisons the least likely is {where}: {least:.2g}, times their number {corrected:.2g}. They part by {word}."


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does, action in [
        ("run", "make the runs that are not there yet", run_all),
        ("table", "print what the runs say", table),
    ]:
        command = commands.add_parser(name, help=does)
        command.add_argument("--steps", type=int, default=WHOLE_EPOCH, help="training steps of an epoch, to try it out")
        command.add_argument("--results", type=pathlib.Path, help="the file with a line for each run")
        command.add_argument("--folder", type=pathlib.Path, default=ROOT / "runs/learning-curves", help="for what need not stay")
        command.add_argument("--seeds", type=int, default=10, help="seeds from 0 on")
        command.set_defaults(does=action)
    run = commands.choices["run"]
    run.add_argument("--core", type=int, default=0, help="the processor to run on")
    run.add_argument("--minutes", type=float, help="how long new runs are begun")
    run.add_argument("--trained-by", nargs="+", choices=SIDES, default=SIDES)
    run.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/resnet-xla")
    run.add_argument("--data-dir", type=pathlib.Path, default=ROOT / "data")
    args = parser.parse_args()
    is_trial = args.steps != WHOLE_EPOCH
    args.results = args.results or (args.folder / f"{args.steps}-steps.csv" if is_trial else RESULTS)
    return args


def main():
    args = arguments()
    args.does(args)


if __name__ == "__main__":
    main()
