"""The experiments: one file each in experiments/, its docstring a recipe card.

A function `config()` returns the settings of a run, or a function `study()` those of a study.
"""

import ast
import dataclasses
import difflib
import importlib.util
import pathlib
import traceback

from cnn_jax.config import fields
from cnn_jax.config.run import Config
from cnn_jax.config.study import Study
from cnn_jax.errors import UsageError

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# Inside the package where that was installed, beside it in a checkout.
FOLDER = _PACKAGE / "experiments"
if not FOLDER.is_dir():
    FOLDER = _PACKAGE.parent / "experiments"


def names() -> list[str]:
    """Returns names of all experiments, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


def summaries() -> list[tuple[str, str]]:
    """Returns the name and the first line of the docstring of every experiment. The files are read, not run."""
    return [(name, docstring(name).partition("\n")[0]) for name in names()]


def docstring(name: str) -> str:
    """Returns the recipe card of an experiment, "" where it has none. The file is read, not run.

    Raises:
      UsageError: there is no such experiment, or its file is not valid Python.
    """
    return ast.get_docstring(_parse(_path(name))) or ""


def recipe(name: str) -> str:
    """Returns the recipe card of an experiment that was run once; "" where its file is gone or damaged."""
    try:
        return docstring(name)
    except UsageError:
        return ""


def departures(settings: Config | Study) -> list[str]:
    """Lists what a run or a study has in place of what its recipe says, a line each; empty where the recipe is gone."""
    try:
        card = load(settings.experiment)
    except UsageError:
        return []
    if isinstance(settings, Study) and isinstance(card, Study):
        found = _changed(settings.base, card.base)
        found += [f"study.{line}" for line in _changed(settings.protocol, card.protocol)]
        names = [arm.name for arm in settings.chosen]
        left_out = [arm.name for arm in card.chosen if arm.name not in names]
        return found + ([f"without the arms {', '.join(left_out)}"] if left_out else [])
    base = card.base if isinstance(card, Study) else card
    return _changed(settings, base) if isinstance(settings, Config) else []


def words(settings: Config) -> list[str]:
    """Returns the words of a command line that trains with some settings; where the data lie is left to the reader."""
    found = [f"--experiment={settings.experiment}"]
    try:
        card = load(settings.experiment)
    except UsageError:
        return found
    before = {leaf.path: leaf.value for leaf in fields.leaves(card)} if isinstance(card, Config) else {}
    for leaf in fields.leaves(settings):
        if leaf.path == "data.path" and leaf.value != before.get(leaf.path):
            found += ["--set", f"{leaf.path}=FOLDER"]
        elif leaf.value != before.get(leaf.path, leaf.value) and leaf.rule.get("identity", True):
            value = ",".join(map(str, leaf.value)) if isinstance(leaf.value, tuple) else leaf.value
            found += ["--set", f"{leaf.path}={value}"]
    return found


def _changed(ours, theirs):
    """Settings of both that differ and move results; those that only one kind has follow from the kind."""
    before = {leaf.path: leaf.value for leaf in fields.leaves(theirs)}
    return [
        f"{leaf.path}: {before[leaf.path]} → {leaf.value}"
        for leaf in fields.leaves(ours)
        if leaf.path in before and leaf.value != before[leaf.path] and leaf.rule.get("identity", True)
    ]


def title(name: str) -> str:
    """Returns the name of an experiment without the folder of its file, such as "mine" for "/home/me/mine.py"."""
    return pathlib.Path(name).stem if name.endswith(".py") else name


def load(name: str) -> Config | Study:
    """Returns the config or the study of an experiment. Runs its file and no other.

    Args:
      name: one of `names`, or the path of a file of your own, which ends in .py.

    Raises:
      UsageError: there is no such experiment, its file is not valid Python or fails, or it has no function config()
        that returns a Config and none study() that returns a Study.
    """
    path = _path(name)
    _parse(path)
    named = str(path) if name.endswith(".py") else name
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path)
    assert spec is not None and spec.loader is not None  # the file is there
    module = importlib.util.module_from_spec(spec)
    _told(path, lambda: spec.loader.exec_module(module))
    if hasattr(module, "config"):
        config = _of_kind(Config, "config", path, _told(path, module.config))
        return dataclasses.replace(config, experiment=named)
    if hasattr(module, "study"):
        study = _of_kind(Study, "study", path, _told(path, module.study))
        return dataclasses.replace(study, experiment=named, base=dataclasses.replace(study.base, experiment=named))
    raise UsageError(f"{_shown(path)} has no function config(); write one that returns a Config, or study(), a Study")


def _of_kind(kind, function, path, made):
    if not isinstance(made, kind):
        returned = f"{function}() of {_shown(path)} returned an object of type {type(made).__name__}"
        raise UsageError(f"{returned}, not a {kind.__name__}")
    return made


def _told(path, work):
    """`work()`; an error in the experiment's own code is told by its line, without a traceback."""
    try:
        return work()
    except UsageError:
        raise
    except Exception as error:  # whatever a person's code may raise
        lines = [line.lineno for line in traceback.extract_tb(error.__traceback__) if line.filename == str(path)]
        place = f", line {lines[-1]}" if lines else ""
        raise UsageError(f"{_shown(path)}{place}: {type(error).__name__}: {error}") from error


def _shown(path):
    return f"experiments/{path.name}" if path.parent == FOLDER else str(path)


def _path(name):
    if name.endswith(".py"):
        path = pathlib.Path(name).expanduser().absolute()
        if not path.is_file():
            raise UsageError(f"--experiment={name}: there is no file {path}")
        return path
    known = names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        ours = "A file of your own is named with its ending: --experiment=path/to/mine.py"
        raise UsageError(
            f"there is no experiment {name!r}{hint} The experiments are {', '.join(known) or '(none)'}. {ours}"
        )
    return FOLDER / f"{name}.py"


def _parse(path):
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UsageError(f"{_shown(path)}, line {error.lineno}: {error.msg}") from error
