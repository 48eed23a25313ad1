"""The answers to some pictures as one HTML file: each as it was given, as the network saw it, and the probabilities."""

import os
from pathlib import Path

import numpy as np

from cnn_jax.files import printable
from cnn_jax.predictions import Predictions
from cnn_jax.reports import figures
from cnn_jax.reports.page import page_template, write_page

CLASSES = 5  # shown of an answer


def write_answers(path: str | os.PathLike, title: str, found: Predictions, seen: np.ndarray) -> None:
    """Writes the page, wholly or not at all.

    Args:
      path: the HTML file.
      title: of the run.
      found: the answers to picture files.
      seen: the pictures as the network is given them, uint8 [N, height, width, channels].

    Raises:
      UserError: the file cannot be written.
    """
    answers = []
    for name, picture, image, row in zip(found.files, found.pictures, seen, found.probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:CLASSES]
        answers.append(
            {
                "name": printable(name),
                "answer": found.class_names[order[0]],
                "rows": [(found.class_names[label], float(row[label])) for label in order],
                "classes": len(row),
                "warnings": picture.warnings,
                "changes": printable(picture.changes),
                "given": figures.picture(picture.given if picture.given.ndim == 3 else picture.given[..., None]),
                "seen": figures.picture(image),
                "size": image.shape[:2],
            }
        )
    unreadable = [printable(reason) for reason in found.unreadable.values()]
    template = page_template("page.html.jinja", Path(__file__).parent)
    write_page(path, template.render(title=title, found=found, answers=answers, unreadable=unreadable))
