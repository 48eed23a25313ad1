"""The figures of a study's report. Colours, style and bytes are those of `reporting/plots.py`.

Two colours tell everything: an arm is blue, and the baseline, wherever an arm is held against it, grey. Of the
differences, those told apart from zero are blue where better and orange where worse, the others grey.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import style, ticker
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from cnn_jax.reports import figures
from cnn_jax.reports.figures import HELD, INK, LINE, MUTED, TRAIN, WRONG
from cnn_jax.studies.statistics import ALPHA, Comparison, Summary, summarise

SHARES = figures.SIGNED[3:]  # from white to the darkest blue
SHARES_MAP = LinearSegmentedColormap.from_list("shares", SHARES, N=256)
STYLE = figures.STYLE | {"text.parse_math": False}  # a name may hold a dollar sign
WIDTH = 4.8  # inches
ROW = 0.235  # inches for an arm
LONGEST = 26  # characters of a name that are drawn
LETTER = 0.069  # inches, the width of one at 8.5 points
MOST_TICKS = 4  # numbers on a small logarithmic axis that have room for a label each
OUTLIER = 4  # a value that stretches an axis by more than this factor is left at its edge


class Curve(NamedTuple):
    """A quantity over the seeds of an arm: x, mean, and the ends of the band around it, all [points].

    The axis across is logarithmic where `log` says so.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    log: bool = False


def verdict(compared: Comparison) -> str:
    """Returns "better" or "worse" where an arm differs from the baseline after Holm's correction, else ""."""
    if compared.p_holm is None or compared.p_holm >= ALPHA:
        return ""
    return "better" if compared.difference > 0 else "worse"


