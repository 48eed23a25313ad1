"""The sections of a study's report that show figures: of accuracy, and of every measurement as it declares them."""

import itertools

import numpy as np
from markupsafe import Markup

from cnn_jax.reports import figures as pictures
from cnn_jax.reports.study import plots, prose
from cnn_jax.studies import measurements, statistics
from cnn_jax.studies.measurements.base import Section
from cnn_jax.studies.measurements.figures import Bars, Curves, Figure, LayerTable, Map, Scatter
from cnn_jax.studies.results import ArmResult, Results

BAND = (
    "Mean over the seeds; the band is the 95 % interval of the mean, or with fewer than "
    f"{statistics.REHEARSAL} seeds their range. Blue: the arm; grey: the baseline."
)
LEAST = 3  # arms that differ in a number alone, from which they get a curve


def sections(results: Results) -> list[dict]:
    """Returns the sections, in the order of the page: accuracy first, then the measurements in the study's order."""
    return [_differences(results), _numbered(results), _swept(results), _learning(results), *_measured(results)]


def section(name: str, title: str, text: str, *blocks: dict | None) -> dict:
    """Returns a section of the page; blocks without anything to show are left out, and so is an empty section."""
    return {"id": name, "title": title, "text": text, "blocks": [block for block in blocks if block]}


def _figures(*figures):
    """Large figures side by side: (title, SVG, caption) each."""
    drawn = [(title, Markup(svg), caption) for title, svg, caption in figures if svg]
    return {"kind": "figures", "figures": drawn} if drawn else None


def _differences(results):
    places = prose.digits(results)
    values = {each.arm.name: 100 * each.accuracy for each in results.arms}
    return section(
        "differences",
        "Differences",
        "",
        _figures(
            (
                "Against the baseline" if len(results.study.references) == 1 else "Against the baseline of their level",
                plots.forest(results.comparisons, places, "forest"),
                "Mean difference of accuracy, arm minus baseline, seed by seed, with its 95% interval by Student's t "
                "over the pairs of seeds. "
                + (
                    "With so few seeds nothing is tested."
                    if prose.rehearses(results)
                    else "Blue is better and orange worse at the 5% level after Holm's correction; grey is not "
                    "significant."
                ),
            ),
            (
                "Seed by seed",
                plots.strip(values, results.study.references, "accuracy, %", places, "strip"),
                "Accuracy on the test images: a dot for each seed, the mean as a stroke, its 95% interval as a bar, "
                "with an arrow where that goes on beyond the axis; the dashed line is the baseline's mean. Mean ± "
                "standard deviation at the right.",
            ),
        ),
    )


def _numbered(results):
    """Accuracy against a number that arms differ in and nothing else, such as a power: a curve for each such group."""
    groups: dict[tuple, dict[float, ArmResult]] = {}
    for each in results.arms:
        for change in each.arm.changes:
            setting, _, value = change.partition("=")
            rest = tuple(other for other in each.arm.changes if other != change)
            if (number := _number(value)) is not None and np.isfinite(each.accuracy).any():
                groups.setdefault((setting, rest), {})[number] = each
    blocks = []
    for setting in dict.fromkeys(setting for (setting, _), found in groups.items() if len(found) >= LEAST):
        curves = {}
        for (other, rest), found in groups.items():
            if other == setting and len(found) >= LEAST:
                x = np.array(sorted(found))
                title = ", ".join(change.rpartition("=")[2] for change in rest) or setting
                values = [100 * found[number].accuracy for number in x]
                curves[title] = _by_number(x, [shares[np.isfinite(shares)] for shares in values])
        axis = setting.removeprefix("model.").replace("_", " ")
        caption = f"Accuracy on the test images against {setting}. {BAND}"
        blocks.append(_panels(results, curves, f"numbers-{len(blocks)}", "%", axis, caption))
    return section("numbers", "Accuracy by number", "", *blocks)


