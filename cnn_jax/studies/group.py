"""Networks of a study that are trained together, in a folder that holds their checkpoint until they are done."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from cnn_jax import files, run
from cnn_jax.config import Config
from cnn_jax.config.study import Study
from cnn_jax.data.datasets import source
from cnn_jax.data.identity import Identity
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.devices import processes
from cnn_jax.training import loop
from cnn_jax.training.learner import Learner
from cnn_jax.training.selection import BestOfSeeds, NoBest
from cnn_jax.training.state import TrainState

DONE = "group.json"


def is_done(group: Path) -> bool:
    """Tells whether the group in a folder has been trained and measured."""
    return (group / DONE).exists()


def known_data(study: Study, settings: Config, known: Identity | None) -> Identity:
    """Returns the data of a group.

    Args:
      study: the study.
      settings: of the group.
      known: the data of the study's base; None: not known.
    """
    return known if known and settings.data == study.base.data else source.identity(settings.data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What became of a group.

    Attributes:
      chosen: the state that counts, of each network.
      scores: each one's best validation accuracy; None where the last state counts.
      last: the state at the end.
      alive: bool [R], which networks came to the end.
      lost: why none did; "" where one did.
    """

    chosen: TrainState
    scores: list[float | None]
    last: TrainState
    alive: np.ndarray
    lost: str


def train(
    learner: Learner,
    folders: Sequence[Path],
    own: Path,
    watched: Dataset,
    selects: bool,
    trace: Path | None = None,
) -> Trained:
    """Trains a group; continues where a killed process stopped.

    Args:
      learner: the networks.
      folders: where the rows of each go.
      own: the folder of the group; no other process trains it.
      watched: the split that is measured while training.
      selects: whether the state with the best validation accuracy counts, in place of the last.
      trace: where a trace of some steps goes; None: there is none.

    Raises:
      Interrupted: a signal came, and the group is saved.
      UserError: a save failed.
    """
    files.make_folder(own)
    for each in folders:
        files.make_folder(each)
    best = _kept_best(own) if selects else NoBest()
    with contextlib.closing(learner.checkpoints(own, keep=1)) as checkpoints:
        state = run.first_state(learner, checkpoints)
        if np.any(state.step):
            processes.log(f"continuing from step {int(np.asarray(state.step).max()):,}")
        lost = ""
        try:
            last = loop.train(learner, state, checkpoints, folders, watched, best=best, profile=trace)
        except loop.AllLost as error:
            processes.log(str(error))
            last, lost = error.state, str(error)
    alive = np.atleast_1d(np.asarray(last.step)) == learner.total
    chosen, scores = last, [None] * len(alive)
    if selects and alive.any():
        chosen, scores = _best(learner, best, last, alive)
    return Trained(chosen=chosen, scores=scores, last=last, alive=alive, lost=lost)


def _kept_best(own):
    path = own / "best.npz"
    try:
        return BestOfSeeds(path)
    except ValueError as error:  # the checkpoint beside it may be of a step after those best ones
        processes.log(f"{error}: these seeds begin anew")
        files.remove_folder(own)
        files.make_folder(own)
        return BestOfSeeds(path)


def _best(learner, best, last, alive):
    """Each network's best state; of one that was lost, that it ended with."""
    states, scores = best.chosen(jax.device_get(last))
    pairs = zip(learner.each(states), learner.each(last), alive)
    return learner.joined([one if kept else other for one, other, kept in pairs]), scores
