"""A study: arms that differ from a common base in named settings, trained from the same seeds and compared.

Nothing here imports jax: `--list`, `--help` and usage errors answer at once.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cnn_jax.config import fields, overrides, rules, run
from cnn_jax.config.fields import Group, setting
from cnn_jax.config.run import Config
from cnn_jax.config.training import Plateau
from cnn_jax.errors import UsageError

PREFIX = "study."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
TRACED = "optimizer.learning_rate"  # the setting whose values train in one program
ALONE = "run"  # the name of the arm that a sweep of an experiment has
FIXED = {"experiment": "all arms are of one experiment"}
APART = 10_000  # from the first seed of a study to that of its sweep; no study has more seeds, so they never meet


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
    reach: int = setting(0, low=0, high=4096)  # pixels by which images are shifted, at most; 0: 4, or an eighth of the
    # side where that is less
    draws: int = setting(5, low=1, high=10_000)  # pairs of random shifts of each image, of measurements of consistency
    epsilon: int = setting(8, low=1, high=255)  # size of adversarial steps, grey levels of 255
    target: float = setting(0.0, identity=False, low=0.0, high=1.0)  # report when training accuracy reaches it; 0: no
    sweep: str = ""  # SETTING=VALUE,VALUE,...: each arm is trained with the value that is best on training images held
    # out for that, such as optimizer.learning_rate=0.1,0.03,0.01; "": none is tried
    sweep_seeds: int = setting(3, low=1, high=10_000)  # runs with each value, from seeds that the arms do not have
    sweep_images: int = setting(5000, low=1, high=10**9)  # training images that the values are compared on; where the
    # base holds some out, or the data have validation images, those are


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing to try.

    Attributes:
      name: for tables and folders: letters, digits, "_", "-", "+" and ".".
      changes: what differs from the base, as --set would say it, such as "model.pool.kind=average"; and here
        "model.name=lenet1" chooses another network, which keeps what both have settings for.
      parameters: why the arm's number of parameters differs from the baseline's; "": it must not.
      levels: of the study's factors, in their order, such as ("average", "tanh").
    """

    name: str
    changes: tuple[str, ...] = ()
    parameters: str = ""
    levels: tuple[str, ...] = ()


