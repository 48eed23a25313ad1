"""Parts that the reports of runs and of studies share. Needs nothing but NumPy."""

import dataclasses
import math

import numpy as np

from cnn_jax.config import Config, fields, from_dict, leaves

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """The maps of one convolution for the example image, and the output of the pooling after it.

    Attributes:
      name: the layer, such as "convolution 1".
      maps: float [height, width, channels], what the pooling is given (or the layer's output, where none follows).
      pooling: the pooling in words, such as "max pooling 2x2, stride 2"; "" where none follows.
      pooled: float [smaller height, smaller width, channels]; None where none follows.
    """

    name: str
    maps: np.ndarray
    pooling: str = ""
    pooled: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """An image on its way through a network of K classes.

    Attributes:
      name: in words, such as "test image 17".
      label: its class; "" where nobody has said it.
      image: uint8 [height, width, channels], as the network sees it.
      probabilities: float [K].
      stages: the convolutions, input to output.
      evidence: maps over the image of what the answer rests on, by what they show; float [height, width] each.
      state: of a network whose answer is the nearest bitmap, what is compared with them, float [units]; else None.
      distances: of such a network, the squared distance to each class's bitmap, float [K].
    """

    name: str
    label: str
    image: np.ndarray
    probabilities: np.ndarray
    stages: list[Stage]
    evidence: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    state: np.ndarray | None = None
    distances: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filters:
    """The kernels of a convolution.

    Attributes:
      name: of the layer.
      kernels: float [height, width, inputs, features]; 0 where a feature does not read an input.
      reads: the inputs that each feature reads, where a table says it; else None.
      exciting: for each feature, pieces of the images that excite it most, uint8 [count, side, side, 1 or 3]; empty
        where they were not looked for.
    """

    name: str
    kernels: np.ndarray
    reads: tuple[tuple[int, ...], ...] | None = None
    exciting: list[np.ndarray] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Bin:
    """Images on which the network was about equally sure.

    Attributes:
      count: images in the bin.
      correct: of them, answered correctly.
      confidence: mean probability of the answer given, 0 to 1; NaN in an empty bin.
    """

    count: int
    correct: int
    confidence: float


def settings(config: dict) -> list[tuple[str, object, object]]:
    """Returns all settings of a run beside what they would be by default.

    Args:
      config: nested dict, as `config.to_dict` gives it.

    Returns:
      (dotted name, value, default) in the config's order; the default is the value itself where none is known.
    """
    known = {leaf.path: leaf.value for leaf in leaves(Config())}
    try:
        made = from_dict(config)
    except (ValueError, TypeError):
        made = Config()  # of another version
    for prefix, chosen, kind in fields.choices(made):
        # Which kind it is counts as a choice; its settings are compared with those that it has by default.
        own = leaves(type(kind)(), f"{prefix}{chosen.inside}") if kind is not None else ()
        known |= {leaf.path: leaf.value for leaf in own}
    return [(name, value, known.get(name, value)) for name, value in _flatten(config) if name != "format"]


def _flatten(group, prefix=""):
    for name, value in group.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", tuple(value) if isinstance(value, list) else value


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Returns the 95 % score interval of a proportion (E. B. Wilson, 1927).

    Args:
      successes: 0 to trials.
      trials: at least 1.

    Returns:
      The interval's ends, within 0 to 1.
    """
    share = successes / trials
    centre = share + Z95**2 / (2 * trials)
    spread = Z95 * math.sqrt(share * (1 - share) / trials + Z95**2 / (4 * trials**2))
    scale = 1 + Z95**2 / trials
    # Without rounding, the interval of none ends at 0, that of all at 1.
    low = (centre - spread) / scale if successes else 0.0
    return low, (centre + spread) / scale if successes < trials else 1.0
