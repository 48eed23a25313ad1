"""The report's figures: curves as SVG text, pictures as PNG data URIs. The same input gives the same bytes.

Curves are drawn in the colours of `COLOURS`, each written as a CSS variable with its light value to fall back on, so
that a page can give them other values in the dark. Sizes are in points (1/72 inch).
"""

import base64
import io
import math
import re
from html import escape

import numpy as np
from matplotlib import image, style, ticker
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from cnn_jax.reports.parts import wilson

# Name: (on white, on black). Blue, vermilion and green are Okabe and Ito's (2008), told apart by the colour-blind;
# the values on black are lighter ones of the same hues.
COLOURS = {
    "ink": ("#1c2127", "#e7e9ec"),
    "muted": ("#5c6670", "#a0a9b4"),
    "line": ("#d5dae0", "#3a424b"),
    "train": ("#6f7883", "#8b95a1"),
    "held": ("#0072b2", "#5ab4ea"),
    "test": ("#00876a", "#35c69f"),
    "wrong": ("#c64f00", "#f59b5b"),
}
INK, MUTED, LINE, TRAIN, HELD, TEST, WRONG = (light for light, _ in COLOURS.values())
SPLITS = {"train": TRAIN, "validation": HELD, "test": TEST}  # drawn in this order

# Negative, zero, positive: orange and blue differ in lightness from white alike, and stay apart for the colour-blind.
SIGNED = ("#8a3d00", "#d9761a", "#f6c896", "#ffffff", "#a5cbe6", "#2f7fb8", "#0b3c66")
SIGNED_MAP = LinearSegmentedColormap.from_list("signed", SIGNED, N=257)  # odd: 0 has a colour of its own, white

STYLE = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font, can be searched and read aloud
    "font.family": "DejaVu Sans",  # comes with matplotlib, so places are the same everywhere
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "axes.unicode_minus": True,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
SIZE = (4.6, 2.9)  # inches
LOG_RATIO = 30  # a loss that falls by more than this is drawn on a logarithmic axis


def curves(metrics: list[dict], quantity: str, checkpoint_step: int, name: str) -> str:
    """Returns one quantity over the run: training rows as a line, held-out rows as points joined by a line.

    Args:
      metrics: rows of metrics.jsonl, in any order; rows without a finite value are left out.
      quantity: "loss", "accuracy" (shown in %) or "learning_rate" (of the training rows).
      checkpoint_step: marked with a dotted line.
      name: unique on the page; prefixes the SVG's ids.

    Returns:
      SVG text; "" when there is no finite value to draw.
    """
    series = _series(metrics, quantity)
    if not series:
        return ""
    with style.context(["default", STYLE]):
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes((0.125, 0.165, 0.69, 0.77))
        for split, (x, y) in series.items():
            colour = INK if quantity == "learning_rate" else SPLITS[split]
            line = split == "train" and len(x) > 1
            dots = {} if line else {"marker": "o", "markersize": 3.4 if len(x) <= 40 else 0, "markeredgewidth": 0}
            axes.plot(x, y, color=colour, linewidth=1.2 if line else 1.6, clip_on=line, **dots)
        _scale(axes, series, quantity)
        if quantity != "learning_rate":
            _end_labels(axes, series)
            _mark(axes, metrics, checkpoint_step, top=quantity == "loss")
        axes.set_xlabel("epoch" if _by_epoch(metrics) else "step", loc="right")
        return svg(figure, name, f"{quantity.replace('_', ' ')} over the run, of {' and '.join(series)}")


# Of runs on one axis, told apart by the colour-blind: Okabe and Ito's, with ink and grey.
SERIES = (HELD, WRONG, TEST, INK, TRAIN)


def several(series: dict[str, tuple[np.ndarray, np.ndarray]], quantity: str, name: str) -> str:
    """Returns one quantity of several runs over their epochs, a line each, named at its end.

    Args:
      series: x and y by the name of the run; of runs beyond the fifth colours repeat, with dashes.
      quantity: "loss", or "accuracy" (0 to 1, shown in %).
      name: unique on the page; prefixes the SVG's ids.

    Returns:
      SVG text; "" when there is nothing finite to draw.
    """
    kept = {}
    for title, (x, y) in series.items():
        finite = np.isfinite(y)
        if finite.any():
            kept[title] = x[finite], y[finite] * (100 if quantity == "accuracy" else 1)
    if not kept:
        return ""
    with style.context(["default", STYLE | {"text.parse_math": False}]):
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes((0.125, 0.165, 0.845, 0.77))
        for number, (title, (x, y)) in enumerate(kept.items()):
            dashes = {"dashes": (4, 2)} if number >= len(SERIES) else {}
            dots = {"marker": "o", "markersize": 3.4 if len(x) <= 40 else 0, "markeredgewidth": 0}
            axes.plot(x, y, color=SERIES[number % len(SERIES)], linewidth=1.6, label=title, **dots, **dashes)
        _scale(axes, kept, quantity)
        axes.legend(frameon=False, fontsize=8, loc="best", labelcolor="linecolor", handlelength=1.2)
        axes.set_xlabel("epoch", loc="right")
        return svg(figure, name, f"{quantity} over the runs {', '.join(kept)}")


