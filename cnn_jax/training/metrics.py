"""The metrics: one entry for each, which every place that shows or stores metrics goes through.

A metric that is added to `METRICS` appears in the progress line, metrics.jsonl and .csv, TensorBoard, results.json, the
output of --mode=train and eval, the report, and the tables of studies. One with a value for each class goes to
results.json, the report and per_class.csv only.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

BINS = 10  # of the calibration error, as usual since Guo et al. 2017


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The network's loss and class probabilities for each example of a split, and the labels.

    Attributes:
      losses: float32 [N].
      probabilities: float32 [N, classes].
      labels: int32 [N].
    """

    losses: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray

    @property
    def loss(self) -> float:
        """Mean loss."""
        return float(np.mean(self.losses, dtype=np.float64))

    @property
    def problem(self) -> str:
        """The reason why the measurement is worthless; "" if there is none."""
        lost = np.count_nonzero(~(np.isfinite(self.losses) & np.isfinite(self.probabilities).all(-1)))
        return f"the network gives no finite numbers for {lost:,} of {len(self.losses):,} images" if lost else ""

    @functools.cached_property
    def answers(self) -> np.ndarray:
        """The most probable class of each example, int [N]; of equal ones the first."""
        return self.probabilities.argmax(-1)

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """True where the answer is the label, bool [N]."""
        return self.answers == self.labels

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return float(np.mean(self.correct, dtype=np.float64))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
      name: in files, such as "top5".
      title: for people, such as "top-5 accuracy".
      unit: "%" for shares from 0 to 1, which are shown in percent, else "".
      of: from an `Evaluation` to a number, or to [classes]; None where the metric says nothing.
      of_totals: from a `state.Totals` of training steps to a number; None where they do not tell.
      per_class: whether there is a value for each class.
    """

    name: str
    title: str
    unit: str
    of: Callable[[Evaluation], float | np.ndarray | None]
    of_totals: Callable | None = None
    per_class: bool = False

    def show(self, value: float) -> str:
        """Returns a value as a person reads it, such as "98.72 %"."""
        return f"{100 * value:.2f} %" if self.unit == "%" else f"{value:.4f}"


def top5(evaluation: Evaluation) -> float | None:
    """Returns the share of examples with the label among the five most probable classes, of equal ones the lower first.

    None with at most ten classes, where it says little.
    """
    probabilities, labels = evaluation.probabilities, evaluation.labels
    if probabilities.shape[-1] <= 10:
        return None
    own = np.take_along_axis(probabilities, labels[:, None], axis=-1)
    earlier = np.arange(probabilities.shape[-1]) < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & earlier)
    return float(np.mean(ahead.sum(-1) < 5, dtype=np.float64))


def calibration_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS):
    """Counts answers and correct answers in bins of equal width of the network's confidence.

    Args:
      confidence: float [N], 0 to 1, probability of the answer given.
      correct: bool [N].
      bins: number of bins; the upper edge belongs to a bin, as in Guo et al. 2017.

    Returns:
      Three arrays [bins]: answers, correct answers, and the sum of their confidences.
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    weights = (None, correct, confidence)
    return tuple(np.bincount(index, weights=each, minlength=bins) for each in weights)


def calibration_error(evaluation: Evaluation) -> float | None:
    """Returns the expected calibration error, 0 to 1: the mean distance of confidence and accuracy over bins.

    Guo et al. 2017, eq. 3. None where probabilities are not finite.
    """
    confidence = evaluation.probabilities.max(-1).astype(np.float64)
    if not np.isfinite(confidence).all():
        return None
    _, hits, sums = calibration_bins(confidence, evaluation.correct)
    return float(np.abs(hits - sums).sum() / len(confidence))


def class_accuracy(evaluation: Evaluation) -> np.ndarray:
    """Returns the share of each class's examples that are classified correctly, [classes]; NaN where there are none."""
    hits, counts, _ = _by_class(evaluation)
    return np.divide(hits, counts, out=np.full(len(hits), np.nan), where=counts > 0)


def macro_f1(evaluation: Evaluation) -> float:
    """Returns the mean over classes of F1 = 2 hits / (examples + answers).

    Classes that neither occur nor are answered are left out.
    """
    hits, counts, answers = _by_class(evaluation)
    some = counts + answers > 0
    return float(np.mean(2 * hits[some] / (counts + answers)[some]))


def _by_class(evaluation):
    """Correct answers, examples and answers of each class, [classes] each."""
    classes, labels = evaluation.probabilities.shape[-1], evaluation.labels
    count = lambda values: np.bincount(values, minlength=classes)
    return count(labels[evaluation.correct]), count(labels), count(evaluation.answers)


METRICS = (
    Metric(
        name="loss",
        title="loss",
        unit="",
        of=lambda evaluation: evaluation.loss,
        of_totals=lambda totals: float(totals.loss) / int(totals.steps),
    ),
    Metric(
        name="accuracy",
        title="accuracy",
        unit="%",
        of=lambda evaluation: evaluation.accuracy,
        of_totals=lambda totals: int(totals.correct) / int(totals.examples),
    ),
    Metric(name="top5", title="top-5 accuracy", unit="%", of=top5),
    Metric(name="calibration_error", title="calibration error", unit="%", of=calibration_error),
    Metric(name="macro_f1", title="macro F1", unit="%", of=macro_f1),
    Metric(name="class_accuracy", title="accuracy of each class", unit="%", of=class_accuracy, per_class=True),
)


def numbers() -> list[Metric]:
    """Returns the metrics that are one number."""
    return [metric for metric in METRICS if not metric.per_class]


def vectors() -> list[Metric]:
    """Returns the metrics with a value for each class."""
    return [metric for metric in METRICS if metric.per_class]


def values(evaluation: Evaluation) -> dict:
    """Returns every metric of an evaluation by name; None where one says nothing."""
    return {metric.name: metric.of(evaluation) for metric in METRICS}


def described(row: dict, skip: tuple[str, ...] = ()) -> str:
    """Returns the numbers of a row, or of `values`, that are there, for a person: "loss 0.0432  accuracy 98.72 %"."""
    shown = [metric for metric in numbers() if metric.name not in skip and row.get(metric.name) is not None]
    return "  ".join(f"{metric.title} {metric.show(row[metric.name])}" for metric in shown)
