"""Time of N seeds trained side by side in one program, as a study does, against N runs one after the other.

    python benchmarks/seeds.py --experiment=lenet_mnist --seeds=4,16 --steps=500 --set data.data_dir=FOLDER

The seeds share all devices, and each run has them all, as with `launch.py`. On a CPU those are its cores, as many as
divide every N; small networks share each batch over them. Both train the same seeds on the same images for the same
steps; the losses are compared. They take turns, --rounds times. Compilation is timed apart: it happens once for all
seeds together, and once a run otherwise unless it is cached.
"""

import argparse
import functools
import json
import math
import pathlib
import statistics
import sys
import time

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax.config import experiments, overrides  # noqa: E402
from cnn_jax.data.batches.feed import make_feed  # noqa: E402
from cnn_jax.data.batches.order import IndexPlan  # noqa: E402
from cnn_jax.data.datasets import source  # noqa: E402
from cnn_jax.devices.mesh import a_device_for_each_core  # noqa: E402
from cnn_jax.run import Session  # noqa: E402
from cnn_jax.studies.side_by_side import Seeds  # noqa: E402
from cnn_jax.training import state as states  # noqa: E402
from cnn_jax.training.optimizer import make_optimizer, make_schedule  # noqa: E402
from cnn_jax.training.step import make_run, make_train_step  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="lenet_mnist", help="default: %(default)s")
    parser.add_argument("--seeds", default="4,16", help="numbers of seeds to try; default: %(default)s")
    parser.add_argument("--steps", type=int, default=500, help="of one turn; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; default: %(default)s")
    parser.add_argument("--set", action="append", default=[], help="as of launch.py; repeatable")
    parser.add_argument("--out", help="JSON file for all figures")
    options = parser.parse_args()
    settings = overrides.apply(experiments.load(options.experiment), options.set)
    dataset = source.load(settings.data, "train", options.experiment)
    counts = list(map(int, options.seeds.split(",")))
    a_device_for_each_core(lambda devices: math.gcd(*counts) % devices == 0)
    device = f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    title = f"{options.experiment}, {options.steps} steps of {settings.train.batch_size}"
    print(f"{title}, {device}, jax {jax.__version__}")
    print("seeds  together, s  one by one, s  ratio  compilation together, s  one, s")
    rows = []
    for count in counts:
        row = compared(settings, dataset, count, options.steps, options.rounds)
        rows.append({"seeds": count, "device": device} | row)
        figures = [row[name] for name in ("together", "alone", "ratio", "compilation_together", "compilation_alone")]
        print("{:5d}  {:11.2f}  {:13.2f}  {:5.2f}  {:23.1f}  {:6.1f}".format(count, *figures), flush=True)
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(rows, indent=2) + "\n")


def compared(settings, dataset, count, steps, rounds) -> dict:
    """Seconds of both, medians; the ratio is the median of the rounds' own."""
    together, compilation_together = side_by_side(settings, dataset, count, steps)
    alone, compilation_alone = one_by_one(settings, dataset, count, steps)
    pairs = []
    for _ in range(rounds):
        (ours, losses), (theirs, expected) = together(), alone()
        np.testing.assert_allclose(losses, expected, rtol=0.05)  # the same runs; rounding grows over hundreds of steps
        pairs.append((ours, theirs))
    return {
        "together": statistics.median(pair[0] for pair in pairs),
        "alone": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(theirs / ours for ours, theirs in pairs),
        "compilation_together": compilation_together,
        "compilation_alone": compilation_alone,
    }


def side_by_side(settings, dataset, count, steps):
    """A function that trains all seeds from the start, to seconds and mean losses; and the seconds of compiling."""
    seeds = Seeds(settings, list(range(count)), dataset)
    stretch = min(steps, seeds.most_steps)
    began = time.perf_counter()
    program, _ = seeds.compiled(seeds.initial(), seeds.begin(0, 1).result())
    compiling = time.perf_counter() - began

    def train():
        state = jax.block_until_ready(seeds.initial())
        began = time.perf_counter()
        for start in range(0, steps, stretch):
            stop = min(start + stretch, steps)
            state, _ = program(state, seeds.begin(start, stop).result(), np.int32(stop - start))
        losses = np.asarray(state.totals.loss) / steps
        return time.perf_counter() - began, losses

    return train, compiling


def one_by_one(settings, dataset, count, steps):
    """Likewise, each seed as `launch.py` trains it."""
    session = Session(settings, training=True)
    settings, parallel = session.settings, session.parallel
    optimizer = make_optimizer(settings.optimizer)
    size = settings.train.batch_size
    schedule = make_schedule(settings.schedule, settings.optimizer.learning_rate, 10**6, len(dataset.labels), size)
    step = make_train_step(settings, session.network, schedule, optimizer)
    first = jax.jit(functools.partial(states.initial_state, settings, session.image_shape, session.classes, optimizer))
    feeds = [
        make_feed(settings.data.placement, dataset, IndexPlan(len(dataset.labels), size, seed), parallel)[0]
        for seed in range(count)
    ]
    program = parallel.compile_run(make_run(step, feeds[0].pick), feeds[0].axes)
    began = time.perf_counter()
    jax.block_until_ready(program(parallel.replicate(first(0)), feeds[0].stretch(0, 1), np.int32(1)))
    compiling = time.perf_counter() - began

    def train():
        begins = jax.block_until_ready([parallel.replicate(first(seed)) for seed in range(count)])
        losses = []
        began = time.perf_counter()
        for feed, state in zip(feeds, begins):
            stretch = min(steps, feed.most_steps)
            for start in range(0, steps, stretch):
                stop = min(start + stretch, steps)
                state, _ = program(state, feed.stretch(start, stop), np.int32(stop - start))
            losses.append(float(state.totals.loss) / steps)
        return time.perf_counter() - began, np.array(losses)

    return train, compiling


if __name__ == "__main__":
    main()
