"""The sentences and tables of a study's report."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cnn_jax.progress import duration
from cnn_jax.reports.page import large
from cnn_jax.reports.study.plots import minus, signed, verdict
from cnn_jax.studies import statistics
from cnn_jax.studies.measurements.figures import LayerTable
from cnn_jax.studies.results import EPOCHS, SPENT, ArmResult, Results, p_value

EFFECT = "effect size"
WIDE = 4  # columns of a table of measurements
UNIT = ",\u00a0"  # between heading and unit, which is never on a line of its own
MANY = 4  # arms told apart, up to which each has its interval in the text


class Table(NamedTuple):
    """A table of texts.

    Attributes:
      caption: a sentence or two.
      heads: of the columns; the first is over the names.
      rows: (name, small print under it, the other cells).
    """

    caption: str
    heads: list[str]
    rows: list[tuple[str, str, list[str]]]


def digits(results: Results) -> int:
    """Digits after the point of an accuracy in %: as many as one test image can change, 1 to 3."""
    images = results.arms[0].correct.shape[1]
    return min(3, max(1, math.ceil(math.log10(images)) - 2))


def summary(each: ArmResult) -> statistics.Summary:
    """Returns an arm's accuracy, in %."""
    return statistics.summarise_shares(each.accuracy)


def listed(words: Iterable[str]) -> str:
    """Joins words: one, two and three."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def headline(results: Results, departures: list[str]) -> str:
    """Returns what stands under the title of a study that is not the one of its recipe; "" for one that is.

    Args:
      results: at least one arm.
      departures: what differs, a line each.
    """
    study = results.study
    done = f"{_arms(len(results.arms))}, {study.protocol.seeds} seed{'s' * (study.protocol.seeds > 1)} each, "
    done += f"{study.base.train.duration} of {study.base.data.name}"
    if rehearses(results):
        return f"A rehearsal: {done}. The recipe below describes the study in full." if departures else (
            f"A rehearsal: {done}."
        )  # fmt: skip
    return f"Not the study of its recipe, which is below, but {done}." if departures else ""


def reading(results: Results, places: int) -> list[str]:
    """Returns what the study shows, in plain sentences.

    Args:
      results: at least one arm.
      places: digits after the point of an accuracy.
    """
    name = results.study.baseline
    baseline = next((each for each in results.arms if each.arm.name == name), None)
    if baseline is None:
        return [f"The baseline {name} has no result yet, so nothing can be compared with it."]
    mine = summary(baseline)
    if mine.mean is None:
        return [f"Training diverged with every seed of the baseline {name}, so nothing can be compared with it."]
    images = baseline.correct.shape[1]
    opening = f"{'The baseline ' * (len(results.study.arms) > 1)}{name} "
    opening += f"classifies {mine.mean:.{places}f}% of {images:,} test images correctly"
    if mine.sd is not None:
        opening += f" (mean of {mine.n} seeds, standard deviation {mine.sd:.{places}f} points)"
    tested = {arm: each for arm, each in results.comparisons.items() if each.p_holm is not None}
    untested = [arm for arm in results.comparisons if arm not in tested]
    sentences = [opening + ".", *_chosen(results)]
    if tested:
        sentences += _told_apart(results.study, tested, places) + _others(results, places)
        sentences += _detectable(tested, places)
    if rehearses(results):
        sentences += _rehearsed(results, places)
    elif untested:
        sentences.append(
            f"Not tested: {listed(untested)}. A paired test needs two seeds or more, and differences that vary."
        )
    return sentences + _measured(results)


def _chosen(results):
    """The values that the sweep chose, by value."""
    if results.study.sweep is None:
        return []
    arms: dict[str, list[str]] = {}
    for each in results.arms:
        arms.setdefault(each.sweep.value, []).append(each.arm.name)
    images = results.arms[0].sweep.images
    opening = f"Of {results.study.sweep.setting} = {', '.join(results.study.sweep.values)}, held-out training images "
    opening += f"({images:,}) chose"
    if len(arms) == 1:
        return [f"{opening} {next(iter(arms))}{' for every arm' * (len(results.arms) > 1)}."]
    return [f"{opening} {'; '.join(f'{value} for {listed(names)}' for value, names in arms.items())}."]


def rehearses(results: Results) -> bool:
    """Tells whether there are too few seeds to test anything."""
    return len(results.study.arms) > 1 and results.study.protocol.seeds < statistics.REHEARSAL


def _rehearsed(results, places):
    """Returns how large a difference a rehearsal could have shown."""
    seeds = results.study.protocol.seeds
    words = f"This is a rehearsal: with {seeds} seed{'s' * (seeds > 1)} nothing is tested"
    found = [each for each in results.comparisons.values() if each.detectable is not None]
    if found:
        words += f", and only differences of {_sizes(found, places)} or more could have been seen"
    return [f"{words}. Use at least {statistics.REHEARSAL} seeds to compare arms."]


def _others(results, places):
    """The declared pairs, and the arms whose difference to the baseline depends on the level."""
    pairs = [
        f"{one} − {other}: {_points(each, places, interval=True)}, p = {_p(each.p_holm)}"
        for (one, other), each in results.accuracy.pairs.items()
        if each.p_holm is not None
    ]
    told = [arm for arm, each in results.accuracy.interactions.items() if verdict(each)]
    sentences = [f"Declared pairs: {'; '.join(pairs)}."] if pairs else []
    if results.accuracy.interactions:
        which = f"for {listed(told)}" if told else "for no arm that this study could show"
        sentences.append(f"The difference depends on the {results.study.within} {which}.")
    return sentences


def _told_apart(study, tested, places):
    told = {arm: each for arm, each in tested.items() if verdict(each)}
    pairs = sorted({each.n for each in tested.values()})
    counted = f"{pairs[0]} pairs" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]} pairs"
    test = {"t": "paired t-test", "wilcoxon": "Wilcoxon signed-rank test"}[next(iter(tested.values())).test]
    levels = len(study.references) > 1
    family = f"in each {study.within}" if levels else f"over {_arms(len(tested))}"
    manner = f"({test}, {counted} of seeds, 5% level after Holm's correction {family})"
    it = "the baseline of its level" if levels else "it"
    if not told:
        arm, each = max(tested.items(), key=lambda item: abs(item[1].difference))
        return [
            f"No arm is shown to differ from {it} {manner}; the largest difference is that of {arm}, "
            f"{_points(each, places, interval=True)}, p = {p_value(each.p_holm).replace('$<$ ', 'below ')}."
        ]
    ordered = sorted(told.items(), key=lambda item: -item[1].difference)
    parts = []
    for word in ("better", "worse"):
        these = [(arm, each) for arm, each in ordered if verdict(each) == word]
        if these:
            words = listed(f"{arm} ({_points(each, places, len(told) <= MANY)})" for arm, each in these)
            parts.append(f"{words} {'is' if len(these) == 1 else 'are'} {word}")
    return [f"Against {it}, {'; '.join(parts)} {manner}."]


def _points(compared, places, interval):
    words = f"{signed(compared.difference, places)} points"
    if interval and compared.interval:
        low, high = (signed(end, places) for end in compared.interval)
        words += f", 95% interval {low} to {high}"
    return words


def _detectable(tested, places):
    """Returns how large a difference would have been noticed, where some arms are not told apart from the baseline."""
    rest = [each for each in tested.values() if not verdict(each) and each.detectable is not None]
    if not rest:
        return []
    seeds = max(each.n for each in rest)
    words = f"With {seeds} seeds, only differences of {_sizes(rest, places)} or more would have been noticed"
    return [f"{words}. Use more seeds to see smaller ones."]


def _sizes(compared, places):
    """The differences that could be detected, from the smallest to the largest."""
    low, high = (f"{size(each.detectable for each in compared):.{places}f}" for size in (min, max))
    return f"about {low} points" if low == high else f"about {low} to {high} points, depending on the arm,"


def _arms(count):
    return "1 arm" if count == 1 else f"{count} arms"


def _measured(results):
    """The sentences that columns have for the summary, with the range of the arms' means."""
    sentences = []
    for column in results.columns:
        found = {each.arm.name: each.figures.get(column.name, np.array([np.nan])) for each in results.arms}
        means = {arm: mean(values) for arm, values in found.items() if np.isfinite(values).any()}
        if not column.sentence or len(means) < 2:
            continue
        shown = lambda arm: f"{column.shown(means[arm]):.{column.digits}f}{column.unit}"
        low, high = min(means, key=means.get), max(means, key=means.get)
        words = column.sentence.format(f"{shown(low)} ({low}) to {shown(high)} ({high})")
        name = results.study.baseline
        if name in means and name not in (low, high):
            words += f", with the baseline in {shown(name)}"
        sentences.append(words + ".")
    return sentences


