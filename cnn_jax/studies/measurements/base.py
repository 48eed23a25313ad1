"""A measurement: what it is given, and what it says of itself."""

import abc
import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from cnn_jax.studies.measurements.figures import Figure
from cnn_jax.studies.statistics import Summary, summarise, summarise_shares


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """A group of trained networks, one a seed, and test images to measure them with.

    Attributes:
      predict: images, uint8 [N, H, W, C] as stored, to probabilities, float32 [seeds, N, classes]. It cuts them into
        batches. A seed whose training diverged has probabilities that are not finite.
      maps: images likewise, to each layer's maps by name, float32 [seeds, N, height, width, channels]. All the images
        go in one call, so these are a few dozen to a few hundred.
      uphill: images likewise and labels [N] to the direction in which each pixel makes the loss grow, -1, 0 or 1, int8
        [seeds, N, H, W, C]; 0 for a seed whose training diverged.
      images: uint8 [N, H, W, C].
      labels: [N].
      few: some dozens of test images, for `maps`.
      reach: the largest shift along each axis, pixels, at least 1.
      draws: pairs of random shifts for each image.
      epsilon: size of adversarial steps, grey levels of 255.
      margin: pixels by which a stored image is larger than the square that a network is given; 0 where that is all.
      strides: for each layer whose maps can be moved, the product of its own and all earlier strides, pixels.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    maps: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    uphill: Callable[[np.ndarray, np.ndarray], np.ndarray]
    images: np.ndarray
    labels: np.ndarray
    few: np.ndarray
    reach: int
    draws: int
    epsilon: int
    margin: int
    strides: Mapping[str, int]


class Result(types.SimpleNamespace):
    """Values that a measurement found, each under a name: they are stored as arrays of that name.

    A value is an array [seeds, ...], NaN for a seed whose training diverged; a dict of such arrays by layer; or a
    number or text that all seeds have in common.
    """


@dataclasses.dataclass(frozen=True)
class Column:
    """A number of each seed, for tables.

    Attributes:
      name: in results.csv and summary.csv.
      title: in the report.
      take: takes it from a result, [seeds].
      unit: "%" for a share from 0 to 1, which report and LaTeX show in %; "" for a number shown as it is.
      digits: after the point, in report and LaTeX.
      latex: its heading in the LaTeX table; "" leaves it out.
      sentence: for the report's summary, with {} for the range of the arms' means; "" for none.
    """

    name: str
    title: str
    take: Callable[[Result], np.ndarray]
    unit: str = ""
    digits: int = 1
    latex: str = ""
    sentence: str = ""

    def shown(self, values):
        """Values as they are shown: shares in %."""
        return 100 * values if self.unit == "%" else values

    def summary(self, values) -> Summary:
        """Summarises the values of an arm, as they are shown."""
        return summarise_shares(values) if self.unit == "%" else summarise(values)


class Section(NamedTuple):
    """A section of the report. Measurements with equal ones share it.

    Attributes:
      id: unique on the page.
      title: its heading.
      text: a sentence under the heading.
    """

    id: str
    title: str
    text: str = ""


class Measurement(abc.ABC):
    """A measurement of a study besides accuracy.

    Attributes:
      section: of the report.
      columns: the numbers that it adds to tables.
    """

    section: ClassVar[Section]
    columns: Sequence[Column]

    @abc.abstractmethod
    def measure(self, context: Context) -> Result:
        """Measures the networks of a context."""

    @abc.abstractmethod
    def protocol(self, found: Result) -> str:
        """Returns one sentence on the way it was measured, for captions."""

    @abc.abstractmethod
    def figures(self, found: Mapping[str, Result], protocol: str) -> Sequence[Figure]:
        """Returns the figures that show it.

        Args:
          found: results by arm, at least one.
          protocol: the sentence of the first, for captions.
        """