def _by_number(x, values):
    """A curve over rising numbers, for each of them the values of its seeds; logarithmic where they are far apart."""
    return _banded(x, values)._replace(log=x[0] > 0 and x[-1] >= 4 * x[0])


def _banded(x, values):
    """A curve of the mean and the band around it, for each point the values of its seeds."""
    low, high = np.transpose([statistics.band(each) for each in values])
    return plots.Curve(np.asarray(x), np.array([np.mean(each) for each in values]), low, high)


def _number(text):
    try:
        return float(text)
    except ValueError:
        return None


def _swept(results):
    """What the sweep of each arm found: a table and, of numbers, the curves."""
    if results.study.sweep is None:
        return None
    curves = {}
    for each in results.arms:
        numbers = each.sweep and each.sweep.numbers
        if numbers:
            order = [k for k in np.argsort(numbers) if np.isfinite(each.sweep.accuracy[k]).all()]
            x, rows = np.array(numbers)[order], 100 * each.sweep.accuracy[order]
            if len(order) > 1:
                curves[each.arm.name] = _by_number(x, rows)
    setting = results.study.sweep.setting
    caption = f"Accuracy on the held-out images against {setting}. {BAND}"
    panels = _panels(results, curves, "sweep", "%", setting.rpartition(".")[2].replace("_", " "), caption)
    return section("sweep", "Sweep", "", {"kind": "table", "table": prose.sweep_table(results)}, panels)


def _learning(results):
    curves, splits = {}, set()
    for each in results.arms:
        rows = [{row["step"]: row for row in seed if row["split"] != "train"} for seed in each.curves]
        steps = sorted(set.intersection(*map(set, rows)))
        splits |= {row["split"] for seed in rows for row in seed.values()}
        if len(steps) > 1:
            values = [[100 * (seed[step]["accuracy"] or 0) for step in steps] for seed in rows]
            curves[each.arm.name] = _curve(each, [rows[0][step]["epoch"] for step in steps], values)
    caption = (
        f"Accuracy on the {prose.listed(sorted(splits)) if splits else ''} images while training. "
        f"{BAND} All have the same scale; low values early in training may lie below it."
    )
    return section("curves", "Learning curves", "", _panels(results, curves, "curve", "%", "epoch", caption, 1 / 3))


def _measured(results):
    """A section for each measurement, or for several that share one."""
    figures: dict[Section, list[Figure]] = {}
    for name in results.measurements:
        measurement = measurements.find(name)
        found = {each.arm.name: each.measurements[name] for each in results.arms if name in each.measurements}
        protocol = measurement.protocol(next(iter(found.values())))
        figures.setdefault(measurement.section, []).extend(measurement.figures(found, protocol))
    return [section(*key, *_blocks(results, drawn)) for key, drawn in figures.items()]


def _blocks(results, figures):
    """The blocks that show figures; large ones that follow each other stand side by side."""
    for large, group in itertools.groupby(figures, key=lambda figure: type(figure) in LARGE):
        if large:
            yield _figures(*(LARGE[type(figure)](results, figure) for figure in group))
        else:
            yield from (BLOCKS[type(figure)](results, figure) for figure in group)


def _bars(results, figure):
    places = prose.digits(results) if figure.digits is None else figure.digits
    svg = plots.strip(figure.values, results.study.references, figure.axis, places, figure.name)
    return "", svg, figure.caption


def _scatter(results, figure):
    points = {
        each.arm.name: (statistics.summarise(figure.values[each.arm.name]), prose.summary(each))
        for each in results.arms
        if each.arm.name in figure.values
    }
    svg = plots.scatter(points, results.study.references, (figure.title, "accuracy"), figure.name)
    return figure.title.capitalize(), svg, figure.caption


def _curves(results, figure):
    curves = {}
    for each in results.arms:
        if each.arm.name in figure.values:
            values = figure.values[each.arm.name]
            curves[each.arm.name] = _curve(each, range(values.shape[1]), values)
    return _panels(results, curves, figure.name, figure.unit, figure.axis, f"{figure.caption} {BAND}")