def mean(values: np.ndarray) -> float | None:
    """Returns the mean over the seeds that have a value; None if none has."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def compared_table(results: Results, places: int) -> Table:
    """Returns the accuracy of every arm, and its difference to the baseline."""
    rows = []
    for each in results.arms:
        mine, compared = summary(each), results.comparisons.get(each.arm.name)
        cells = [str(mine.n), _spread(mine, places), _interval(mine.interval, lambda end: f"{end:.{places}f}")]
        if compared is not None:
            cells += _compared(results, compared, places)
        else:
            cells += [_role(results.study, each.arm.name), "", *[""] * len(_compared_heads(results))]
        rows.append((each.arm.name, _differs(each), cells))
    heads = ["arm", "n", f"accuracy{UNIT}%", "95% interval", "difference", "95% interval", *_compared_heads(results)]
    of_level = f", with the same {results.study.within}," * (len(results.study.references) > 1)
    return Table(
        "Accuracy on the test images, mean ± standard deviation over n seeds, with its interval by Student's t, cut "
        f"off at 0 and 100%; difference to the baseline{of_level} over the same "
        f"seeds, in points. {_columns(results)}",
        heads,
        rows,
    )


def _columns(results):
    if rehearses(results):
        return (
            "Nothing is tested with so few seeds: a true difference of the size in the last column would be seen with "
            "a probability of 80%."
        )
    return (
        f"p: {_test(results)}, below 0.05: significant. Effect size: the mean difference over the "
        "standard deviation of the differences (Cohen's d_z). "
        "Images that more (fewer) seeds get right with the arm than with the baseline, and p of McNemar's exact test "
        "of the two counts."
    )


def _role(study, name):
    if name == study.baseline:
        return "the baseline"
    return "the baseline of its level" if name in study.references else "–"


def _compared_heads(results):
    """What stands in a table after a difference and its interval."""
    if rehearses(results):
        return ["smallest difference that would be seen"]
    return ["p (Holm)", EFFECT, "images better / worse", "p of images (Holm)"]


def _compared(results, compared, places):
    images = compared.images
    difference = [
        "–" if compared.difference is None else signed(compared.difference, places),
        _interval(compared.interval, lambda end: signed(end, places)),
    ]
    if rehearses(results):
        return [*difference, "–" if compared.detectable is None else f"{compared.detectable:.{places}f}"]
    return [
        *difference,
        _p(compared.p_holm),
        "–" if compared.effect is None else signed(compared.effect, 1),
        f"{images.better:,} / {images.worse:,}" if images else "–",
        _p(images.p_images_holm) if images else "–",
    ]


def pairs_table(results: Results, places: int) -> Table | None:
    """Returns the study's other comparisons; None where it declares none."""
    if not results.accuracy.pairs:
        return None
    rows = [
        (f"{one} − {other}", "", _compared(results, each, places))
        for (one, other), each in results.accuracy.pairs.items()
    ]
    heads = ["arms", "difference", "95% interval", *_compared_heads(results)]
    caption = "Other comparisons of two arms, declared beforehand; p is corrected over these comparisons."
    return Table(caption, heads, rows)


