"""Training and evaluation on eight devices and on one, in a process of its own: their number is fixed at its start.

    python eight_devices.py FOLDER

writes what it saw to FOLDER/seen.npz, and two checkpoints there, of a state saved on eight devices and on one.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from tiny_training import RECIPE, SMOOTH, TinyRun, assert_same_bits, dataset, train_seeds

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
COUNT = 103  # examples to evaluate
EVALUATIONS = [(batch, devices) for batch in (1, 7, 64, 128) for devices in (1, 8)]


def main(folder: Path) -> None:
    seen = {}
    for name, changes in MODES.items():
        run = TinyRun(BATCH, SMOOTH, *changes)
        assert len(run.parallel.devices) == (1 if "parallel=jit" in changes else 8)
        seen[f"losses/{name}"], state = run.losses()
        seen |= {f"params/{name}/{leaf}": value for leaf, value in named_leaves(state.params).items()}
        if name in ("jit", "mesh"):
            save_and_restore(folder / name, run, state, seen)
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