def _map(results, figure):
    maps = {arm: _seeds_mean(values) for arm, values in figure.values.items()}
    known = [values for values in maps.values() if np.isfinite(values).all()]
    if not known:
        return None
    low = plots.limits([(values.min(),) * 2 for values in known])[0]
    high = max(values.max() for values in known)
    before = _references(results)
    pairs = {arm: (values, figure.values.get(before[arm])) for arm, values in figure.values.items() if before[arm]}
    changes = {arm: change for arm, pair in pairs.items() if (change := _sure_change(*pair)) is not None}
    limit = plots.limits([(0, 0), *((0, np.abs(values).max()) for values in changes.values())])[1]
    tiles = []
    for arm, values in maps.items():
        drawn = [plots.share_picture(values, low, high)]
        if arm in changes:
            drawn.append(pictures.signed_picture(changes[arm], limit))
        middle = values[tuple(side // 2 for side in values.shape)]
        note = f"{middle:.1f}% {figure.middle}, {values.min():.1f}% at worst"
        tiles.append((arm, drawn, note if np.isfinite(values).all() else "failed"))
    return {"kind": "maps", "tiles": tiles, "caption": figure.caption, "low": low, "high": high, "limit": limit}


def _sure_change(values, reference):
    """Mean paired difference of maps [seeds, height, width], 0 where its band holds 0; None where there are no pairs.

    Of fewer seeds than make a study the mean alone.
    """
    if reference is None:
        return None
    changes = values - reference
    changes = changes[np.isfinite(changes).all((1, 2))]
    if not len(changes):
        return None
    mean = changes.mean(0)
    if len(changes) < statistics.REHEARSAL:
        return mean
    pixels = changes.reshape(len(changes), -1).T
    low, high = np.transpose([statistics.band(each) for each in pixels])
    return np.where((low * high > 0).reshape(mean.shape), mean, 0)


def _references(results):
    """The arm that each is compared with, "" for one that others are compared with."""
    return {each.arm.name: results.study.reference(each.arm) for each in results.arms}


def _seeds_mean(values):
    finite = values[np.isfinite(values).reshape(len(values), -1).all(1)]
    return finite.mean(0) if len(finite) else np.full(values.shape[1:], np.nan)


def _layers(results, figure):
    del results
    return {"kind": "table", "table": prose.layer_table(figure)}


LARGE = {Bars: _bars, Scatter: _scatter}  # each gives title, SVG and caption
BLOCKS = {Curves: _curves, Map: _map, LayerTable: _layers}


def _curve(each: ArmResult, x, values) -> plots.Curve | None:
    """Mean and band of the seeds that did not diverge; None if all did."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(each.accuracy) & np.isfinite(values).all(1)]
    if not len(values):
        return None
    return _banded(x, values.T)


def _panels(results, curves, name, unit, title, caption, settled=0.0):
    """Small figures of one curve each, before the baseline's.

    Args:
      results: of the study.
      curves: by arm, None where there is none.
      name: prefixes the figures' ids.
      unit: of the numbers.
      title: of the axis across.
      caption: of all.
      settled: the first part of each curve, which need not fit the axis.
    """
    curves = {arm: curve for arm, curve in curves.items() if curve is not None}
    if not curves:
        return None
    start = lambda curve: int(settled * len(curve.x))
    ends = lambda curve: (curve.low[start(curve) :].min(), curve.high[start(curve) :].max())
    low, high = plots.limits([ends(curve) for curve in curves.values()])
    around = 0.08 * (high - low) or 0.5
    references = _references(results)
    drawn = []
    for place, (arm, curve) in enumerate(curves.items()):
        before = curves.get(references.get(arm, ""))
        svg = plots.panel(curve, before, (low - around, high + around), unit, title, f"{name}-{place}")
        drawn.append((arm, Markup(svg)))
    return {"kind": "panels", "panels": drawn, "caption": caption}