def _by_epoch(metrics):
    return all(row.get("epoch") is not None for row in metrics)


def _series(metrics, quantity):
    found = {}
    for split in SPLITS if quantity != "learning_rate" else ("train",):
        rows = sorted((row for row in metrics if row.get("split") == split), key=lambda row: row["step"])
        x = np.array([row["epoch"] if _by_epoch(metrics) else row["step"] for row in rows], float)
        y = np.array([math.nan if row.get(quantity) is None else row[quantity] for row in rows], float)
        finite = np.isfinite(y)
        if finite.any():
            found[split] = (x[finite], y[finite] * (100 if quantity == "accuracy" else 1))
    return found


def _scale(axes, series, quantity):
    last = max(x[-1] for x, _ in series.values())
    axes.set_xlim(0, last if last > 0 else 1)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=last >= 3))
    values = np.concatenate([y for _, y in series.values()])
    if quantity == "accuracy":
        axes.set_ylim(*_accuracy_limits(series))
        axes.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}%" if value <= 100 else "")
    elif quantity == "loss" and values.min() > 0 and values.max() > LOG_RATIO * values.min():
        axes.set_yscale("log")
        axes.text(0.01, 1.0, "logarithmic scale", transform=axes.transAxes, color=MUTED, fontsize=8, va="bottom")
        axes.set_ylim(values.min() / 1.3, values.max() * 1.15)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if values.max() < 300 * values.min() else (1,)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        axes.set_ylim(min(0, 1.05 * values.min()), 1.05 * values.max() or 1)
        axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}")


def _accuracy_limits(series):
    # The held-out points and most of the training line fill the axis; the first training rows may enter from below,
    # or the last tenth of a per cent, which the run is about, would be a hair's breadth.
    lowest = min(np.percentile(y, 10) if split == "train" else y.min() for split, (_, y) in series.items())
    floor = max(0.0, lowest - 0.12 * (100 - lowest) - 0.05)
    return floor, 100 + 0.02 * (100 - floor)


def _end_labels(axes, series):
    low, high = axes.transData.transform([(0, axes.get_ylim()[0]), (0, axes.get_ylim()[1])])[:, 1]
    ends = sorted(((axes.transData.transform((x[-1], y[-1]))[1], split) for split, (x, y) in series.items()))
    gap, places = 0.062 * (high - low), []
    for height, _ in ends:
        places.append(max(float(np.clip(height, low, high)), places[-1] + gap if places else low))
    over = max(0.0, places[-1] - high)
    for (_, split), place in zip(ends, places):
        axes.text(
            1.025, (place - over - low) / (high - low), split,
            transform=axes.transAxes, color=SPLITS[split], fontweight="bold", va="center",
        )  # fmt: skip


def _mark(axes, metrics, step, top):
    last = max(metrics, key=lambda row: row["step"])
    x = step * last["epoch"] / last["step"] if _by_epoch(metrics) and last["step"] else step
    if not 0 < x <= axes.get_xlim()[1] * 1.001:
        return
    axes.axvline(x, color=MUTED, linewidth=0.9, dashes=(1.5, 2.5), clip_on=False)
    right = x > axes.get_xlim()[1] / 2
    axes.annotate(
        f"step {step:,}", (x, 0.985 if top else 0.02), (-4 if right else 4, 0),
        xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8, color=MUTED,
        ha="right" if right else "left", va="top" if top else "bottom",
    )  # fmt: skip


