"""One run as one HTML file: no script, nothing fetched from elsewhere, the same bytes for the same contents."""

import math
import os
from pathlib import Path

import numpy as np
from markupsafe import Markup

from cnn_jax.progress import duration
from cnn_jax.reports import figures
from cnn_jax.reports.network.show import NETWORK, inside
from cnn_jax.reports.page import (
    page_template,
    paragraphs,
    record_rows,
    setting_rows,
    without_command,
    write_page,
)
from cnn_jax.reports.parts import wilson
from cnn_jax.reports.run.contents import (
    Contents,
    calibration,
    recall_precision,
    top_confusions,
)
from cnn_jax.training import metrics

PICTURES = 24  # mistakes shown
MATRIX_CLASSES = 30  # a larger confusion matrix is unreadable; its most frequent mistakes are listed instead
BINS = 10  # of the reliability diagram


def write_report(path: str | os.PathLike, contents: Contents) -> None:
    """Writes the report, wholly or not at all.

    Args:
      path: the HTML file; its folder is made if missing, a file of that name replaced.
      contents: what to show.

    Raises:
      UserError: the file cannot be written.
    """
    write_page(path, render(contents))


def render(contents: Contents) -> str:
    """Returns the report as HTML text."""
    count = len(contents.labels)
    return page_template("report.html.jinja", Path(__file__).parent, NETWORK).render(
        c=contents,
        count=count,
        digits=min(3, max(0, math.ceil(math.log10(count)) - 2)),  # as many as one image can change
        interval=wilson(count - contents.errors, count),
        trained=_trained(contents),
        duration=duration(contents.seconds),
        recipe=without_command(paragraphs(contents.description)),
        settings=setting_rows(contents.config),
        curves=_curves(contents),
        samples=_samples(contents),
        classes=_classes(contents),
        lowest=_lowest(contents),
        measured=_measured(contents),
        vectors=[metric.title for metric in _vectors(contents)],
        matrix=_matrix(contents) if len(contents.class_names) <= MATRIX_CLASSES else None,
        confusions=top_confusions(contents.confusion, 10),
        mistakes=[_answer(contents, index) for index in contents.mistakes(PICTURES)],
        doubtful=[_answer(contents, index) for index in contents.doubtful(PICTURES // 2)],
        reliability=_reliability(contents),
        **inside(contents),
        records=[record_rows(record) for record in contents.records],
    )


def _trained(contents):
    last = max(contents.metrics, key=lambda row: row["step"], default={})
    step, epoch = max(last.get("step", 0), contents.checkpoint_step), last.get("epoch")
    return {"steps": step, "passes": "" if epoch is None else f"{epoch:.3g} passes over the data"}


def _curves(contents):
    rates = {row["learning_rate"] for row in contents.metrics if row.get("learning_rate") is not None}
    constant = bool(rates) and max(rates) <= 1.0001 * min(rates)
    drawn = [("loss", "Loss"), ("accuracy", "Accuracy")] + [("learning_rate", "Learning rate")] * (not constant)
    drawn_figures = [
        (title, Markup(figures.curves(_rows(contents, quantity), quantity, contents.checkpoint_step, quantity)))
        for quantity, title in drawn
    ]
    return {
        "figures": [figure for figure in drawn_figures if figure[1]],
        "constant_rate": f"{min(rates):.6g}" if constant else "",
        "marked": 0 < contents.checkpoint_step <= max((row["step"] for row in contents.metrics), default=0),
        "held_out": any(row.get("split") != "train" for row in contents.metrics),
    }


def _rows(contents, quantity):
    return contents.rates or contents.metrics if quantity == "learning_rate" else contents.metrics


def _samples(contents):
    """One image of each class, the first in the split."""
    occurring, first = np.unique(contents.labels, return_index=True)
    return [(contents.class_names[k], contents.images[i]) for k, i in zip(occurring, first)][:MATRIX_CLASSES]


def _measured(contents):
    """Title and value, in words, of every metric that is one number, but for the accuracy, which is the headline."""
    known = [(metric, contents.measured.get(metric.name)) for metric in metrics.numbers() if metric.name != "accuracy"]
    return [(metric.title, metric.show(value)) for metric, value in known if value is not None]


def _vectors(contents):
    return [metric for metric in metrics.vectors() if contents.measured.get(metric.name) is not None]


def _classes(contents):
    _, precision = recall_precision(contents.confusion)
    vectors = {metric.name: contents.measured[metric.name] for metric in _vectors(contents)}
    return [
        {
            "name": name,
            "count": int(contents.confusion[k].sum()),
            "missed": int(contents.confusion[k].sum() - contents.confusion[k, k]),
            "vectors": {title: float(values[k]) for title, values in vectors.items()},
            "precision": float(precision[k]),
        }
        for k, name in enumerate(contents.class_names)
    ]


def _lowest(contents):
    """The lowest of each column of the table of classes, which it points out; None where every class has all of it."""
    columns = {metric.name: contents.measured[metric.name] for metric in _vectors(contents)}
    columns |= {"precision": recall_precision(contents.confusion)[1]}
    return {name: None if np.nanmin(values) == 1 else float(np.nanmin(values)) for name, values in columns.items()}


def _matrix(contents):
    """Rows of (name, cells of (count, shade)); the shade is None on the diagonal and 0 where nothing was confused."""
    wrong = contents.confusion.copy()
    np.fill_diagonal(wrong, 0)
    most = max(1, wrong.max())
    shades = np.where(wrong > 0, 0.10 + 0.60 * np.sqrt(wrong / most), 0.0)
    rows = []
    for i, name in enumerate(contents.class_names):
        cells = zip(contents.confusion[i].tolist(), shades[i].tolist())
        rows.append((name, [(n, None if i == j else round(shade, 2)) for j, (n, shade) in enumerate(cells)]))
    return rows


def _answer(contents, index):
    answer, label = contents.predictions[index], contents.labels[index]
    return {
        "image": contents.images[index],
        "answer": contents.class_names[answer],
        "sure": float(contents.confidence[index]),
        "label": contents.class_names[label],
        "label_sure": float(np.nan_to_num(contents.probabilities[index, label])),
        "number": int(index),
    }


def _reliability(contents):
    bins, error = calibration(contents.confidence, contents.correct, BINS)
    return {
        "figure": Markup(figures.reliability(bins, "reliability")),
        "error": error,
        "confidence": float(contents.confidence.mean()),
    }