def interactions_table(results: Results, places: int) -> Table | None:
    """Returns what a factor changes about the differences between arms; None where the study has no such factor."""
    if not results.accuracy.interactions:
        return None
    rows = [(arm, "", _compared(results, each, places)[:4]) for arm, each in results.accuracy.interactions.items()]
    study = results.study
    caption = (
        f"Interaction with {study.within}: an arm's difference to the baseline of its level, minus the same difference "
        f"in the level of {study.baseline}, seed by seed, in points. Zero: {study.within} changes nothing about it. "
        "p is corrected over these arms."
    )
    return Table(caption, ["arm", "interaction", "95% interval", *_compared_heads(results)[:2]], rows)


def _test(results):
    return {"t": "paired t-test", "wilcoxon": "Wilcoxon's signed-rank test"}[results.study.protocol.test]


def _differs(each):
    return "\n".join(each.arm.changes) or "the base"


def _spread(mine, places):
    if mine.mean is None:
        return "failed"
    return f"{mine.mean:.{places}f}" + ("" if mine.sd is None else f" ± {mine.sd:.{places}f}")


def _interval(ends, words):
    return "–" if ends is None else minus(f"{words(ends[0])} to {words(ends[1])}")


def _p(p):
    return {"--": "–"}.get(p_value(p), p_value(p).replace("$<$", "<"))


