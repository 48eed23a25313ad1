"""The settings that an experiment and its changes add up to, refused with all that is wrong with them; without jax."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnn_jax import models
from cnn_jax.config import experiments, overrides
from cnn_jax.config import study as studies
from cnn_jax.config.rules import problems
from cnn_jax.config.run import Config
from cnn_jax.config.study import Study
from cnn_jax.errors import UsageError
from cnn_jax.studies import measurements


def settings(experiment: str, changes: Sequence[str] = (), sweep: str = "") -> Config | Study:
    """Returns the settings of an experiment, some of them replaced.

    Args:
      experiment: its name, or the path of a file of your own.
      changes: as for --set, such as "optimizer.learning_rate=0.002".
      sweep: as for --sweep.

    Raises:
      UsageError: there is no such experiment, or the changes cannot be read or do not go together. One line for each
        thing wrong.
    """
    return changed(*with_sweep(experiments.load(experiment), changes, sweep))


def with_sweep(settings: Config | Study, changes: Sequence[str], sweep: str | None) -> tuple[Any, list[str]]:
    """Returns settings and changes that try the values of a sweep; of a run, the settings are those of a study."""
    if not sweep:
        return settings, list(changes)
    if isinstance(settings, Config):
        return studies.swept(settings, sweep), list(changes)
    return settings, [f"{studies.PREFIX}sweep={sweep}", *changes]


def changed(settings: Config | Study, changes: Sequence[str]) -> Any:
    """Returns settings of the same kind, some of them replaced; see `settings`."""
    if isinstance(settings, Study):
        return studies.apply(settings, list(changes), _problems_of_study)
    return overrides.apply(settings, list(changes), _problems)


def check_data(settings: Config | Study) -> None:
    """Refuses settings that do not fit their data. Files are listed, and none is opened.

    Raises:
      UsageError: they do not. One line for each thing wrong.
      UserError: the data are not where the settings say.
    """
    if isinstance(settings, Study):
        _check_data({"": settings.base})
        _check_data({f"arm {arm.name!r}": settings.settings(arm) for arm in settings.chosen})
        if settings.sweep:
            from cnn_jax.data.datasets import source  # NumPy, which other usage errors do without

            value = settings.sweep.values[0]
            trials = {f"arm {arm.name!r}": settings.trial(arm, value, source.has_validation) for arm in settings.chosen}
            held_out = "data.validation" if settings.base.data.validation else "study.sweep_images"
            _check_data(trials, held_out, " in the sweep")
    else:
        _check_data({"": settings})


def _check_data(settings: Mapping[str, Config], held_out: str = "data.validation", where: str = "") -> None:
    """Checks the settings of whatever a key names, "" of a run; `held_out` as for `data.checks.problems`."""
    from cnn_jax.data import checks  # NumPy, which other usage errors do without
    from cnn_jax.data.datasets import source

    found = [(line, name) for name, each in settings.items() for line in checks.problems(each, held_out)]
    if not found:
        unknown = {name: each for name, each in settings.items() if not each.data.kind.shape}
        shape = lambda each: source.facts(each.data).shape
        found = [(line, name) for name, each in unknown.items() for line in models.problems(each, shape(each))]
    if found:
        raise UsageError("\n".join(_said_once(found, where)))


def _said_once(found, where=""):
    """Yields each line once, after the first of the names that it is of and the number of the others."""
    owners: dict[str, list[str]] = {}
    for line, name in found:
        owners.setdefault(line, []).append(name)
    for line, names in owners.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{names[0]}{others}{where}: {line}" if names[0] else line


def _problems(settings):
    """Returns what is wrong with settings: one by one, together, and in the layers that they make."""
    found = problems(settings)
    sound = not any(line.startswith(("data.", "model.")) for line in found)  # sizes make sense
    return found + (models.problems(settings, settings.data.kind.shape) if sound else [])


def _problems_of_study(study):
    """Returns what is wrong with a study's measurements, and with the layers of its base or else of each arm."""
    arms = {"": study.base} | {f"arm {arm.name!r}": study.settings(arm) for arm in study.arms}
    for value in study.sweep.values if study.sweep and not studies.problems(study) else ():
        arms |= {f"arm {arm.name!r}, {value}": study.settings(arm, value) for arm in study.arms}
    found = {start: models.problems(each, each.data.kind.shape) for start, each in arms.items()}
    layers = found[""] or _said_once([(line, name) for name, lines in found.items() for line in lines])
    return [*measurements.problems(study), *layers]
