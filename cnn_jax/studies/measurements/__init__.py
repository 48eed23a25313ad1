"""Measurements of a study besides accuracy: a file each, found by listing this folder.

To add one, write a file NAME.py here with an object MEASUREMENT of a class of its own, made from `base.Measurement`.
`--set study.measurements=NAME` then measures it, and every table and report of a study shows its columns and figures.
The first line of the file says what is measured. A file may say DATA = "NAME" where it is for one dataset only,
and NEEDS = "data.crop" where a setting must not be 0.

These are read from a file without running it, so that the command line can refuse a name without importing NumPy.
"""

import ast
import importlib
import typing
from collections.abc import Sequence
from pathlib import Path

from cnn_jax.config import fields

if typing.TYPE_CHECKING:
    from cnn_jax.config import Config
    from cnn_jax.config.study import Study
    from cnn_jax.studies.measurements.base import Measurement

PARTS = {"base", "figures", "shifts", "storing", "strides"}  # files of this folder that are no measurement


def names() -> list[str]:
    """Returns names of all measurements, sorted. No file is read."""
    found = {path.stem for folder in __path__ for path in Path(folder).glob("[!_]*.py")}
    return sorted(found - PARTS)


def summary(name: str) -> str:
    """Returns one line on a measurement: the first of its file's docstring. The file is read, not run."""
    return (ast.get_docstring(_parse(name)) or "").partition("\n")[0]


def refusal(name: str, settings: "Config") -> str:
    """Returns a line that says why a measurement does not fit a study's base, or "". The file is read, not run.

    Args:
      name: of the measurement.
      settings: the base.
    """
    said = {}
    for line in _parse(name).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) in ("DATA", "NEEDS"):
            said[ast.unparse(line.targets[0])] = ast.literal_eval(line.value)
    only, needed = said.get("DATA"), said.get("NEEDS")
    if only and settings.data.name != only:
        return f"{name!r} is for data.name = {only!r}, not {settings.data.name!r}"
    if needed and not next(leaf.value for leaf in fields.leaves(settings) if leaf.path == needed):
        return f"{name!r} needs {needed}, which is 0"
    return ""


def problems(study: "Study") -> list[str]:
    """Returns what is wrong with the measurements that a study asks for, one line each."""
    return [f"study.measurements: {line}" for line in refused(study.protocol.measurements, study.base)]


def refused(asked: Sequence[str], settings: "Config") -> list[str]:
    """Returns which names are of no measurement, and which measurements do not fit a run, one line each."""
    there = names()
    strange = [name for name in asked if name not in there]
    found = [f"there is no {', '.join(strange)}; there are {', '.join(there)}"] if strange else []
    return found + [line for name in asked if name in there and (line := refusal(name, settings))]


def find(name: str) -> "Measurement":
    """Returns the measurement of a name. Imports its file, and NumPy with it."""
    return importlib.import_module(f"{__name__}.{name}").MEASUREMENT


def _parse(name):
    path = next(path for folder in __path__ if (path := Path(folder) / f"{name}.py").exists())
    return ast.parse(path.read_text(encoding="utf-8"))
