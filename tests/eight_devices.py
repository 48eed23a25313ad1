"""Training and evaluation on eight devices and on one, in a process of its own: their number is fixed at its start.

    python eight_devices.py FOLDER

writes what it saw to FOLDER/seen.npz, and two checkpoints there, of a state saved on eight devices and on one.
"""

import re
import sys
from pathlib import Path

import jax
import numpy as np
from tiny_training import RECIPE, SMOOTH, TinyRun, assert_same_bits, dataset, train_seeds

from cnn_jax.data.batches import feed
from cnn_jax.devices.mesh import Parallel
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.evaluation import Evaluator
from cnn_jax.training.state import named_leaves

BATCH = "train.batch_size=32"  # four to a device, so that accumulation can split it down to parts of one
MODES = {
    "jit": ("parallel=jit",),
    "mesh": ("parallel=mesh",),
    "pmap": ("parallel=pmap",),
    "jit, accumulated one by one, NHWC": ("parallel=jit", "optimizer.accumulate=32", "model.layout=NHWC"),
    "mesh, accumulated, from the host": ("parallel=mesh", "optimizer.accumulate=4", "data.placement=host"),
    "pmap, accumulated, from the host, NHWC": (
        "parallel=pmap",
        "optimizer.accumulate=4",
        "data.placement=host",
        "model.layout=NHWC",
    ),
}
SPREAD = "mesh, spread over the devices"
MODES[SPREAD] = ("parallel=mesh", "data.placement=device")
COUNT = 103  # examples to evaluate
EVALUATIONS = [(1, 8), (7, 1), (64, 8), (128, 1)]


def main(folder: Path) -> None:
    seen = {}
    for name, changes in MODES.items():
        feed.DEVICE_BYTES = 0 if name == SPREAD else 2**31
        run = TinyRun(BATCH, SMOOTH, *changes)
        assert isinstance(run.feed, feed.SpreadFeed) == (name == SPREAD)
        assert len(run.parallel.devices) == (1 if "parallel=jit" in changes else 8)
        seen[f"losses/{name}"], state = run.losses()
        seen |= {f"params/{name}/{leaf}": value for leaf, value in named_leaves(state.params).items()}
        if name == SPREAD:
            check_batches(run)
            check_evaluation(run, state)
        if name in ("jit", "mesh"):
            save_and_restore(folder / name, run, state, seen)
    feed.DEVICE_BYTES = 2**31
    for mode in ("mesh", "pmap"):
        numbers = list(range(RECIPE.seed, RECIPE.seed + 8))
        seen[f"seeds/{mode}"], state, learner = train_seeds(numbers, BATCH, SMOOTH, f"parallel={mode}")
        variables = learner.parallel.place(state.evaluated)
        seen[f"probabilities/{mode}"] = learner.predict(variables, dataset("train", COUNT).images)
        learner.close()
    for batch, devices in EVALUATIONS:
        outcome = evaluate(batch, jax.devices()[:devices])
        seen |= {f"{part}/{batch}/{devices}": getattr(outcome, part) for part in ("losses", "probabilities", "labels")}
    np.savez(folder / "seen.npz", **{name: np.asarray(value) for name, value in seen.items()})


def check_batches(run):
    """A spread set gives the batches of any other, and its program collects no images from all devices."""
    whole = dataset()
    data = run.feed.stretch(0, 5)
    assert {shard.data.shape for shard in data["images"].addressable_shards} == {(7, 28, 28, 1)}  # of 50
    for step in range(5):
        batch = jax.jit(run.feed.pick)(data, step)
        index = run.order.batch(step)
        np.testing.assert_array_equal(batch["images"], whole.images[index])
        np.testing.assert_array_equal(batch["labels"], whole.labels[index])
        np.testing.assert_array_equal(batch["index"], index)
        assert len(batch["images"].sharding.device_set) == 8 and not batch["images"].is_fully_replicated
    program = run.run._compiled.as_text()
    collected = [line for line in program.splitlines() if re.search(r"= u8\[\S+ all-gather(-start)?\(", line)]
    assert not collected, collected
    # Nor does the memory of a device hold more than its share of a set of 16,000 times the size, and a few batches.
    grown = lambda leaf: jax.ShapeDtypeStruct((800_000, *leaf.shape[1:]), leaf.dtype, sharding=leaf.sharding)
    large = {name: grown(leaf) if name != "index" else leaf for name, leaf in data.items()}
    used = jax.jit(run.feed.pick).lower(large, 0).compile().memory_analysis()
    share = 100_000 * 28 * 28
    assert used.argument_size_in_bytes < share + 4 * 800_000 + 2**20  # images, and the labels of all
    assert used.temp_size_in_bytes + used.output_size_in_bytes < 2**20 < share / 50


def check_evaluation(run, state):
    """The split that is measured in training lies where the training set does, and the numbers are the same."""
    split = dataset("test", 43)
    (plain,) = run.learner.evaluator(state.evaluated, split)
    run.learner.prepare_evaluation(state.evaluated, split)
    kept = run.learner.evaluator._kept[1]
    assert {shard.data.shape for shard in kept.addressable_shards} == {(6, 28, 28, 1)}
    (found,) = run.learner.evaluator(state.evaluated, split)
    np.testing.assert_array_equal(found.losses, plain.losses)
    np.testing.assert_array_equal(found.probabilities, plain.probabilities)


def save_and_restore(folder, run, state, seen):
    """Saves on the run's devices and restores onto the other number of them."""
    checkpoints = Checkpoints(folder)
    checkpoints.save(int(state.step), state, run.settings, score=None)
    checkpoints.wait()
    other = TinyRun(BATCH, "parallel=mesh" if run.parallel.mode == "jit" else "parallel=jit")
    restored = checkpoints.restore(int(state.step), other.learner.state_like())
    assert_same_bits(restored, state)
    assert {leaf.sharding for leaf in jax.tree.leaves(restored)} == {other.parallel.replicated}
    checkpoints.close()
    seen |= {f"saved/{folder.name}/{leaf}": value for leaf, value in named_leaves(state).items()}


def evaluate(batch, devices):
    run = TinyRun(f"evaluation.batch_size={batch}")
    parallel = Parallel("mesh", len(devices), devices)
    (found,) = Evaluator(run.settings, run.network, parallel)(run.first_state().evaluated, dataset("train", COUNT))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
