"""The contents of a report, and the figures worked out from them. Needs nothing but NumPy."""

import dataclasses
import functools
import math
import typing

import numpy as np

from cnn_jax.reports.parts import Bin, Example, Filters
from cnn_jax.training.metrics import calibration_bins

if typing.TYPE_CHECKING:
    from cnn_jax.models.summary import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything a report of one run shows. N images of K classes.

    Attributes:
      title: the experiment's name.
      description: the experiment's docstring, plain text.
      command: the command line that made the run.
      departures: where its settings are not those of the description, a line each.
      config: nested dict of all settings, as `config.to_dict` gives it.
      metrics: rows of metrics.jsonl: step, epoch, split ("train", "validation" or "test"), loss, accuracy (0 to 1),
        learning_rate (or None). Only step and split are needed; a missing or NaN value is not drawn.
      checkpoint_step: the step of the parameters shown.
      checkpoint_rule: why that step, such as "best validation accuracy" or "last step".
      evaluated: the split that images, labels and probabilities come from.
      images: uint8 [N, height, width, channels], stored pixels.
      labels: int [N], 0 to K - 1.
      probabilities: float [N, K], rows summing to 1.
      class_names: K names.
      layers: the layer table, input to output.
      filters: the convolutions, input to output.
      searched: among how many images those were looked for that excite a filter most.
      examples: images on their way through the network.
      bitmaps: what the answers of a network with a radial basis output are compared with, float [K, height, width].
      records: one run record per start of the program, oldest first; every key may be missing.
      seconds: wall time of the training, None if unknown.
      rates: the schedule as rows like those of `metrics`, close enough together to show a warm-up; empty where it
        cannot be told, so that the rates of `metrics` are drawn.
      measured: every metric by name, as `metrics.values` gives them.
      counts: images of each class in each split, by split and name; empty where that is not known.
      left_out: what else lies beside the images, in words, and how many.
      unreadable: why images could not be decoded, by name.

    Raises:
      ValueError: there are no images, or the arrays do not fit each other.
    """

    title: str
    description: str
    command: str
    config: dict
    metrics: list[dict]
    checkpoint_step: int
    checkpoint_rule: str
    evaluated: str
    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    layers: "list[Row]"
    filters: list[Filters]
    examples: list[Example]
    records: list[dict]
    seconds: float | None
    searched: int = 0
    bitmaps: np.ndarray | None = None
    measured: dict = dataclasses.field(default_factory=dict)
    counts: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    departures: list[str] = dataclasses.field(default_factory=list)
    rates: list[dict] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        count, classes = len(self.labels), len(self.class_names)
        if count == 0:
            raise ValueError("labels is empty: a report needs at least one image")
        if len(self.images) != count or self.probabilities.shape != (count, classes):
            raise ValueError(
                f"images {self.images.shape} and probabilities {self.probabilities.shape} must belong to "
                f"{count} labels and {classes} class_names"
            )
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise ValueError(f"labels run from {self.labels.min()} to {self.labels.max()}, with {classes} class_names")

    @functools.cached_property
    def predictions(self) -> np.ndarray:
        """int [N], the most probable class; the first of equals."""
        return np.argmax(self.probabilities, axis=1)

    @functools.cached_property
    def confidence(self) -> np.ndarray:
        """float [N], the probability of the prediction; 0 where a diverged network gives NaN."""
        return np.nan_to_num(np.take_along_axis(self.probabilities, self.predictions[:, None], axis=1)[:, 0])

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """bool [N], whether the prediction is the label."""
        return self.predictions == self.labels

    @property
    def errors(self) -> int:
        """Images classified wrongly."""
        return int(np.sum(~self.correct))

    @property
    def accuracy(self) -> float:
        """Share of images classified correctly, 0 to 1."""
        return float(np.mean(self.correct))

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """int [K, K], images of the row's class that were given the column's class."""
        classes = len(self.class_names)
        return np.bincount(self.labels * classes + self.predictions, minlength=classes**2).reshape(classes, classes)

    def mistakes(self, most: int) -> np.ndarray:
        """Indices of up to `most` wrong answers, the surest first."""
        wrong = np.flatnonzero(~self.correct)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:most]

    def doubtful(self, most: int) -> np.ndarray:
        """Indices of up to `most` right answers, the least sure first."""
        right = np.flatnonzero(self.correct)
        return right[np.argsort(self.confidence[right], kind="stable")][:most]


def recall_precision(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per-class recall and precision.

    Args:
      confusion: int [K, K], rows true, columns predicted.

    Returns:
      Two float [K] arrays, 0 to 1; NaN for a class that never occurs (recall) or is never predicted (precision).
    """
    hits = np.diag(confusion).astype(float)
    occurring, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    nothing = np.full(len(hits), np.nan)
    return (
        np.divide(hits, occurring, out=nothing.copy(), where=occurring > 0),
        np.divide(hits, predicted, out=nothing.copy(), where=predicted > 0),
    )


def top_confusions(confusion: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Returns up to `most` (true class, predicted class, count), the most frequent mistakes first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(*map(int, np.unravel_index(index, wrong.shape)), int(wrong.flat[index])) for index in order]
    return [pair for pair in pairs if pair[2]]


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int) -> tuple[list[Bin], float]:
    """Computes the bins of a reliability diagram and the expected calibration error.

    Bins are of equal width in the top class's probability (Guo et al., 2017, eq. 3).

    Args:
      confidence: float [N], 0 to 1, probability of the answer given.
      correct: bool [N].
      bins: number of bins; the upper edge belongs to a bin, as in the paper.

    Returns:
      The bins, low confidence to high, and the expected calibration error, 0 to 1.
    """
    counts, hits, sums = calibration_bins(confidence, correct, bins)
    found = [Bin(int(n), int(h), float(s / n) if n else math.nan) for n, h, s in zip(counts, hits, sums)]
    return found, float(np.abs(hits - sums).sum() / len(confidence))
