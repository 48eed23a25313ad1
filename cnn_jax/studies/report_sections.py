"""The sections of a study's report that show its figures: a function each, of the results."""

import numpy as np
from markupsafe import Markup

from cnn_jax.reports import figures as pictures
from cnn_jax.studies import plots, report_text, statistics
from cnn_jax.studies.results import ArmResult


def section(name: str, title: str, text: str, *blocks: dict | None) -> dict:
    """A section of the page; blocks without anything to show are left out, and so is a section without blocks."""
    return {"id": name, "title": title, "text": text, "blocks": [block for block in blocks if block]}


def _figures(*figures):
    """Large figures side by side: (title, SVG, caption) each."""
    drawn = [(title, Markup(svg), caption) for title, svg, caption in figures if svg]
    return {"kind": "figures", "figures": drawn} if drawn else None


def _differences(results):
    places = report_text.digits(results)
    values = {each.arm.name: 100 * each.accuracy for each in results.arms}
    return section(
        "differences",
        "Differences",
        "",
        _figures(
            (
                "Against the baseline",
                plots.forest(results.comparisons, places, "forest"),
                "Mean difference of accuracy, arm minus baseline, seed by seed, with its 95% interval by Student's t "
                "over the pairs of seeds. Blue is better and orange worse at the 5% level after Holm's "
                "correction; grey is not told apart.",
            ),
            (
                "Seed by seed",
                plots.strip(values, results.study.baseline, "accuracy, %", places, "strip"),
                "Accuracy on the test images: a dot for each seed, the mean as a stroke, its 95% interval as a bar; "
                "the dashed line is the baseline's mean. Mean ± standard deviation at the right.",
            ),
        ),
    )


def _scatter(results):
    blocks = []
    for name, title in (("consistency", "consistency"), ("circular", "circular consistency")):
        arms = _with(results, name)
        points = {
            each.arm.name: (
                statistics.summarise(100 * each.measurements[name].agreement),
                report_text.summary(each),
            )
            for each in arms
        }
        if points:
            svg = plots.scatter(points, results.study.baseline, (title, "accuracy"), name)
            caption = f"Up and to the right is better. {arms[0].measurements[name].protocol} Lines are 95% intervals "
            caption += "of the mean over seeds, where they fit; a diamond at the edge lies beyond it."
            blocks.append((title.capitalize(), svg, caption))
    return section(
        "consistency",
        "Accuracy and consistency",
        "What an arm gains in the one, does it lose in the other?",
        _figures(*blocks),
    )


def _with(results, name):
    return [each for each in results.arms if name in each.measurements]