def measured_tables(results: Results) -> list[Table]:
    """Returns the other figures of every arm, with their differences to its reference; none where there are none."""
    columns, tables = results.columns, []
    for part in np.array_split(range(len(columns)), -(-len(columns) // WIDE)) if columns else ():
        shown = [columns[index] for index in part]
        caption = "Measured on the test images besides accuracy, continued."
        if not tables:
            caption = (
                "Measured on the test images besides accuracy: mean over the seeds with its 95% interval and, below, "
                "the paired difference to the baseline with its own"
            )
            tested = "; * marks p < 0.05 after Holm's correction over the arms"
            caption += f"{'' if rehearses(results) else tested}."
        if EPOCHS in shown:
            target = results.study.protocol.target
            caption += (
                f" Epochs to the target: to a training accuracy of {100 * target:g}%, of the seeds that reached it."
            )
        rows = [(each.arm.name, "", [_cell(results, each, column) for column in shown]) for each in results.arms]
        heads = ["arm", *(column.title + (UNIT + column.unit) * bool(column.unit) for column in shown)]
        tables.append(Table(caption, heads, rows))
    return tables


def _cell(results, each, column):
    found = column.summary(each.figures.get(column.name, np.array([np.nan])))
    if found.mean is None:
        return "–"
    words = lambda end: f"{end:.{column.digits}f}"
    own = minus(words(found.mean)) + (f" [{_interval(found.interval, words)}]" if found.interval else "")
    compared = results.measured[column.name].arms.get(each.arm.name)
    if compared is None or compared.difference is None:
        return own
    below = signed(compared.difference, column.digits)
    if compared.interval:
        below += f" [{_interval(compared.interval, lambda end: signed(end, column.digits))}]"
    return f"{own}\n{below}{' *' * bool(verdict(compared))}"


def sweep_table(results: Results) -> Table:
    """Returns the held-out accuracy of every arm with every value of the sweep."""
    sweep, rows, ends = results.study.sweep, [], []
    found = {each.arm.name: each.sweep for each in results.arms if each.sweep}
    for arm, swept in found.items():
        cells = [_spread(statistics.summarise_shares(row), 2) for row in swept.accuracy]
        rows.append((arm, "", [swept.value, *cells]))
        ends += [arm] * swept.is_at_end
    first = next(iter(found.values()))
    caption = f"Each arm was first trained with every value of {sweep.setting}, {len(first.seeds)} seeds each (seed "
    caption += f"{first.seeds[0]} to {first.seeds[-1]}), and then with the one chosen: that with the highest mean "
    caption += f"accuracy on {first.images:,} training images held out for this, in %."
    if ends:
        which = listed(ends) if len(ends) < len(found) else "each arm" if len(found) > 1 else "the arm"
        caption += f" Of {which} the value chosen is the lowest or highest tried: a better one may lie beyond."
    return Table(caption, ["arm", "chosen", *sweep.values], rows)


def cost_table(results: Results) -> Table:
    """Returns the size and the cost of every arm."""
    rows = []
    for each in results.arms:
        record = each.record
        note = each.arm.parameters
        cells = [
            f"{record['parameters']:,}",
            large(record["multiply_adds"]),
            duration(record["seconds"] / record["study"]["seeds"]),
            *(duration(record[name]) if record.get(name) else "–" for name in SPENT[:2]),
            f"{record['images_per_second']:,.0f}",
            f"{record['memory'] / record['together'] / 2**20:,.1f} MiB",
        ]
        rows.append((each.arm.name, note, cells))
    heads = [
        "arm",
        "parameters",
        "multiply-adds of an image",
        "steps of a seed",
        "compiling",
        "measuring",
        "images/s",
        "memory of a seed",
    ]
    devices = results.arms[0].record["devices"]
    together = max(each.record["together"] for each in results.arms)
    return Table(
        f"Size and cost. Steps and memory are those of {together} seeds trained in one program on {len(devices)} "
        f"{'device' if len(devices) == 1 else 'devices'}, divided by their number; images/s are those of all of them. "
        "Compiling, with all that is neither a step nor a measurement, and measuring are those of the whole arm.",
        heads,
        rows,
    )


def layer_table(figure: LayerTable) -> Table:
    """Returns a number for each arm and layer, mean over the seeds that have one."""
    layers = {layer for row in figure.values.values() for layer in row}
    layers = sorted(layers, key=lambda layer: (int(re.sub(r"\D", "", layer) or 0), layer))  # conv1, pool1, conv2
    show = lambda value: "–" if value is None else f"{value:.{figure.digits}f}"
    rows = [
        (arm, "", [show(mean(row[layer])) if layer in row else "–" for layer in layers])
        for arm, row in figure.values.items()
    ]
    return Table(figure.caption, ["arm", *layers], rows)


def notes(results: Results) -> list[str]:
    """Arms and seeds without a result."""
    found = []
    for each in results.arms:
        failed = each.seeds[~np.isfinite(each.accuracy)]
        if len(failed) == len(each.seeds):
            found.append(f"{each.arm.name}: training diverged with every seed.")
        elif len(failed):
            which = f"seed{'s' * (len(failed) > 1)} {listed(map(str, failed))}"
            found.append(
                f"{each.arm.name}: training diverged with {which} of {len(each.seeds)}, left out of all its figures."
            )
    for arm, why in results.unfinished.items():
        found.append(f"{arm}: no result{f', {why}' if why else ' yet'}.")
    return found


def protocol(results: Results) -> list[str]:
    """Describes how the arms were trained and compared."""
    study, base = results.study, results.study.base
    first, images = results.arms[0], results.arms[0].correct.shape[1]
    seeds = [int(seed) for seed in first.seeds]
    numbered = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    averaged = f", averaged with decay {base.optimizer.ema:g}," if base.optimizer.ema else ""
    counts = f"parameters of the last step{averaged} count: none is selected"
    if base.data.validation:
        watched = f"{base.data.validation:,} training images were held out to watch training"
        if study.protocol.select == "best":
            counts = f"parameters{averaged} of the evaluation with the best validation accuracy count, seed by seed"
    elif study.sweep:
        watched = "With the value chosen all training images train; the learning curves are of the test images, and "
        watched += "decided nothing"
    else:
        watched = "No training image was held out: the learning curves are of the test images, and decided nothing"
    few = (
        study.protocol.images
        and f" The measurements besides accuracy use {min(study.protocol.images, images):,} of the test images."
    )
    return [
        f"{_arms(len(results.arms))}, {len(seeds)} seeds each (seed {numbered}). Seed by seed, all arms have the same "
        "order of images, the same augmentation and, in layers of the same shape, the same initial weights, so that "
        "they are compared in pairs.",
        *_levels(results),
        f"Every network is trained for {base.train.duration} in batches of {base.train.batch_size}, and the "
        f"{counts}. {watched}. The accuracies compared "
        f"are of the {images:,} test images of {base.data.name}, at the end.{few or ''}",
        f"The p-values of differences are of the {_test(results)}, two-sided, over seeds, and corrected by Holm's "
        "method over the arms that share a baseline; intervals are Student's, those of shares cut off at 0 and 100%. "
        "The t-test asks: would new seeds give the same result on these images? McNemar's test counts the images that "
        "more, or fewer, seeds get right than with the baseline, and asks: would these networks give the same result "
        "on new images? A difference would have been noticed where a two-sided paired t-test at the 5% level finds it "
        "with a probability of 80%, given the spread seen (from the "
        "noncentral t distribution, without a correction).",
    ]


def _levels(results):
    """How arms are compared where a factor divides them."""
    study = results.study
    if len(study.references) == 1:
        return []
    return [
        f"The arms vary {listed(study.factors)}. Each is compared with the baseline of its own {study.within} "
        f"({listed(study.references)}), and p-values are corrected level by level."
    ]