def reliability(bins: list, name: str) -> str:
    """Returns the share answered correctly against the probability given, with 95 % Wilson intervals and counts.

    Args:
      bins: equal-width `parts.Bin`s from probability 0 to 1.
      name: unique on the page; prefixes the SVG's ids.

    Returns:
      SVG text.
    """
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(4.6, 3.5))
        axes = figure.add_axes((0.115, 0.24, 0.85, 0.73))
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.9, dashes=(4, 3))
        axes.text(2, 97, "not sure\nenough", color=MUTED, va="top")
        axes.text(98, 4, "too\nsure", color=MUTED, ha="right")
        for place, group in enumerate(bins):
            centre = 100 * (place + 0.5) / len(bins)
            axes.text(
                centre, -0.135, f"{group.count:,}" if group.count else "–", transform=axes.get_xaxis_transform(),
                ha="center", va="top", fontsize=7.5, color=INK if group.count else MUTED,
            )  # fmt: skip
            if not group.count:
                continue
            low, high = wilson(group.correct, group.count)
            x = 100 * group.confidence
            axes.plot([x, x], [100 * low, 100 * high], color=HELD, linewidth=1.3, clip_on=False)
            axes.plot(
                [x], [100 * group.correct / group.count],
                color=HELD, marker="o", markersize=5, markeredgewidth=0, clip_on=False,
            )  # fmt: skip
        axes.set(xlim=(0, 100), ylim=(0, 102), xticks=range(0, 101, 10), yticks=range(0, 101, 20))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}%" if value % 20 == 0 else "")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
        below = {"transform": axes.transAxes, "color": MUTED, "va": "top"}
        axes.text(0, -0.225, "images in each tenth", fontsize=8, **below)
        axes.text(1, -0.225, "probability the network gave", ha="right", **below)
        return svg(figure, name, "share of correct answers against the probability the network gave")


def svg(figure: Figure, name: str, description: str) -> str:
    """Returns a figure as SVG text, in the colours of the page.

    Args:
      figure: drawn in the style `STYLE`.
      name: unique on the page; prefixes the SVG's ids.
      description: in words, for those who cannot see it.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style.context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # Ids must be unique among all figures of a page.
    text = re.sub(r'id="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    for key, (light, _) in COLOURS.items():
        text = text.replace(light, f"var(--{key}, {light})")
    width, height = (72 * side for side in figure.get_size_inches())
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}" class="plot"'
    opening += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return re.sub(r"<svg.*?>", opening, text, count=1, flags=re.DOTALL)


def alone(drawing: str) -> str:
    """Returns a drawing of `svg` as a file of its own: in the light colours, on white."""
    drawing = re.sub(r"var\(--\w+, (#\w+)\)", r"\1", drawing)
    return drawing.replace(">", '><rect width="100%" height="100%" fill="#ffffff"/>', 1)


def picture(pixels: np.ndarray) -> str:
    """Returns a stored image as a PNG data URI, one pixel per pixel.

    Args:
      pixels: uint8 [height, width, 1 or 3].
    """
    return png(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def signed_picture(values: np.ndarray, limit: float) -> str:
    """Numbers as colours of `SIGNED`: white is 0, the darkest orange -limit, the darkest blue +limit.

    Args:
      values: float [height, width]; NaN is drawn as 0.
      limit: the scale's end; 0 draws white.

    Returns:
      A PNG data URI, one pixel per number.
    """
    scaled = np.nan_to_num(values) / (limit or 1.0)
    return png(SIGNED_MAP(np.clip(0.5 + 0.5 * scaled, 0, 1), bytes=True)[..., :3])


def mosaic(values: np.ndarray, limit: float) -> str:
    """Returns many small arrays of numbers as one picture, in the colours of `signed_picture`, a pixel apart.

    Args:
      values: float [rows, columns, height, width].
      limit: the scale's end; 0 draws white.

    Returns:
      A PNG data URI; what lies between them is transparent.
    """
    scaled = np.nan_to_num(values) / (limit or 1.0)
    return tiled(SIGNED_MAP(np.clip(0.5 + 0.5 * scaled, 0, 1), bytes=True)[..., :3])


def tiled(pictures: np.ndarray) -> str:
    """Pictures in rows and columns as one, a pixel apart.

    Args:
      pictures: uint8 [rows, columns, height, width, 1 or 3].

    Returns:
      A PNG data URI; what lies between them is transparent.
    """
    rows, columns, height, width, _ = pictures.shape
    whole = np.zeros((rows, height + 1, columns, width + 1, 4), np.uint8)
    whole[:, :height, :, :width, :3] = pictures.transpose(0, 2, 1, 3, 4)
    whole[:, :height, :, :width, 3] = 255
    return png(whole.reshape(rows * (height + 1), columns * (width + 1), 4)[:-1, :-1])


def colour_picture(values: np.ndarray, limit: float) -> str:
    """Returns a kernel over red, green and blue as a picture: mid-grey is 0, black -limit, full colour +limit.

    Args:
      values: float [height, width, 3].
      limit: the scale's end; 0 draws grey.

    Returns:
      A PNG data URI, one pixel per weight.
    """
    scaled = 0.5 + 0.5 * np.nan_to_num(values) / (limit or 1.0)
    return png(np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8))


def png(pixels: np.ndarray) -> str:
    """Returns a PNG data URI, one pixel per pixel.

    Args:
      pixels: uint8 [height, width, 3 or, with transparency, 4].
    """
    stream = io.BytesIO()
    image.imsave(stream, np.ascontiguousarray(pixels), format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
