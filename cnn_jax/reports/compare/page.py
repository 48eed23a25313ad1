"""Two or more runs on one page: what differs, how they learnt, what each gets right, the same image in all of them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from cnn_jax.data.images.reader import LazyImages
from cnn_jax.progress import duration
from cnn_jax.reports import figures
from cnn_jax.reports.compare.contents import HELD_OUT, Compared, differences, pairs, told_apart
from cnn_jax.reports.page import page_template, stage_pictures, write_page
from cnn_jax.reports.parts import wilson

PICTURES = 24  # images shown that not all runs get right
CHANNELS = 8  # maps shown of a layer


def write_comparison(
    path: str | os.PathLike,
    runs: Sequence[Compared],
    images: np.ndarray | LazyImages,
    labels: np.ndarray,
    names: Sequence[str],
) -> None:
    """Writes the page, wholly or not at all.

    Args:
      path: the HTML file.
      runs: two or more.
      images: uint8 [N, height, width, channels], the test images as stored.
      labels: int [N].
      names: of the K classes.

    Raises:
      UserError: the file cannot be written.
    """
    write_page(path, render(runs, images, labels, names))


def render(runs: Sequence[Compared], images: np.ndarray | LazyImages, labels: np.ndarray, names: Sequence[str]) -> str:
    """Returns the page as HTML text; arguments as `write_comparison`."""
    answers = np.stack([run.probabilities.argmax(-1) for run in runs])
    right = answers == labels
    template = page_template("page.html.jinja", Path(__file__).parent)
    apart = told_apart(right, PICTURES)
    return template.render(
        runs=[_run(run, row) for run, row in zip(runs, right)],
        count=len(labels),
        differences=differences(runs),
        pairs=[(runs[pair.first].name, runs[pair.second].name, pair) for pair in pairs(right)],
        curves=[
            (title, Markup(_curves(runs, quantity))) for quantity, title in (("loss", "Loss"), ("accuracy", "Accuracy"))
        ],
        mixed=int((right.any(0) & ~right.all(0)).sum()),
        missed=int((~right.any(0)).sum()),
        apart=[
            {
                "number": int(number),
                "image": images[number],
                "label": names[labels[number]],
                "answers": [(names[answers[k, number]], bool(right[k, number])) for k in range(len(runs))],
            }
            for number in apart
        ],
        followed=[_followed(runs, number, names) for number in range(len(runs[0].examples))],
    )


def _run(run, right):
    low, high = wilson(int(right.sum()), len(right))
    return {
        "name": run.name,
        "accuracy": float(right.mean()),
        "low": low,
        "high": high,
        "wrong": int((~right).sum()),
        "parameters": run.parameters,
        "multiply_adds": run.multiply_adds,
        "duration": duration(run.seconds),
        "step": run.step,
        "rule": run.rule,
    }


def _curves(runs, quantity):
    series = {}
    for run in runs:
        rows = [row for row in run.metrics if row.get("split") in HELD_OUT and row.get(quantity) is not None]
        rows = sorted(rows, key=lambda row: row["step"])
        if rows:
            by_epoch = all(row.get("epoch") is not None for row in rows)
            x = [row["epoch"] if by_epoch else row["step"] for row in rows]
            series[run.name] = np.array(x, float), np.array([row[quantity] for row in rows], float)
    return figures.several(series, quantity, f"compare-{quantity}")


def _followed(runs, number, names):
    """One image in all runs: the first maps of each with their pooling, and the occlusion."""
    columns = []
    for run in runs:
        example = run.examples[number]
        occlusion = example.evidence.get("occlusion")
        limit = float(np.max(np.abs(np.nan_to_num(occlusion)), initial=0.0)) if occlusion is not None else 0.0
        columns.append(
            {
                "name": run.name,
                "stages": [stage_pictures(stage, CHANNELS) for stage in example.stages],
                "occlusion": None if occlusion is None else figures.signed_picture(occlusion, limit),
                "limit": limit,
                "probability": float(np.nan_to_num(example.probabilities.max())),
                "answer": names[int(example.probabilities.argmax())],
            }
        )
    first = runs[0].examples[number]
    return {"name": first.name, "label": first.label, "image": first.image, "columns": columns}
