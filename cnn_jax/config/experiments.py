"""The experiments: one file each in experiments/, its docstring a recipe card.

A function `config()` returns the settings of a run, or a function `study()` those of a study.
"""

import ast
import dataclasses
import difflib
import importlib.util
import pathlib

from cnn_jax.config.run import Config
from cnn_jax.config.study import Study
from cnn_jax.errors import UsageError

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments"


def names() -> list[str]:
    """Names of all experiments, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


def summaries() -> list[tuple[str, str]]:
    """Name and first line of the docstring of every experiment. The files are read, not run."""
    return [(name, docstring(name).partition("\n")[0]) for name in names()]


def docstring(name: str) -> str:
    """The recipe card of an experiment, "" where it has none. The file is read, not run.

    Raises:
      UsageError: there is no such experiment, or its file is not valid Python.
    """
    return ast.get_docstring(_parse(_path(name))) or ""


def load(name: str) -> Config | Study:
    """The config or the study of an experiment. Runs its file and no other.

    Raises:
      UsageError: there is no such experiment, its file is not valid Python, or has no function config() that
        returns a Config and none study() that returns a Study.
    """
    path = _path(name)
    _parse(path)
    spec = importlib.util.spec_from_file_location(f"experiments.{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for function, kind in (("config", Config), ("study", Study)):
        if hasattr(module, function):
            made = getattr(module, function)()
            if not isinstance(made, kind):
                returned = f"{function}() of experiments/{path.name} returned an object of type {type(made).__name__}"
                raise UsageError(f"{returned}, not a {kind.__name__}")
            named = dataclasses.replace(made, experiment=name)
            return (
                named
                if kind is Config
                else dataclasses.replace(named, base=dataclasses.replace(named.base, experiment=name))
            )
    raise UsageError(
        f"experiments/{path.name} has no function config(); write one that returns a Config, or study(), a Study"
    )


def _path(name):
    known = names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise UsageError(f"there is no experiment {name!r}{hint} The experiments are {', '.join(known) or '(none)'}")
    return FOLDER / f"{name}.py"


def _parse(path):
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UsageError(f"experiments/{path.name}, line {error.lineno}: {error.msg}") from error
