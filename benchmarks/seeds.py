"""Time of N seeds trained side by side in one program, as a study does, against N runs one after the other.

    python benchmarks/seeds.py --experiment=lenet_mnist --seeds=4,16 --steps=500 --set data.data_dir=FOLDER

The seeds share all devices, and each run has them all, as with `launch.py`. On a CPU those are its cores, as many as
divide every N; small networks share each batch over them. Both train the same seeds on the same images for the same
steps; the losses are compared. They take turns, --rounds times. Compilation is timed apart: it happens once for all
seeds together, and once a run otherwise unless it is cached.
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
    choice.prepare(settings, [range(count) for count in counts])
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
    return timed([Learner(settings, range(count), dataset)], steps)


def one_by_one(settings, dataset, count, steps):
    """Returns the same two for seeds trained one after another, each as `launch.py` trains it."""
    learners = [Learner(settings, [seed], dataset) for seed in range(count)]
    for other in learners[1:]:
        other.program = learners[0].program  # the same program, compiled once
    return timed(learners, steps)


def timed(learners, steps):
    """A function that trains each learner from the start, to seconds and mean losses; and the seconds of compiling."""
    first = learners[0]
    alive = np.ones(len(first.seeds), np.int32)
    began = time.perf_counter()
    jax.block_until_ready(first.advance(first.initial(), first.begin(0, 1).result(), alive))
    compiling = time.perf_counter() - began

    def train():
        begins = jax.block_until_ready([learner.initial() for learner in learners])
        losses = []
        began = time.perf_counter()
        for learner, state in zip(learners, begins):
            stretch = min(steps, learner.feed.most_steps)
            for start in range(0, steps, stretch):
                stop = min(start + stretch, steps)
                state, _ = learner.advance(state, learner.begin(start, stop).result(), (stop - start) * alive)
            losses += [totals.loss / steps for totals in learner.each(state.totals)]
        return time.perf_counter() - began, np.array(losses)

    return train, compiling


if __name__ == "__main__":
    main()