class Sweep(NamedTuple):
    """Values to try of one setting."""

    setting: str
    values: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Sweep":
        """Reads SETTING=VALUE,VALUE,...

        Raises:
          UsageError: it is not written so, has a single value or one of them twice.
        """
        name, equals, values = text.partition("=")
        found = tuple(value.strip() for value in values.split(","))
        if not equals or not name.strip() or len(found) < 2 or "" in found:
            raise UsageError(
                f"sweep = {text!r} must be SETTING=VALUE,VALUE,... with two values or more, such as {TRACED}=0.1,0.03"
            )
        twice = [value for value in found if found.count(value) > 1]
        if twice:
            raise UsageError(f"sweep = {text!r} has the value {twice[0]} twice")
        return cls(name.strip(), found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Arms to compare.

    Attributes:
      experiment: the name it was started under.
      base: what all arms have in common.
      arms: in the order of tables.
      baseline: the name of the arm that the others are compared with.
      pairs: names of two arms each, also compared: the first with the second.
      factors: names of what the arms vary, such as ("pool", "activation"); each arm then has a level of each.
      within: one of the factors: an arm is compared with the one that has its own level of this factor and the
        baseline's of all others, and tests are corrected level by level; "": all arms are compared with the baseline.
      protocol: how they are trained and compared.
    """

    experiment: str = ""
    base: Config
    arms: tuple[Arm, ...]
    baseline: str
    pairs: tuple[tuple[str, str], ...] = ()
    factors: tuple[str, ...] = ()
    within: str = ""
    protocol: Protocol = Protocol()

    def reference(self, arm: Arm) -> str:
        """Returns the name of the arm that an arm is compared with; "" for one that others are compared with."""
        found = self._reference(arm)
        return "" if found is None or found.name == arm.name else found.name

    def counterpart(self, arm: Arm) -> str:
        """Returns the name of the arm with the baseline's level of `within` and an arm's other levels, or ""."""
        found = self._with_levels(self._levels(arm, own=self._baseline)) if self.within else None
        return "" if found is None or found.name == arm.name else found.name

    @property
    def references(self) -> list[str]:
        """The arms that others are compared with: the baseline or, within levels, one of each."""
        return list(dict.fromkeys([self.baseline, *filter(None, map(self.reference, self.arms))]))

    @property
    def _baseline(self):
        return next(arm for arm in self.arms if arm.name == self.baseline)

    def _reference(self, arm):
        return self._with_levels(self._levels(self._baseline, own=arm)) if self.within else self._baseline

    def _levels(self, arm, own):
        place = self.factors.index(self.within)
        return (*arm.levels[:place], own.levels[place], *arm.levels[place + 1 :])

    def _with_levels(self, levels):
        return next((arm for arm in self.arms if arm.levels == levels), None)

    @property
    def chosen(self) -> tuple[Arm, ...]:
        """The arms to train: all of them, or those asked for with what they are compared with."""
        if not self.protocol.arms:
            return self.arms
        wanted = {self.baseline, *self.protocol.arms}
        wanted |= {self.reference(arm) for arm in self.arms if arm.name in wanted}
        return tuple(arm for arm in self.arms if arm.name in wanted)

    @property
    def groups(self) -> list[list[int]]:
        """The seeds of each program: `study.together` of them, from the base's seed on."""
        first, count = self.base.seed, self.protocol.seeds
        size = min(self.protocol.together or count, count)
        return [list(range(first + k, first + min(k + size, count))) for k in range(0, count, size)]

    @property
    def sweep(self) -> Sweep | None:
        """The values that each arm tries; None where there are none."""
        return Sweep.of(self.protocol.sweep) if self.protocol.sweep else None

    @property
    def trials(self) -> list[list[tuple[str, int]]]:
        """The runs (value, seed) of an arm's sweep, a list for each program: of one value, unless values are traced."""
        if self.sweep is None:
            return []
        seeds = [self.base.seed + APART + k for k in range(self.protocol.sweep_seeds)]
        values = self.sweep.values
        alike = [values] if self.sweep.setting == TRACED else [(value,) for value in values]
        runs = [[(value, seed) for value in group for seed in seeds] for group in alike]
        cut = lambda group, size: [group[k : k + size] for k in range(0, len(group), size)]
        return [part for group in runs for part in cut(group, self.protocol.together or len(group))]

    @property
    def sizes(self) -> list[int]:
        """The number of networks that are trained together, of each program of an arm."""
        return [*map(len, self.trials), *map(len, self.groups)]

    def settings(self, arm: Arm, value: str | None = None) -> Config:
        """Returns the config of an arm; its seed is that of the first run.

        Args:
          arm: one of the arms.
          value: of the sweep; None: as declared.

        Raises:
          UsageError: the arm's changes do not fit the base.
        """
        swept = [f"{self.sweep.setting}={value}"] if self.sweep and value is not None else []
        try:
            return overrides.apply(self.base, [*arm.changes, *swept], fixed=FIXED)
        except UsageError as error:
            raise UsageError(f"arm {arm.name!r} of {self.experiment}: {error}") from None

    def trial(self, arm: Arm, value: str, validates: Callable[[Config], bool]) -> Config:
        """Returns the config of an arm while values are tried.

        Args:
          arm: one of the arms.
          value: of the sweep.
          validates: tells whether there are validation images under a config; else some training images become them.
        """
        settings = self.settings(arm, value)
        if validates(settings):
            return settings
        held_out = self.protocol.sweep_images
        return dataclasses.replace(settings, data=dataclasses.replace(settings.data, validation=held_out))


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
        for value in study.sweep.values if study.sweep else ():
            study.settings(arm, value)
    return study


def swept(settings: Config, sweep: str) -> Study:
    """Returns the study that tries values of a setting of an experiment, and then trains that with the best of them.

    Args:
      settings: of the experiment.
      sweep: SETTING=VALUE,VALUE,...
    """
    return Study(
        experiment=settings.experiment,
        base=settings,
        arms=(Arm(name=ALONE),),
        baseline=ALONE,
        protocol=Protocol(seeds=1, sweep=sweep),
    )


def to_dict(study: Study) -> dict:
    """Returns a plain nested dict, ready for JSON."""
    return {
        "experiment": study.experiment,
        "base": fields.to_dict(study.base),
        "arms": [dataclasses.asdict(arm) for arm in study.arms],
        "baseline": study.baseline,
        "pairs": study.pairs,
        "factors": study.factors,
        "within": study.within,
        "study": dataclasses.asdict(study.protocol),
    }


def from_dict(values: dict) -> Study:
    """Returns the study that `to_dict` (or JSON) made the dict from.

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
        factors=tuple(values.get("factors", ())),  # since November 2026
        within=values.get("within", ""),
        protocol=Protocol(**_tuples(values["study"])),
    )
    texts = [found.experiment, found.baseline, *(name for pair in found.pairs for name in pair)]
    texts += [text for arm in found.arms for text in (arm.name, arm.parameters, *arm.changes, *arm.levels)]
    texts += [found.within, *found.factors]
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
    return found + _factor_problems(study) + _sweep_problems(study)


def _factor_problems(study):
    count = len(study.factors)
    found = [
        f"arm {arm.name!r} has {len(arm.levels)} levels, and the study {count} factors: {', '.join(study.factors)}"
        for arm in study.arms
        if len(arm.levels) != count
    ]
    levels = [arm.levels for arm in study.arms]
    twice = {each for each in levels if count and levels.count(each) > 1}
    found += [f"two arms have the levels {', '.join(each)}" for each in sorted(twice)]
    if study.within and study.within not in study.factors:
        found.append(f"within = {study.within!r} is none of the factors: {', '.join(study.factors)}")
    if found or not study.within or study.baseline not in {arm.name for arm in study.arms}:
        return found
    return [
        f"arm {arm.name!r} has nothing to be compared with: no arm has the baseline's levels and {study.within} = "
        + arm.levels[study.factors.index(study.within)]
        for arm in study.arms
        if study._reference(arm) is None
    ]


def _sweep_problems(study):
    try:
        sweep = study.sweep
    except UsageError as error:
        return [f"study.{error}"]
    if sweep is None:
        return []
    fixed = sweep.setting == "seed" or sweep.setting.startswith(("data.", PREFIX))
    found = [f"study.sweep = {study.protocol.sweep!r}: {sweep.setting} cannot be swept"] * fixed
    return found + [
        f"arm {arm.name!r} sets {sweep.setting}, which the study sweeps: leave one of the two out"
        for arm in study.arms
        if any(change.partition("=")[0].strip() == sweep.setting for change in arm.changes)
    ]
