"""Kinds of figures that show a measurement, as data: the report draws each kind in one way.

Values are by arm, as they are shown: shares in %, NaN or infinite where a seed has no value.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bars:
    """A dot for each seed, the mean and its interval, one arm a row.

    Attributes:
      name: unique on the page; begins the ids of the drawing.
      values: [seeds].
      axis: title of the axis.
      digits: after the point; None for those of an accuracy.
      caption: a few sentences.
    """

    name: str
    values: Mapping[str, np.ndarray]
    axis: str
    digits: int | None = None
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scatter:
    """Accuracy against the measurement, a point for each arm.

    Attributes:
      name: unique on the page; begins the ids of the drawing.
      values: [seeds], in %.
      title: of the axis across, and of the figure.
      caption: a few sentences.
    """

    name: str
    values: Mapping[str, np.ndarray]
    title: str
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves:
    """A small figure for each arm: mean over the seeds and the band around it, before the baseline's.

    Attributes:
      name: unique on the page; begins the ids of the drawing.
      values: [seeds, points], at 0, 1, 2, ... along the axis.
      unit: of the values, after the numbers.
      axis: title of the axis across.
      caption: a few sentences.
    """

    name: str
    values: Mapping[str, np.ndarray]
    unit: str = ""
    axis: str
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Map:
    """A picture for each arm, mean over the seeds, and below it the difference to the baseline where it is sure.

    Attributes:
      values: [seeds, height, width], in %.
      middle: a word for the middle, whose value stands below the picture.
      caption: a few sentences.
    """

    values: Mapping[str, np.ndarray]
    middle: str
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerTable:
    """A table with a row for each arm and a column for each layer: means over the seeds.

    Attributes:
      values: [seeds] by layer.
      digits: after the point.
      caption: a few sentences.
    """

    values: Mapping[str, Mapping[str, np.ndarray]]
    digits: int
    caption: str


Figure = Bars | Scatter | Curves | Map | LayerTable
