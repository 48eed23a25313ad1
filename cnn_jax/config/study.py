"""A study: arms that differ from a common base in named settings, trained from the same seeds and compared.

Nothing here imports jax: `--list`, `--help` and usage errors answer at once.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from cnn_jax.config import fields, overrides, rules, run
from cnn_jax.config.fields import Group, setting
from cnn_jax.config.run import Config
from cnn_jax.config.training import Plateau
from cnn_jax.errors import UsageError

PREFIX = "study."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol(Group):
    """The way a study trains and compares its arms: `--set study.NAME=value`."""

    seeds: int = setting(10, low=1, high=10_000)  # runs of each arm, from the seed on; the same ones for all arms
    arms: tuple[str, ...] = setting((), identity=False)  # train and compare only these, and the baseline; (): all
    together: int = setting(0, identity=False, low=0, high=10_000)  # seeds trained in one program; 0: all
    select: str = setting("last", choices=("last", "best"))  # whose parameters count: the last step's, or those with
    # the best validation accuracy of each seed, which needs data.validation
    measurements: tuple[str, ...] = ()  # besides accuracy; see studies/measurements/
    test: str = setting("t", identity=False, choices=("t", "wilcoxon"))  # of paired differences to the baseline
    images: int = setting(0, low=0, high=10**9)  # test images that measurements use; 0: all
    target: float = setting(0.0, identity=False, low=0.0, high=1.0)  # report when training accuracy reaches it; 0: no


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing to try.

    Attributes:
      name: for tables and folders: letters, digits, "_", "-", "+" and ".".
      changes: what differs from the base, as --set would say it, such as "model.pool.kind=average".
      parameters: why the arm's number of parameters differs from the baseline's; "": it must not.
    """

    name: str
    changes: tuple[str, ...] = ()
    parameters: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Arms to compare.

    Attributes:
      experiment: the name it was started under.
      base: what all arms have in common.
      arms: in the order of tables.
      baseline: the name of the arm that the others are compared with.
      pairs: names of two arms each, also compared: the first with the second.
      protocol: how they are trained and compared.
    """

    experiment: str = ""
    base: Config
    arms: tuple[Arm, ...]
    baseline: str
    pairs: tuple[tuple[str, str], ...] = ()
    protocol: Protocol = Protocol()

    @property
    def chosen(self) -> tuple[Arm, ...]:
        """The arms to train: all of them, or the baseline and those asked for."""
        wanted = {*self.protocol.arms, self.baseline} if self.protocol.arms else {arm.name for arm in self.arms}
        return tuple(arm for arm in self.arms if arm.name in wanted)

    @property
    def groups(self) -> list[list[int]]:
        """The seeds of each program: `study.together` of them, from the base's seed on."""
        first, count = self.base.seed, self.protocol.seeds
        size = min(self.protocol.together or count, count)
        return [list(range(first + k, first + min(k + size, count))) for k in range(0, count, size)]

    def settings(self, arm: Arm) -> Config:
        """The config of an arm; its seed is that of the first run.

        Raises:
          UsageError: the arm's changes do not fit the base.
        """
        try:
            return overrides.apply(self.base, list(arm.changes))
        except UsageError as error:
            raise UsageError(f"arm {arm.name!r} of {self.experiment}: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Own:
    """The part of a study that can be set, under the name it is set by."""

    study: Protocol


def apply(study: Study, specs: list[str], further: Callable[[Study], list[str]] = lambda study: []) -> Study:
    """Replaces settings: "study.NAME=value" those of the study, all others those of the base.

    Args:
      study: the study.
      specs: as for `overrides.apply`.
      further: what else is wrong with a study, one line each, such as `measurements.problems`.

    Raises:
      UsageError: a spec could not be read, or the result is unsound.
    """
    own = [spec for spec in specs if spec.strip().startswith(PREFIX)]
    base = overrides.apply(study.base, [spec for spec in specs if spec not in own])
    asked = overrides.apply(_Own(study=study.protocol), own, lambda asked: rules.broken_rules(asked.study, PREFIX))
    study = dataclasses.replace(study, base=base, protocol=asked.study)
    found = problems(study) + further(study)
    if found:
        raise UsageError("\n".join(found))
    for arm in study.arms:  # all, so that a study is sound whichever arms are chosen
        study.settings(arm)
    return study


def to_dict(study: Study) -> dict:
    """Plain nested dict, ready for JSON."""
    return {
        "experiment": study.experiment,
        "base": fields.to_dict(study.base),
        "arms": [dataclasses.asdict(arm) for arm in study.arms],
        "baseline": study.baseline,
        "pairs": study.pairs,
        "study": dataclasses.asdict(study.protocol),
    }


def from_dict(values: dict) -> Study:
    """The study that `to_dict` (or JSON) made the dict from.

    Raises:
      ValueError, TypeError, KeyError, AttributeError: it is damaged or of another version.
    """
    if not isinstance(values, dict):
        raise ValueError("it holds no table of names and values")
    found = Study(
        experiment=values["experiment"],
        base=run.from_dict(values["base"]),
        arms=tuple(Arm(**_tuples(arm)) for arm in values["arms"]),
        baseline=values["baseline"],
        pairs=tuple(map(tuple, values["pairs"])),
        protocol=Protocol(**_tuples(values["study"])),
    )
    texts = [found.experiment, found.baseline, *(name for pair in found.pairs for name in pair)]
    texts += [text for arm in found.arms for text in (arm.name, arm.parameters, *arm.changes)]
    wrong = fields.mistyped(found.protocol, PREFIX)
    wrong += [f"{text!r:.80} must be a text" for text in texts if type(text) is not str]
    wrong = wrong or problems(found)
    if wrong:
        raise ValueError("; ".join(wrong))
    return found


def _tuples(group: dict) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in group.items()}


def problems(study: Study) -> list[str]:
    """Lists what is wrong with a study as a whole, one line each."""
    known = [arm.name for arm in study.arms]
    found = [f"the study has two arms named {name!r}" for name in sorted({n for n in known if known.count(n) > 1})]
    found += [
        f"the arm's name {name!r} must be made of letters, digits, '_', '-', '+' and '.'"
        for name in known
        if not NAME.fullmatch(name)
    ]
    if study.baseline not in known:
        found.append(f"the baseline {study.baseline!r} is none of the arms: {', '.join(known)}")
    for pair in study.pairs:
        found += [f"the pair {pair} compares {name!r}, which is no arm" for name in pair if name not in known]
    strange = [name for name in study.protocol.arms if name not in known]
    if strange:
        found.append(f"study.arms: there is no {', '.join(strange)}; there are {', '.join(known)}")
    if study.protocol.select == "best" and not study.base.data.validation:
        found.append("study.select = 'best' goes by the validation accuracy: hold out examples with data.validation")
    if isinstance(study.base.schedule.kind, Plateau):
        found.append("schedule.name = 'plateau': every seed would have a rate of its own; use another schedule")
    return found