def _curve(each: ArmResult, x, values) -> plots.Curve | None:
    """Mean and spread over the seeds that did not diverge; None if all did."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(each.accuracy) & np.isfinite(values).all(1)]
    if not len(values):
        return None
    sd = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    return plots.Curve(np.asarray(x), values.mean(0), sd)


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
    ends = lambda curve: ((curve.mean - curve.sd)[start(curve) :].min(), (curve.mean + curve.sd)[start(curve) :].max())
    low, high = plots.limits([ends(curve) for curve in curves.values()])
    around = 0.08 * (high - low) or 0.5
    reference = curves.get(results.study.baseline)
    drawn = []
    for place, (arm, curve) in enumerate(curves.items()):
        before = None if arm == results.study.baseline else reference
        svg = plots.panel(curve, before, (low - around, high + around), unit, title, f"{name}-{place}")
        drawn.append((arm, Markup(svg)))
    return {"kind": "panels", "panels": drawn, "caption": caption}


def _curves(results):
    curves, splits = {}, set()
    for each in results.arms:
        rows = [{row["step"]: row for row in seed if row["split"] != "train"} for seed in each.curves]
        steps = sorted(set.intersection(*map(set, rows)))
        splits |= {row["split"] for seed in rows for row in seed.values()}
        if len(steps) > 1:
            values = [[100 * (seed[step]["accuracy"] or 0) for step in steps] for seed in rows]
            curves[each.arm.name] = _curve(each, [rows[0][step]["epoch"] for step in steps], values)
    caption = (
        f"Accuracy on the {report_text.listed(sorted(splits)) if splits else ''} images in the course of training: "
        "mean over the seeds, the band one standard deviation to either side. Each arm in blue before the baseline "
        "in grey; all on one scale, which the first evaluations may enter from below."
    )
    return section("curves", "Learning curves", "", _panels(results, curves, "curve", "%", "epoch", caption, 1 / 3))


def _shifts(results):
    arms = _with(results, "shift_map")
    if not arms:
        return None
    maps = {each.arm.name: _seeds_mean(100 * each.measurements["shift_map"].accuracy) for each in arms}
    known = [values for values in maps.values() if np.isfinite(values).all()]
    if not known:
        return None
    low = plots.limits([(values.min(),) * 2 for values in known])[0]
    high = max(values.max() for values in known)
    base = maps.get(results.study.baseline, np.nan)
    changes = {arm: values - base for arm, values in maps.items() if arm != results.study.baseline}
    changes = {arm: values for arm, values in changes.items() if np.isfinite(values).all()}
    limit = plots.limits([(0, 0), *((0, np.abs(values).max()) for values in changes.values())])[1]
    tiles = []
    for arm, values in maps.items():
        middle = len(values) // 2
        drawn = [plots.share_picture(values, low, high)]
        if arm in changes:
            drawn.append(pictures.signed_picture(changes[arm], limit))
        note = f"{values[middle, middle]:.1f}% unshifted, {values.min():.1f}% at worst"
        tiles.append((arm, drawn, note if np.isfinite(values).all() else "failed"))
    found = arms[0].measurements["shift_map"]
    caption = (
        f"Accuracy by shift; the middle is no shift, {found.reach} pixels up and left is the upper left corner. Below "
        f"each, its difference to the baseline. {found.protocol} Mean over the seeds."
    )
    curves = {
        each.arm.name: _curve(
            each, range(found.reach + 1), 100 * each.measurements["shift_map"].diagonal_accuracy[:, : found.reach + 1]
        )
        for each in arms
    }
    return section(
        "shifts",
        "Shifts",
        "",
        {"kind": "maps", "tiles": tiles, "caption": caption, "low": low, "high": high, "limit": limit},
        _panels(
            results,
            curves,
            "diagonal",
            "%",
            "pixels down and right",
            "Accuracy along the diagonal of these maps, mean and standard deviation over the seeds, before the "
            f"baseline in grey. {found.protocol}",
        ),
    )


def _seeds_mean(values):
    finite = values[np.isfinite(values).reshape(len(values), -1).all(1)]
    return finite.mean(0) if len(finite) else np.full(values.shape[1:], np.nan)


def _border(results):
    arms = _with(results, "border")
    curves = {
        each.arm.name: _curve(
            each, range(each.measurements["border"].accuracy.shape[1]), 100 * each.measurements["border"].accuracy
        )
        for each in arms
    }
    caption = (
        arms and f"Accuracy, mean and standard deviation over the seeds. {arms[0].measurements['border'].protocol}"
    )
    return section(
        "border",
        "Near the border",
        "",
        _panels(results, curves, "border", "%", "pixels from the border", caption),
    )


def _equivariance(results):
    arms = _with(results, "equivariance")
    if not arms:
        return None
    errors = lambda each: each.measurements["equivariance"].error
    protocol = arms[0].measurements["equivariance"].protocol
    table = report_text.layer_table(
        arms,
        lambda each: {layer: values[:, 1:].mean(1) for layer, values in errors(each).items()},
        2,
        f"Equivariance error, mean over s = 1 to twice the layer's stride and over the seeds. {protocol}",
    )
    shared = [layer for layer in errors(arms[0]) if all(layer in errors(each) for each in arms)]
    curves, last = {}, shared[-1] if shared else ""
    for each in arms if shared else ():
        values = errors(each)[last]
        curves[each.arm.name] = _curve(each, range(values.shape[1]), values)
    caption = f"The error of {last} by s: a network whose maps moved with the image would have 0 at every multiple of "
    caption += f"the stride. Mean and standard deviation over the seeds, before the baseline in grey. {protocol}"
    return section(
        "equivariance",
        "Equivariance, layer by layer",
        "",
        {"kind": "table", "table": table},
        _panels(results, curves, "equivariance", "", "s, pixels", caption),
    )


def _edges(results):
    arms = _with(results, "edges")
    if not arms:
        return None
    protocol = arms[0].measurements["edges"].protocol
    tables = [
        report_text.layer_table(arms, lambda each: _ratios(each.measurements["edges"], kind), 2, f"{what} {protocol}")
        for kind, what in (
            ("", "Activation at the edge over that in the centre, test images."),
            ("blank_", "The same for a black image: what padding alone does. – where the centre is silent."),
        )
    ]
    return section("edges", "Edges", "", *({"kind": "table", "table": table} for table in tables))


def _ratios(found, kind):
    """Activation at the edge over that in the centre, by layer; NaN or infinite where the centre is silent."""
    edge, centre = getattr(found, f"{kind}edge"), getattr(found, f"{kind}centre")
    with np.errstate(divide="ignore", invalid="ignore"):
        return {layer: values / centre[layer] for layer, values in edge.items()}


def _position(results):
    arms = _with(results, "position")
    if not arms:
        return None
    values = {each.arm.name: each.measurements["position"].spearman for each in arms}
    chance = {each.measurements["position"].chance for each in arms}
    caption = "Rank correlation of the position read and the true one: 0 is no leak, 1 a map of coordinates. "
    caption += f"{arms[0].measurements['position'].protocol} A dot for each seed, mean and 95% interval. The error of "
    caption += f"a guess of the centre is {report_text.listed(f'{each:.3f}' for each in sorted(chance))}; the table "
    caption += "above has the arms'."
    svg = plots.strip(values, results.study.baseline, "rank correlation", 2, "position")
    return section("position", "Position leak", "", _figures(("", svg, caption)))


def _swapped(results):
    places = report_text.digits(results)
    arms = _with(results, "swapped")
    if not arms:
        return None
    values = {each.arm.name: 100 * each.measurements["swapped"].accuracy for each in arms}
    svg = plots.strip(values, results.study.baseline, "accuracy, %", places, "swapped")
    caption = "Accuracy in %: a network that reads the place instead of the order fails here. "
    caption += f"{arms[0].measurements['swapped'].protocol} A dot for each seed, mean and 95% interval."
    return section("swapped", "Squares swapped", "", _figures(("", svg, caption)))


SECTIONS = (_differences, _scatter, _curves, _shifts, _border, _equivariance, _edges, _position, _swapped)
