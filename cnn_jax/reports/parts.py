"""Parts that the reports of runs and of studies share. Needs nothing but NumPy."""

import dataclasses

import numpy as np

from cnn_jax.config import Config, fields, from_dict, leaves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What one convolution makes of the example image, and what the pooling after it keeps.

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


def settings(config: dict) -> list[tuple[str, object, object]]:
    """All settings of a run beside what they would be by default.

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