def limits(rows: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns the range of most rows: one by one, at most a quarter that would squeeze all the others are left out.

    Args:
      rows: ends of each row, low and high; at least one.
    """
    span = lambda rows: max(high for _, high in rows) - min(low for low, _ in rows)
    kept = sorted(rows)
    for _ in range(len(kept) // 4):
        top = max(kept, key=lambda row: row[1])
        shorter = min((kept[1:], [row for row in kept if row is not top]), key=span)
        if span(kept) <= OUTLIER * span(shorter):
            break
        kept = shorter
    return float(kept[0][0]), float(max(high for _, high in kept))


def forest(comparisons: Mapping[str, Comparison], digits: int, name: str) -> str:
    """Draws the mean paired differences to the baseline with their 95 % intervals, one arm a row.

    Args:
      comparisons: in points, by arm; those without a difference are left out.
      digits: after the point.
      name: unique on the page; prefixes the SVG's ids.

    Returns:
      SVG text; "" where there is no difference to draw.
    """
    rows = [(arm, each) for arm, each in comparisons.items() if each.difference is not None]
    if not rows:
        return ""
    low, high = limits([(0, 0), *(each.interval or (each.difference,) * 2 for _, each in rows)])
    around = 0.06 * (high - low) or 10.0**-digits
    low, high = min(low, 0) - around, max(high, 0) + around
    with style.context(["default", STYLE]):
        figure, axes = _rows([arm for arm, _ in rows], right=1.3)
        axes.set_xlim(low, high)
        axes.axvline(0, color=TRAIN, linewidth=1)
        for row, (_, each) in enumerate(rows):
            colour = {"better": HELD, "worse": WRONG, "": TRAIN}[verdict(each)]
            words = signed(each.difference, digits)
            if each.interval:
                words += " [{}, {}]".format(*(signed(end, digits) for end in each.interval))
            if each.interval and low <= each.difference <= high:
                _span(axes, row, each.interval, colour, linewidth=1.5)
            _point(axes, row, each.difference, colour)
            _words(axes, row, words, colour if verdict(each) else MUTED)
        axes.xaxis.set_major_formatter(lambda value, _: signed(value, None))
        axes.set_xlabel("points of accuracy above the baseline", loc="right")
        return figures.svg(figure, name, "paired differences to the baseline with 95% intervals, in points")


def strip(rows: Mapping[str, np.ndarray], references: Sequence[str], title: str, digits: int, name: str) -> str:
    """Returns one dot for each seed, the mean and its 95 % interval, one arm a row.

    Args:
      rows: values by arm, [seeds]; NaN for a seed without one.
      references: arms drawn in grey; the mean of the first is drawn through all rows.
      title: of the axis.
      digits: after the point.
      name: unique on the page; prefixes the SVG's ids.

    Returns:
      SVG text; "" where there is no value.
    """
    finite = {arm: values[np.isfinite(values)] for arm, values in rows.items()}
    summaries = {arm: summarise(values) for arm, values in finite.items()}
    if not any(map(len, finite.values())):
        return ""
    low, high = limits([(values.min(), values.max()) for values in finite.values() if len(values)])
    around = max(0.06 * (high - low), 10.0**-digits)
    with style.context(["default", STYLE]):
        figure, axes = _rows(list(rows), right=0.95)
        axes.set_xlim(low - around, high + around)
        if references[0] in summaries and summaries[references[0]].n:
            axes.axvline(summaries[references[0]].mean, color=TRAIN, linewidth=1, dashes=(3, 2.5))
        for row, (arm, values) in enumerate(finite.items()):
            summary, colour = summaries[arm], TRAIN if arm in references else HELD
            if not summary.n:
                _words(axes, row, "failed", WRONG)
                continue
            if summary.interval:
                _span(axes, row, summary.interval, MUTED, color=LINE, linewidth=6, solid_capstyle="butt")
            for value in values:
                _point(axes, row, value, colour, size=4, alpha=0.6)
            axes.plot([summary.mean] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=1.6)
            spread = "" if summary.sd is None else f" ± {summary.sd:.{digits}f}"
            _words(axes, row, f"{minus(f'{summary.mean:.{digits}f}')}{spread}", MUTED)
        axes.set_xlabel(title, loc="right")
        return figures.svg(figure, name, "each seed's value, by arm, with the mean and its 95% interval")


def _rows(names, right):
    """Axes with a row for each name, and inches of room for words at the right."""
    names = [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in names]
    height = ROW * len(names) + 0.52
    left = LETTER * max(map(len, names)) + 0.15
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left / WIDTH, 0.45 / height, (WIDTH - left - right) / WIDTH, ROW * len(names) / height))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.tick_params(axis="y", labelcolor=INK, pad=7)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: minus(f"{value:.6g}"))
    return figure, axes


def _span(axes, row, interval, colour, **line):
    """An interval as a line, of the colour unless `line` says another; an arrow where it goes on beyond the axis."""
    ends = np.clip(interval, *axes.get_xlim())
    axes.plot(ends, [row, row], **{"color": colour} | line)
    for end, true, marker in zip(ends, interval, "<>"):
        if end != true:
            axes.plot([end], [row], color=colour, marker=marker, markersize=3.5, clip_on=False)


def _point(axes, row, value, colour, size=5.5, alpha=None):
    """A dot; at the edge, pointing out, where the axis does not reach."""
    low, high = axes.get_xlim()
    marker = "<" if value < low else ">" if value > high else "o"
    axes.plot(
        [np.clip(value, low, high)], [row], color=colour, marker=marker, markersize=size, markeredgewidth=0,
        alpha=alpha, clip_on=False,
    )  # fmt: skip


def _words(axes, row, words, colour):
    axes.text(1.04, row, words, transform=axes.get_yaxis_transform(), va="center", fontsize=7.8, color=colour)


def scatter(
    points: Mapping[str, tuple[Summary, Summary]], references: Sequence[str], titles: tuple[str, str], name: str
) -> str:
    """Draws two quantities of each arm against each other, with 95 % intervals.

    Args:
      points: across and up, in %, by arm; those without a value are left out.
      references: arms drawn in grey.
      titles: of the axes.
      name: unique on the page; prefixes the SVG's ids.

    Returns:
      SVG text; "" where there is no point.
    """
    points = {arm: pair for arm, pair in points.items() if all(each.n for each in pair)}
    if not points:
        return ""
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, 3.7), dpi=72)  # so that a pixel is a point
        axes = figure.add_axes((0.12, 0.13, 0.85, 0.8))
        axes.grid(True)
        sides = [limits([(pair[k].mean,) * 2 for pair in points.values()]) for k in (0, 1)]
        for (low, high), put in zip(sides, (axes.set_xlim, axes.set_ylim)):
            around = 0.14 * (high - low) or 0.5
            put(low - around, high + around)
        taken = []
        for arm, (across, up) in points.items():
            x, y = np.clip(across.mean, *axes.get_xlim()), np.clip(up.mean, *axes.get_ylim())
            outside = (x, y) != (across.mean, up.mean)
            colour = TRAIN if arm in references else HELD
            if not outside:
                for summary, line, (low, high) in (
                    (across, lambda ends: (ends, [y, y]), axes.get_xlim()),
                    (up, lambda ends: ([x, x], ends), axes.get_ylim()),
                ):
                    if summary.interval and low <= summary.interval[0] and summary.interval[1] <= high:
                        axes.plot(*line(summary.interval), color=colour, linewidth=1.1, alpha=0.45)
            marker = {"marker": "D" if outside else "o", "markersize": 6, "markeredgewidth": 0}
            axes.plot([x], [y], color=colour, clip_on=False, zorder=4, **marker)
            words = f"{arm} ({across.mean:.1f}, {up.mean:.1f})" if outside else arm
            taken.append((*axes.transData.transform((x, y)), words, TRAIN if arm in references else INK))
        _label(axes, taken)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(ticker.MaxNLocator(5))
            axis.set_major_formatter(lambda value, _: f"{value:.6g}%")
        axes.set_xlabel(titles[0], loc="right")
        axes.text(0, 1.025, titles[1], transform=axes.transAxes, color=MUTED, va="bottom")
        return figures.svg(figure, name, f"{titles[1]} against {titles[0]}, by arm")


def _label(axes, points):
    """Names beside points, each in the nearest place that is free; further away, with a line to its point."""
    frame = axes.get_window_extent()
    boxes = [(x - 4, y - 4, x + 4, y + 4) for x, y, _, _ in points]
    for x, y, words, colour in points:
        width, best = 4.9 * len(words), None
        for reach in (6, 12, 20, 30, 42, 56):
            for right, up in ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)):
                left = x + reach * right - (0 if right > 0 else width if right < 0 else width / 2)
                bottom = y + reach * up - 4.5
                box = (left, bottom, left + width, bottom + 9)
                over = sum(_overlap(box, other) for other in boxes)
                over += 3 * (width * 9 - _overlap(box, (*frame.p0, *frame.p1)))
                if best is None or over < best[0] - 1e-6:
                    best = over, reach, box
            if best[0] <= 1e-6:
                break
        _, reach, box = best
        boxes.append(box)
        axes.annotate(
            words, (x, y), (box[0], box[1] + 4.5), xycoords="figure pixels", textcoords="figure pixels",
            fontsize=8, color=colour, va="center_baseline", annotation_clip=False, zorder=5,
            arrowprops={"arrowstyle": "-", "color": LINE, "linewidth": 0.8, "shrinkB": 4} if reach > 12 else None,
        )  # fmt: skip


def _overlap(one, other):
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0) * max(up, 0)


def panel(curve: Curve, reference: Curve | None, heights: tuple[float, float], unit: str, title: str, name: str) -> str:
    """Returns a small figure: one arm's mean with the band around it, before the baseline's.

    Args:
      curve: of the arm.
      reference: of the baseline; None for the baseline's own figure.
      heights: ends of the upright axis, the same for all arms.
      unit: after its numbers.
      title: of the axis across.
      name: unique on the page; prefixes the SVG's ids.

    Returns:
      SVG text.
    """
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(2.3, 1.6))
        axes = figure.add_axes((0.2, 0.25, 0.78, 0.71))
        own = (curve, HELD, 1.6) if reference is not None else (curve, TRAIN, 1.6)
        for drawn, colour, width in filter(None, [reference is not None and (reference, TRAIN, 1.1), own]):
            axes.fill_between(drawn.x, drawn.low, drawn.high, color=colour, alpha=0.22, linewidth=0)
            dots = {"marker": "o", "markersize": 2.6, "markeredgewidth": 0} if len(drawn.x) <= 12 else {}
            axes.plot(drawn.x, drawn.mean, color=colour, linewidth=width, **dots)
        axes.set_ylim(*heights)
        axes.margins(x=0.02)
        axes.tick_params(labelsize=8.5, pad=2)
        if curve.log:
            axes.set_xscale("log")
            few = len(curve.x) <= MOST_TICKS
            axes.margins(x=0.12 if few else 0.02)  # room for half of the last label
            axes.xaxis.set_major_locator(ticker.FixedLocator(curve.x) if few else ticker.LogLocator(numticks=4))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=np.ptp(curve.x) >= 2))
        axes.yaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}{unit}" if value <= 100 else "")
        axes.set_xlabel(title, loc="right", fontsize=8.5, labelpad=1)
        return figures.svg(figure, name, f"the arm's mean over {title}, with a band of its interval")


def share_picture(values: np.ndarray, low: float, high: float) -> str:
    """Numbers as colours of `SHARES`, from low to high, as a PNG data URI, one pixel per number.

    Args:
      values: float [height, width]; NaN is drawn as low.
      low: drawn white.
      high: drawn in the darkest blue.
    """
    scaled = (np.nan_to_num(values, nan=low) - low) / ((high - low) or 1.0)
    return figures.png(SHARES_MAP(np.clip(scaled, 0, 1), bytes=True)[..., :3])


def signed(value: float, digits: int | None) -> str:
    """Writes +1.20 or −0.35; 0 without a sign. Digits after the point; None for as few as it takes."""
    text = f"{value:.6g}" if digits is None else f"{value:.{digits}f}"
    return "+" * (float(text) > 0) + minus(text.removeprefix("-") if float(text) == 0 else text)


def minus(number: str) -> str:
    """Returns a number with a true minus sign."""
    return number.replace("-", "−")
