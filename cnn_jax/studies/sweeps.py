"""The sweep of an arm: values of one setting, tried on training images that are held out; test images are not loaded.

The folder sweep/ of an arm:

sweep.json         what was tried, how each run did on the held-out images, and the value chosen; written last
VALUE/seed-K/      the metrics of each run
checkpoints/K/     of each group of runs, until all are done: its owner, its checkpoints and, once done, group.json
"""

import contextlib
import dataclasses
import time
from pathlib import Path

import numpy as np

from cnn_jax import files
from cnn_jax.config.study import TRACED, Arm, Study
from cnn_jax.data.datasets import source
from cnn_jax.data.identity import Identity
from cnn_jax.errors import UserError
from cnn_jax.studies import group
from cnn_jax.training.learner import Learner, load

DONE = "sweep.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swept:
    """How the values of a sweep did.

    Attributes:
      setting: the one that was swept.
      values: that were tried, as typed.
      seeds: of the runs.
      accuracy: on the held-out images, 0 to 1, [values, seeds]; NaN for a run that diverged.
      loss: likewise.
      images: how many were held out.
      value: the one chosen, of `values`.
      seconds: that it took.
    """

    setting: str
    values: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracy: np.ndarray
    loss: np.ndarray
    images: int
    value: str
    seconds: float

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The values, where they are numbers."""
        try:
            return tuple(map(float, self.values))
        except ValueError:
            return None

    @property
    def is_at_end(self) -> bool:
        """Tells whether the value chosen is the lowest or the highest tried, so that the best may lie beyond."""
        return self.numbers is not None and float(self.value) in (min(self.numbers), max(self.numbers))


def folder_of(own: Path) -> Path:
    """Returns the folder of the sweep of the arm in a folder."""
    return own / "sweep"


def group_folder(own: Path, number: int) -> Path:
    """Returns the folder of a group of runs, one of `Study.trials`."""
    return folder_of(own) / "checkpoints" / str(number)


def is_finished(own: Path) -> bool:
    """Tells whether the sweep of the arm in a folder has chosen."""
    return (folder_of(own) / DONE).exists()


def read(own: Path) -> Swept | None:
    """Reads the sweep of the arm in a folder; None where there is none, or none that has chosen.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged.
    """
    path = folder_of(own) / DONE
    if not path.exists():
        return None
    found = files.read_json(path)
    try:
        numbers = {name: np.array(found[name], np.float64) for name in ("accuracy", "loss")}
        swept = Swept(**found | numbers | {name: tuple(found[name]) for name in ("values", "seeds")})
        shapes = {each.shape for each in numbers.values()}
        sound = shapes == {(len(swept.values), len(swept.seeds))} and swept.value in swept.values
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not sound:
        raise ValueError(f"{path} is damaged: its numbers do not fit the values that it names")
    return swept


def train(study: Study, arm: Arm, number: int, own: Path, known: Identity | None = None) -> None:
    """Trains a group of runs and measures them on the held-out images; continues where a killed one stopped.

    Args:
      study: the study.
      arm: one of its arms.
      number: of the group in `Study.trials`; no other process trains it.
      own: the folder of the arm.
      known: the data of the study's base.

    Raises:
      Interrupted: a signal came, and the group is saved.
      UserError: a save failed.
    """
    began, trials = time.perf_counter(), study.trials[number]
    settings = study.trial(arm, trials[0][0], source.has_validation)
    known = group.known_data(study, settings, known)
    training, held_out = (load(settings, split, known) for split in ("train", "validation"))
    rates = [float(value) for value, _ in trials] if study.sweep.setting == TRACED and len(trials) > 1 else []
    folders = [folder_of(own) / value.replace("/", "_") / f"seed-{seed}" for value, seed in trials]
    place = group_folder(own, number)
    with contextlib.closing(Learner(settings, [seed for _, seed in trials], training, known.facts, rates)) as learner:
        trained = group.train(learner, folders, place, held_out, study.protocol.select == "best")
        found = learner.evaluate(trained.chosen.evaluated, held_out)
    rows = []
    for (value, seed), alive, each in zip(trials, trained.alive, found):
        sound = bool(alive) and not each.problem
        rows.append({
            "value": value,
            "seed": seed,
            "accuracy": each.accuracy if sound else None,
            "loss": float(each.losses.mean(dtype=np.float64)) if sound else None,
        })  # fmt: skip
    seconds = time.perf_counter() - began
    files.write_json(place / group.DONE, {"runs": rows, "images": len(held_out.labels), "seconds": seconds})


def finish(study: Study, own: Path) -> Swept:
    """Chooses the value, of the groups that are all done: that with the highest mean accuracy, of equal ones the lowest
    loss. A value with which a run diverged is not chosen.

    Raises:
      UserError: a run diverged with every value.
    """
    assert study.sweep is not None
    groups = [files.read_json(group_folder(own, number) / group.DONE) for number in range(len(study.trials))]
    runs = {(row["value"], row["seed"]): row for each in groups for row in each["runs"]}
    values, seeds = study.sweep.values, sorted({seed for _, seed in runs})
    table = lambda name: np.array([[runs[value, seed][name] for seed in seeds] for value in values], np.float64)
    accuracy, loss = table("accuracy"), table("loss")
    means = [(-accuracy[k].mean(), loss[k].mean(), k) for k in range(len(values)) if np.isfinite(accuracy[k]).all()]
    if not means:
        raise UserError(
            f"study.sweep: training diverged with every value of {study.sweep.setting}, {', '.join(values)}; try others"
        )
    swept = Swept(
        setting=study.sweep.setting,
        values=values,
        seeds=tuple(seeds),
        accuracy=accuracy,
        loss=loss,
        images=groups[0]["images"],
        value=values[min(means)[2]],
        seconds=sum(each["seconds"] for each in groups),
    )
    known = lambda numbers: [[None if number != number else number for number in row] for row in numbers.tolist()]
    record = dataclasses.asdict(swept) | {"accuracy": known(accuracy), "loss": known(loss)}
    files.write_json(folder_of(own) / DONE, record)
    files.remove_folder(folder_of(own) / "checkpoints")
    return swept
