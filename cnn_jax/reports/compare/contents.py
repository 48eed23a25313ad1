"""What a comparison of runs shows, and the figures worked out from it."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from cnn_jax.config import Config, leaves
from cnn_jax.reports.parts import Example
from cnn_jax.studies import statistics

ABSENT = "–"  # of a setting that a run does not have
HELD_OUT = ("validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """One of the runs. N images of K classes, the same in all of them.

    Attributes:
      name: of the run, unlike the others'.
      settings: the config.
      step: of the parameters.
      rule: why that step.
      metrics: rows of metrics.jsonl.
      probabilities: float [N, K].
      parameters: trainable numbers.
      multiply_adds: of one image.
      seconds: wall time of the training; None where that is not known.
      examples: the same images on their way through its network.
    """

    name: str
    settings: Config
    step: int
    rule: str
    metrics: list[dict]
    probabilities: np.ndarray
    parameters: int
    multiply_adds: int
    seconds: float | None
    examples: list[Example]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs on the same images.

    Attributes:
      first: number of a run.
      second: number of another.
      only_first: images that the first alone gets right.
      only_second: images that the second alone gets right.
      p: of McNemar's exact test, two-sided.
      p_holm: the same after Holm's correction over all pairs.
    """

    first: int
    second: int
    only_first: int
    only_second: int
    p: float
    p_holm: float


def pairs(right: np.ndarray) -> list[Pair]:
    """Compares every two runs.

    Args:
      right: bool [runs, N], which images each gets right.
    """
    found = []
    for first, second in itertools.combinations(range(len(right)), 2):
        test = statistics.mcnemar(right[second][None], right[first][None])
        found.append((first, second, test.worse, test.better, test.p_images))
    adjusted = statistics.holm([p for *_, p in found])
    return [
        Pair(first=first, second=second, only_first=lost, only_second=won, p=p, p_holm=float(corrected or 0.0))
        for (first, second, lost, won, p), corrected in zip(found, adjusted)
    ]


def differences(runs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Returns the settings in which runs differ: the dotted name, and the value in each run."""
    values = [{leaf.path: leaf.value for leaf in leaves(run.settings)} for run in runs]
    names = dict.fromkeys(name for each in values for name in each)
    rows = [(name, [_shown(each.get(name, ABSENT)) for each in values]) for name in names]
    return [(name, row) for name, row in rows if len(set(row)) > 1]


def _shown(value):
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "()"
    return str(value) if value != "" else '""'


def told_apart(right: np.ndarray, most: int) -> np.ndarray:
    """Returns the numbers of images that some runs get right and others do not, the first run's mistakes first.

    Args:
      right: bool [runs, N].
      most: how many.
    """
    mixed = np.flatnonzero(right.any(0) & ~right.all(0))
    return mixed[np.argsort(right[0][mixed], kind="stable")][:most]
