"""The results of a study: what its arms' folders hold, as tables."""

import csv
import dataclasses
import functools
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cnn_jax import files, run_data
from cnn_jax.config import experiments
from cnn_jax.config.study import Arm, Study
from cnn_jax.data.datasets import source
from cnn_jax.studies import arm as arms
from cnn_jax.studies import measurements, statistics, sweeps
from cnn_jax.studies.measurements import storing
from cnn_jax.studies.measurements.base import Column, Result
from cnn_jax.studies.sweeps import Swept
from cnn_jax.training.metric_files import read_rows
from cnn_jax.training.metrics import numbers, vectors


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmResult:
    """A finished arm; arrays are [seeds, ...], NaN where a seed's training diverged.

    Attributes:
      arm: its declaration.
      record: arm.json: parameters, multiply_adds, seconds, images_per_second, memory, together, ...
      seeds: [seeds].
      accuracy: of the test images, 0 to 1, [seeds].
      loss: [seeds].
      correct: bool [seeds, images]; None where only tables are left.
      curves: for each seed, the rows of metrics.jsonl.
      measurements: by name.
      pictures: by name, see `arm.py`.
      metrics: by name, [seeds], or [seeds, classes]; those that say nothing of these classes are missing.
      sweep: how the values did that it chose from; None where it had none.
      table: the figures that a table has kept, where nothing else is left; None: those of the measurements.
    """

    arm: Arm
    record: dict
    seeds: np.ndarray
    accuracy: np.ndarray
    loss: np.ndarray
    correct: np.ndarray | None
    curves: list[list[dict]]
    measurements: dict[str, Result]
    pictures: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    sweep: Swept | None = None
    table: dict[str, np.ndarray] | None = None

    @property
    def figures(self) -> dict[str, np.ndarray]:
        """The numbers for tables besides accuracy and loss: [seeds] each, by name of column."""
        if self.table is not None:
            return self.table
        found = {column.name: column.take(self) for column in METRIC_COLUMNS if column.name[5:] in self.metrics}
        found |= storing.columns(self.measurements)
        if self.record["study"]["target"]:
            found[EPOCHS.name] = EPOCHS.take(self)
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """The comparisons of one figure, in its unit; those whose arms are not finished are missing.

    Attributes:
      arms: by name, each with its reference; p-values are adjusted over all arms with the same reference.
      pairs: that the study declares, by the two names, the first compared with the second; adjusted over all pairs.
      interactions: of a study within levels, by name of arm: the difference to its reference, minus the same difference
        in the baseline's level; adjusted over all of them.
    """

    arms: dict[str, statistics.Comparison]
    pairs: dict[tuple[str, str], statistics.Comparison]
    interactions: dict[str, statistics.Comparison]

    @property
    def rows(self) -> list[tuple[str, str, str, statistics.Comparison]]:
        """Each comparison with its kind, "reference", "pair" or "interaction", and the arms' names."""
        found = [("reference", arm, "", each) for arm, each in self.arms.items()]
        found += [("pair", one, other, each) for (one, other), each in self.pairs.items()]
        return found + [("interaction", arm, "", each) for arm, each in self.interactions.items()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """A study's finished arms.

    Attributes:
      study: the study.
      arms: in the study's order; those not finished are missing.
      accuracy: comparisons of accuracy, in points.
      measured: comparisons of the other figures, in the unit of tables, by name of column.
      unfinished: names of the chosen arms without a result, each with what is known of why ("" if nothing).
      class_names: of the data.
    """

    study: Study
    arms: list[ArmResult]
    accuracy: Compared
    measured: dict[str, Compared]
    unfinished: dict[str, str]
    class_names: tuple[str, ...]

    @property
    def comparisons(self) -> dict[str, statistics.Comparison]:
        """Each arm's accuracy compared with its reference."""
        return self.accuracy.arms

    @property
    def measurements(self) -> list[str]:
        """The names of all measurements that an arm has, in the study's order."""
        return list(dict.fromkeys(name for each in self.arms for name in each.measurements))

    @property
    def columns(self) -> list[Column]:
        """The columns of `ArmResult.figures` that an arm has."""
        names = [
            *self.measurements,
            *(name for name in self.study.protocol.measurements if name in measurements.names()),
        ]
        known = [column for name in dict.fromkeys(names) for column in measurements.find(name).columns]
        there = {name for each in self.arms for name in each.figures}
        return [column for column in [*METRIC_COLUMNS, *known, EPOCHS] if column.name in there]


def load(study: Study, folder: Path) -> Results:
    """Reads the arms' folders.

    Args:
      study: the study.
      folder: its workdir.
    """
    found, unfinished = [], {}
    for arm in study.chosen:
        own = arms.folder_of(folder, arm)
        if arms.is_finished(own):
            try:
                found.append(load_arm(arm, own))
            except ValueError as error:
                unfinished[arm.name] = str(error)
        else:
            failure = arms.failure_of(folder, arm)
            said = failure.read_text(encoding="utf-8", errors="replace") if failure.exists() else ""
            unfinished[arm.name] = said.strip().rpartition("\n")[2]
    known = run_data.stored(folder)
    names = (known or source.facts(study.base.data)).class_names
    return compared(study, found, unfinished, names)


def compared(study: Study, found: list[ArmResult], unfinished: dict[str, str], class_names: tuple[str, ...]) -> Results:
    """Returns the results of a study, with all comparisons made.

    Args:
      study: the study.
      found: its finished arms, in its order.
      unfinished: as of `Results`.
      class_names: of the data.
    """
    correct = {each.arm.name: each.correct for each in found}
    if any(each is None for each in correct.values()):
        correct = None
    none = Compared(arms={}, pairs={}, interactions={})
    results = Results(
        study=study, arms=found, accuracy=none, measured={}, unfinished=unfinished, class_names=class_names
    )
    accuracy = _compare(study, {each.arm.name: 100 * each.accuracy for each in found}, correct)
    measured = {
        column.name: _compare(
            study,
            {each.arm.name: column.shown(each.figures[column.name]) for each in found if column.name in each.figures},
        )
        for column in results.columns
    }
    return dataclasses.replace(results, accuracy=accuracy, measured=measured)


def from_table(study: Study, path: Path) -> Results:
    """Returns the results of a study of which results.csv is left: without tests over images, curves and pictures.

    Args:
      study: the study.
      path: of the table.

    Raises:
      OSError, ValueError, KeyError: it cannot be read, or is no such table.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    number = lambda text: float(text) if text else np.nan
    found = []
    for arm in study.chosen:
        own = [row for row in rows if row["arm"] == arm.name]
        if not own:
            continue
        columns = {name: np.array([number(row[name]) for row in own]) for name in own[0] if name != "arm"}
        sizes = {name: int(columns.pop(name)[0]) for name in ("parameters", "multiply_adds")}
        seeds, accuracy, loss = (columns.pop(name) for name in ("seed", "test_accuracy", "test_loss"))
        none = {"curves": [], "measurements": {}, "pictures": {}}
        record = {**sizes, "study": dataclasses.asdict(study.protocol)}
        seeds = seeds.astype(int)
        found.append(
            ArmResult(
                arm=arm, record=record, seeds=seeds, accuracy=accuracy, loss=loss, correct=None, table=columns, **none
            )
        )
    return compared(study, found, {}, ())


def _compare(study, values, correct=None):
    """All comparisons of a figure: by arm [seeds] and, of accuracy, whether images are classified correctly."""
    there = [arm for arm in study.arms if arm.name in values]

    def tested(pairs, images=None):
        found = statistics.paired(pairs, images, study.protocol.test)
        if study.protocol.seeds >= statistics.REHEARSAL:
            return found
        return {name: statistics.untested(each) for name, each in found.items()}

    def family(pairs):
        of = lambda rows: {name: (rows[one], rows[other]) for name, (one, other) in pairs.items()}
        return tested(of(values), correct and of(correct))

    arms = {}
    for reference in study.references:
        against = {arm.name: (arm.name, reference) for arm in there if study.reference(arm) == reference}
        arms |= family(against) if reference in values else {}
    changes = {}
    for arm in there:
        reference, other = study.reference(arm), study.counterpart(arm)
        if reference and other and {reference, other, study.baseline} <= values.keys():
            changes[arm.name] = values[arm.name] - values[reference], values[other] - values[study.baseline]
    return Compared(
        arms={arm.name: arms[arm.name] for arm in there if arm.name in arms},
        pairs=family({pair: pair for pair in study.pairs if {*pair} <= values.keys()}),
        interactions=tested(changes),
    )


def _epochs_to_target(each):
    """Epochs until the training accuracy first reaches the study's target, [seeds]; NaN where it never does."""
    target = each.record["study"]["target"]
    reached = lambda row: row["split"] == "train" and row["accuracy"] is not None and row["accuracy"] >= target
    return np.array([next((row["epoch"] for row in rows if reached(row)), np.nan) for rows in each.curves])


def _metric(name, each):
    return each.metrics[name]


# The metrics that are one number, of an `ArmResult`; accuracy and loss have columns of their own.
METRIC_COLUMNS = [
    Column(f"test_{metric.name}", metric.title, functools.partial(_metric, metric.name), metric.unit, 2)
    for metric in numbers()
    if metric.name not in ("accuracy", "loss")
]
EPOCHS = Column("epochs_to_target", "epochs to the target", _epochs_to_target)  # of an `ArmResult`


def load_arm(arm: Arm, own: Path) -> ArmResult:
    """Reads the folder of a finished arm.

    Raises:
      ValueError: a file of it is damaged or gone.
    """
    try:
        return _load(arm, own)
    except (OSError, ValueError) as error:
        raise ValueError(f"what was measured of arm {arm.name} is damaged: {error}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"what was measured of arm {arm.name} is damaged: {own} lacks {error}") from error


def _load(arm, own):
    outcome = files.read_arrays(own / "outcome.npz")
    correct = outcome["answers"] == outcome["labels"]
    seeds = outcome["seeds"]
    return ArmResult(
        arm=arm,
        record=arms.read_record(own),
        seeds=seeds,
        accuracy=np.where(outcome["finite"], correct.mean(1), np.nan),
        loss=np.where(outcome["finite"], outcome["losses"], np.nan),
        correct=correct,
        metrics=_metrics(outcome),
        curves=[read_rows(own / f"seed-{seed}") for seed in seeds],
        measurements=storing.load(own / "measurements.npz"),
        pictures=files.read_arrays(own / "pictures.npz"),
        sweep=sweeps.read(own),
    )


def _metrics(outcome):
    """Each metric, NaN for seeds that were lost; an arm that was measured before a metric existed lacks it."""
    found = {name.removeprefix("metric/"): outcome[name] for name in outcome if name.startswith("metric/")}
    lost = ~outcome["finite"]
    return {
        name: np.where(lost[:, None] if values.ndim > 1 else lost, np.nan, values) for name, values in found.items()
    }


def write(results: Results, folder: Path) -> None:
    """Writes all tables. docs/study.md has every column."""
    for name, text in written(results, TABLES).items():
        files.write_text(folder / name, text)


def written(results: Results, names: Iterable[str]) -> dict[str, str]:
    """Returns tables as they are written, by name of file, and table.tex; that of a sweep only where there is one.

    Args:
      results: of the study.
      names: of `TABLES`.
    """
    found = {name: TABLES[name](results) for name in names}
    made = {f"{name}.csv": _csv(rows) for name, rows in found.items() if name != "sweep" or results.study.sweep}
    return made | {"table.tex": latex(results)}


def seed_rows(results: Results) -> list[dict]:
    """Returns one row for each arm and seed; an empty cell where training diverged."""
    rows = []
    for each in results.arms:
        for k, seed in enumerate(each.seeds):
            row = {
                "arm": each.arm.name,
                "seed": int(seed),
                "test_accuracy": each.accuracy[k],
                "test_loss": each.loss[k],
            }
            row |= {name: values[k] for name, values in each.figures.items()}
            rows.append(row | _size(each.record))
    return rows


def arm_rows(results: Results) -> list[dict]:
    """Returns a row for each arm: mean, spread and interval of its accuracy, and difference to the baseline, in %."""
    rows = []
    for each in results.arms:
        summary = statistics.summarise_shares(each.accuracy)
        low, high = summary.interval or (None, None)
        row = {
            "arm": each.arm.name,
            "n": summary.n,
            "accuracy": summary.mean,
            "sd": summary.sd,
            "low": low,
            "high": high,
        }
        row["reference"] = results.study.reference(each.arm)
        compared = results.comparisons.get(each.arm.name)
        for name in ("difference", "p", "p_holm", "effect", "detectable"):
            row[name] = getattr(compared, name, None)
        row["difference_low"], row["difference_high"] = (compared and compared.interval) or (None, None)
        images = compared and compared.images
        for name in ("better", "worse", "p_images", "p_images_holm"):
            row[name] = getattr(images, name, None)
        row |= {name: _mean(values) for name, values in each.figures.items()}
        rows.append(row | _size(each.record))
    return rows


def figure_rows(results: Results) -> list[dict]:
    """Returns one row for each arm and figure: mean, spread and interval over the seeds; shares in %."""
    rows = []
    for each in results.arms:
        found = {"accuracy": (statistics.summarise_shares(each.accuracy), "%")}
        for column in results.columns:
            if column.name in each.figures:
                found[column.name] = column.summary(each.figures[column.name]), column.unit
        for name, (summary, unit) in found.items():
            low, high = summary.interval or (None, None)
            row = {"arm": each.arm.name, "figure": name, "unit": unit, "n": summary.n, "mean": summary.mean}
            rows.append(row | {"sd": summary.sd, "low": low, "high": high})
    return rows


def comparison_rows(results: Results) -> list[dict]:
    """Returns one row for each comparison of each figure; differences of shares in points.

    kind: "reference", an arm with the one it is compared with; "pair", two arms that the study declares; "interaction",
    an arm's difference to its reference, minus the same difference in the baseline's level.
    """
    rows = []
    figures = {"accuracy": ("%", results.accuracy)}
    figures |= {column.name: (column.unit, results.measured[column.name]) for column in results.columns}
    arms = {arm.name: arm for arm in results.study.arms}
    for figure, (unit, found) in figures.items():
        for kind, arm, other, each in found.rows:
            reference = {
                "reference": results.study.reference(arms[arm]),
                "pair": other,
                "interaction": results.study.counterpart(arms[arm]),
            }[kind]
            low, high = each.interval or (None, None)
            row = {"figure": figure, "unit": unit, "kind": kind, "arm": arm, "reference": reference, "n": each.n}
            row |= {"difference": each.difference, "sd": each.sd, "low": low, "high": high}
            rows.append(row | {name: getattr(each, name) for name in ("p", "p_holm", "effect", "detectable")})
    return rows


def class_rows(results: Results) -> list[dict]:
    """Returns one row for each arm, seed and class, with the metrics that have a value for each class."""
    names = results.class_names
    rows = []
    for each in results.arms:
        known = [metric.name for metric in vectors() if metric.name in each.metrics]
        for k, seed in enumerate(each.seeds):
            for label in range(each.metrics[known[0]].shape[1]) if known else ():
                values = {name: each.metrics[name][k, label] for name in known}
                rows.append({"arm": each.arm.name, "seed": int(seed), "class": names[label]} | values)
    return rows


def sweep_rows(results: Results) -> list[dict]:
    """Returns one row for each arm, value and seed of a sweep; an empty cell where training diverged."""
    return [
        {
            "arm": each.arm.name,
            "setting": each.sweep.setting,
            "value": value,
            "seed": seed,
            "validation_accuracy": each.sweep.accuracy[i, k],
            "validation_loss": each.sweep.loss[i, k],
            "chosen": int(value == each.sweep.value),
        }
        for each in results.arms
        if each.sweep
        for i, value in enumerate(each.sweep.values)
        for k, seed in enumerate(each.sweep.seeds)
    ]


def cost_rows(results: Results) -> list[dict]:
    """Returns one row for each arm: its time and memory, which depend on the machine."""
    return [
        {
            "arm": each.arm.name,
            "seeds_together": each.record["together"],
            "seconds_per_seed": each.record["seconds"] / each.record["study"]["seeds"],
            **{name: each.record.get(name) for name in SPENT},  # since November 2026
            "images_per_second": each.record["images_per_second"],
            "memory_mib_per_seed": each.record["memory"] / each.record["together"] / 2**20,
        }
        for each in results.arms
    ]


SPENT = ("seconds_compiling", "seconds_measuring", "seconds_sweeping")  # of an arm, besides its steps


def _mean(values):
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _size(record):
    return {"parameters": record["parameters"], "multiply_adds": record["multiply_adds"]}


# Every table, by name; those of `FOLLOWING` follow from "results".
TABLES = {
    "results": seed_rows,
    "summary": arm_rows,
    "figures": figure_rows,
    "comparisons": comparison_rows,
    "per_class": class_rows,
    "sweep": sweep_rows,
    "costs": cost_rows,
}
FOLLOWING = ("summary", "figures", "comparisons")


def _csv(rows):
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    cell = lambda value: (
        "" if value is None or value != value else f"{value:.6g}" if isinstance(value, float) else value
    )
    table.writerows([cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def text(results: Results) -> str:
    """Returns the arms and their differences to the baseline, for a terminal."""
    rows = arm_rows(results)
    width = max([len(row["arm"]) for row in rows], default=0)
    lines = []
    for row in rows:
        line = f"{row['arm']:<{width}}  "
        line += "failed" if row["accuracy"] is None else f"{row['accuracy']:6.2f} %"
        line += "" if row["sd"] is None else f" +- {row['sd']:.2f}"
        if row["difference"] is not None:
            line += f"  {row['difference']:+.2f}" + f" to {row['reference']}" * (len(results.study.references) > 1)
            if row["difference_low"] is not None:
                line += f" [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"
            line += "" if row["p_holm"] is None else f"  p {row['p_holm']:.3g}"
        lines.append(f"{line}  n = {row['n']}")
    lines += [f"{each.arm.name}: {sweep_told(each.sweep)}" for each in results.arms if each.sweep]
    for kind, one, other, compared in results.accuracy.rows:
        if kind != "reference" and compared.difference is not None:
            line = f"{one} - {other}" if kind == "pair" else f"interaction of {one}"
            line += f": {compared.difference:+.2f}"
            if compared.interval:
                line += " [{:+.2f}, {:+.2f}]".format(*compared.interval)
            lines.append(line + ("" if compared.p_holm is None else f"  p {compared.p_holm:.3g}"))
    lines += [f"{name}: no result{': ' * bool(why)}{why}" for name, why in results.unfinished.items()]
    return "\n".join(lines)


def sweep_told(swept: Swept) -> str:
    """Returns what a sweep found: every value with its accuracy, and the one chosen."""
    shown = lambda row: "diverged" if np.isnan(row).any() else f"{100 * row.mean():.2f} %"
    curve = ", ".join(f"{value}: {shown(row)}" for value, row in zip(swept.values, swept.accuracy))
    seeds = f"{len(swept.seeds)} seed{'s' * (len(swept.seeds) > 1)}"
    words = f"{swept.setting} = {swept.value} of {curve} ({swept.images:,} held-out images, {seeds})"
    return words + "; the best may lie beyond the values tried" * swept.is_at_end


def latex(results: Results) -> str:
    """Returns the table of arms for a paper: needs the package booktabs."""
    rows = arm_rows(results)
    extra = [each for each in results.columns if each.latex and any(row.get(each.name) is not None for row in rows)]
    heads = [
        "arm",
        "parameters",
        "accuracy, \\%",
        "difference",
        "$p$ (Holm)",
        *(f"{column.latex}, \\%" if column.unit else column.latex for column in extra),
    ]
    lines = [
        f"% {experiments.title(results.study.experiment)}: {results.study.protocol.seeds} seeds; accuracy mean $\\pm$ "
        f"sd; difference to {', '.join(results.study.references)} with its 95 \\% interval, in points; p adjusted in "
        "each family",
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        "\\toprule",
        " & ".join(heads) + " \\\\",
        "\\midrule",
    ]
    for row in rows:
        spread = "" if row["sd"] is None else f" $\\pm$ {row['sd']:.2f}"
        accuracy = "--" if row["accuracy"] is None else f"{row['accuracy']:.2f}{spread}"
        interval = row["difference_low"] is not None and (row["difference_low"], row["difference_high"])
        difference = _latex_difference(row["difference"], interval)
        cells = [_latex_name(row["arm"]), f"{row['parameters']:,}", accuracy, difference, p_value(row["p_holm"])]
        for column in extra:
            value = row.get(column.name)
            cells.append("--" if value is None else f"{column.shown(value):.{column.digits}f}")
        lines.append(" & ".join(cells) + " \\\\")
    others = [each for each in results.accuracy.rows if each[0] != "reference"]
    lines += ["\\midrule"] * bool(others)
    for kind, one, other, compared in others:
        name = f"{_latex_name(one)} $-$ {_latex_name(other)}" if kind == "pair" else f"interaction, {_latex_name(one)}"
        cells = [name, "", "", _latex_difference(compared.difference, compared.interval), p_value(compared.p_holm)]
        lines.append(" & ".join([*cells, *[""] * len(extra)]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _latex_name(arm):
    return arm.replace("_", "\\_")


def _latex_difference(difference, interval):
    if difference is None:
        return "--"
    return f"${difference:+.2f}$" + (" $[{:+.2f}, {:+.2f}]$".format(*interval) if interval else "")


def p_value(p: float | None) -> str:
    """Returns a p-value as papers print it."""
    return "--" if p is None else "$<$ 0.001" if p < 0.001 else f"{p:.3f}"
