"""Seconds of training until MNIST's test accuracy is 99 %: many seeds, one after the other, in one process.

    python benchmarks/mnist_seconds.py --seeds=30

What is timed is training alone, from the first step of a seed to its last, with the images in the device's memory:
what is compiled, and the measurement of the test images, are apart. Every seed trains the same number of steps, which
is fixed beforehand; the mean accuracy over the seeds says whether it is enough. The recipe is `RECIPE` on the
experiment `lenet5_modern_mnist`; --set changes it further.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax.config import experiments, overrides  # noqa: E402
from cnn_jax.data.datasets import source  # noqa: E402
from cnn_jax.devices import choice  # noqa: E402
from cnn_jax.training.learner import Learner  # noqa: E402

EXPERIMENT = "lenet5_modern_mnist"
RECIPE = (
    "model.activation=relu", "model.pool.kind=max", "model.dropout=0", "train.batch_size=256",
    "train.duration=5 epochs", "optimizer.name=adam", "optimizer.learning_rate=0.003", "optimizer.ema=0",
    "optimizer.weight_decay=0", "schedule.name=one_cycle", "schedule.warmup=0 steps", "data.placement=device",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], help="as of launch.py; repeatable")
    parser.add_argument("--out", help="JSON file for all figures")
    options = parser.parse_args()
    settings = overrides.apply(experiments.load(EXPERIMENT), [*RECIPE, *options.set])
    choice.prepare(settings)
    train, test = source.load(settings.data, "train", EXPERIMENT), source.load(settings.data, "test", EXPERIMENT)
    first = Learner(settings, [options.seeds], train)  # which is there to compile
    compiling, state = trained(first)
    first.evaluate(state.evaluated, test)
    rows = []
    for seed in range(options.seeds):
        learner = Learner(settings, [seed], train)
        learner.program = first.program  # the same program
        seconds, state = trained(learner)
        (found,) = first.evaluate(state.evaluated, test)
        rows.append({"seed": seed, "seconds": seconds, "accuracy": found.accuracy})
    seconds, accuracies = [row["seconds"] for row in rows], [100 * row["accuracy"] for row in rows]
    device = f"{len(first.parallel.devices)} x {first.parallel.devices[0].device_kind}"
    spread = lambda values: statistics.stdev(values) if len(values) > 1 else 0.0
    print(f"{device}, jax {jax.__version__}, {first.total} steps of {settings.train.batch_size}, {len(rows)} seeds")
    print(f"training {np.mean(seconds):.3f} +- {spread(seconds):.3f} s (one more, with compiling: {compiling:.1f} s)")
    print(f"test accuracy {np.mean(accuracies):.3f} +- {spread(accuracies):.3f} %, least {min(accuracies):.2f} %")
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps({"device": device, "seeds": rows}, indent=2) + "\n")


def trained(learner):
    """The seconds that training takes, and the last state."""
    state = jax.block_until_ready(learner.initial())
    learner.begin(0, 1).result()  # the images are on the device
    began = time.perf_counter()
    stretch = learner.feed.most_steps
    stops = [*range(stretch, learner.total, stretch), learner.total]
    coming = learner.begin(0, stops[0])
    start = 0
    for stop in stops:
        data = coming.result()
        coming = learner.begin(stop, min(stop + stretch, learner.total)) if stop < learner.total else None
        state, _ = learner.advance(state, data, [stop - start])
        start = stop
    jax.block_until_ready(state)
    seconds = time.perf_counter() - began
    learner.close()
    return seconds, state


if __name__ == "__main__":
    main()
