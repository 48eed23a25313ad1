"""The best state of each of several seeds, by the accuracy on the validation split; the test split chooses nothing.

A single run's best is one of its checkpoints. Of several seeds each has its best at another step, so these states lie
in a file beside the checkpoints of them all. It is written when one is found, so that it may be ahead of the checkpoint
that a killed study continues from; the evaluations between the two are then repeated, and find the same.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from cnn_jax import files
from cnn_jax.training.state import TrainState, named_leaves


class NoBest:
    """Keeps nothing."""

    def note(self, state: TrainState, scores: Sequence[float]) -> None:
        """Passes over an evaluation."""


class BestOfSeeds:
    """Keeps of each seed the state with the best validation accuracy, of equal ones the first.

    Args:
      path: the file.

    Raises:
      ValueError: it is damaged.
    """

    def __init__(self, path: Path):
        self._path = path
        self._best: list[np.ndarray] | None = None  # the leaves of the states, then the scores
        if path.exists():
            self._best = [*files.read_arrays(path).values()]

    def note(self, state: TrainState, scores: Sequence[float]) -> None:
        """Takes the states of the seeds that are better than before.

        Args:
          state: after an evaluation, leaves [seeds, ...].
          scores: of each seed, the higher the better.
        """
        better = None if self._best is None else np.array(scores) > self._best[-1]
        if better is not None and not better.any():
            return  # before the states are fetched from the devices
        found = [*map(np.asarray, jax.tree.leaves(jax.device_get(state))), np.array(scores, np.float64)]
        if better is not None:
            found = [np.where(_along(better, new), new, old) for new, old in zip(found, self._best, strict=True)]
        self._best = found
        arrays = dict(zip([*named_leaves(state), "score"], found, strict=True))
        files.replace(self._path, lambda file: np.savez(file, **arrays))

    def chosen(self, last: TrainState) -> tuple[TrainState, list[float]]:
        """Returns the best states, leaves [seeds, ...], and each seed's score.

        Args:
          last: a state of the same structure.
        """
        best = jax.tree.unflatten(jax.tree.structure(last), self._best[:-1])
        return best, [float(score) for score in self._best[-1]]


def _along(chosen, leaf):
    return chosen.reshape(-1, *[1] * (leaf.ndim - 1))
