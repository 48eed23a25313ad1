"""Which parameters of each seed count: those of the last step, or with the best accuracy on the validation split.

The test split chooses nothing. What is best so far lies in a file beside the checkpoints. It is written when it is
found, so that it may be ahead of the checkpoint a killed study continues from; the evaluations between the two are then
repeated, and find the same.
"""

import os
from pathlib import Path

import jax
import numpy as np

from cnn_jax.training.state import TrainState, named_leaves


class LastStep:
    """The last step's."""

    def note(self, state: TrainState, scores: list[float]) -> None:
        """Nothing is chosen on the way."""

    def chosen(self, last: TrainState) -> tuple[TrainState, list[float | None]]:
        """The states that count, leaves [seeds, ...], `step` too; and each seed's score, None where none chose it."""
        return with_own_steps(last), [None] * len(last.seed)


class BestValidation:
    """Each seed's with the best validation accuracy, of equal ones the first.

    A seed whose last parameters are not finite has diverged, and gets those: what it was before does not count.

    Args:
      path: the file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._best: list[np.ndarray] | None = None  # the leaves of the states, then the scores
        if path.exists():
            with np.load(path) as stored:
                self._best = [stored[name] for name in stored.files]

    def note(self, state: TrainState, scores: list[float]) -> None:
        """Takes the states of the seeds that are better than before.

        Args:
          state: after an evaluation, leaves [seeds, ...].
          scores: of each seed, the higher the better.
        """
        better = None if self._best is None else np.array(scores) > self._best[-1]
        if better is not None and not better.any():
            return  # before the states are fetched from the devices
        found = [*jax.tree.leaves(with_own_steps(jax.device_get(state))), np.array(scores, np.float64)]
        if better is not None:
            found = [np.where(_along(better, new), new, old) for new, old in zip(found, self._best, strict=True)]
        self._best = found
        names = [*named_leaves(state), "score"]
        beside = self._path.with_suffix(".part.npz")
        np.savez(beside, **dict(zip(names, found, strict=True)))
        os.replace(beside, self._path)

    def chosen(self, last: TrainState) -> tuple[TrainState, list[float | None]]:
        """As `LastStep.chosen`."""
        last = with_own_steps(jax.device_get(last))
        finite = np.all([np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in jax.tree.leaves(last.params)], 0)
        best = jax.tree.unflatten(jax.tree.structure(last), self._best[:-1])
        chosen = jax.tree.map(lambda best, last: np.where(_along(finite, last), best, last), best, last)
        return chosen, [float(score) if known else None for score, known in zip(self._best[-1], finite)]


def with_own_steps(state: TrainState) -> TrainState:
    """Stacked states, with a step for each seed in place of one for all."""
    return state._replace(step=np.full(len(state.seed), int(state.step), np.int32))


def _along(chosen, leaf):
    return chosen.reshape(-1, *[1] * (leaf.ndim - 1))
