"""Measurements by name: joined over groups of seeds, stored as arrays, and taken into columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnn_jax import files
from cnn_jax.studies.measurements import find
from cnn_jax.studies.measurements.base import Result


def joined(groups: Sequence[dict[str, Result]]) -> dict[str, Result]:
    """Returns the measurements of several groups of seeds as those of one."""
    return {name: Result(**_joined([vars(group[name]) for group in groups])) for name in groups[0]}


def _joined(values):
    if isinstance(values[0], dict):
        return {key: _joined([value[key] for value in values]) for key in values[0]}
    return np.concatenate(values) if isinstance(values[0], np.ndarray) else values[0]


def store(path: Path, found: dict[str, Result]) -> None:
    """Writes measurements as arrays named MEASUREMENT/VALUE or MEASUREMENT/VALUE/LAYER."""
    arrays = {}
    for name, result in found.items():
        for field, value in vars(result).items():
            parts = value if isinstance(value, dict) else {"": value}
            arrays |= {"/".join(filter(None, (name, field, key))): part for key, part in parts.items()}
    files.write_arrays(path, **{name: np.asarray(value) for name, value in arrays.items()})


def load(path: Path) -> dict[str, Result]:
    """Reads what `store` wrote.

    Raises:
      OSError, ValueError: it is not there, or damaged.
    """
    found: dict = {}
    for key, array in files.read_arrays(path).items():
        name, field, *layer = key.split("/", 2)
        value = array if array.ndim else array.item()
        held = vars(found.setdefault(name, Result()))
        if layer:
            held.setdefault(field, {})[layer[0]] = value
        else:
            held[field] = value
    return found


def columns(found: dict[str, Result]) -> dict[str, np.ndarray]:
    """Returns the numbers for tables: [seeds] each, by name of column."""
    return {column.name: column.take(result) for name, result in found.items() for column in find(name).columns}
