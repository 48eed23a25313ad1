"""Runs beside each other on one page."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnn_jax import api, files
from cnn_jax.errors import UsageError
from cnn_jax.reports.compare import contents
from cnn_jax.reports.compare.page import write_comparison
from cnn_jax.reports.network.collect import example
from cnn_jax.training.metric_files import read_rows, read_timing


def compare(
    runs: Sequence[str | os.PathLike],
    path: str | os.PathLike = "runs/compare.html",
    images: Sequence[str | os.PathLike | int] = (),
) -> Path:
    """Writes a page that puts runs beside each other: settings, curves, accuracies, McNemar's tests, images, maps.

    Args:
      runs: workdirs, two or more, with the same test images.
      path: of the page.
      images: those to follow through the networks: paths of files, or numbers of test images; none: the first test
        image that not all get right or, where there is none, the first.

    Returns:
      The path of the page.

    Raises:
      UserError: there are too few, nothing is saved yet, or their test images are others.
    """
    folders_of = [os.fspath(each) for each in runs]
    if len(set(folders_of)) < 2:
        raise UsageError("runs: name the workdirs of two runs or more")
    opened = [api.Run(workdir=each) for each in folders_of]
    measured = [each.measure() for each in opened]
    first = measured[0].dataset
    for folder, result in zip(folders_of[1:], measured[1:]):
        other = result.dataset
        same = other.class_names == first.class_names and np.array_equal(other.labels, first.labels)
        if not (same and np.array_equal(other.images[:1], first.images[:1])):
            raise UsageError(f"{folder} is measured on other test images than {folders_of[0]}: they cannot be compared")
    if not images:
        right = np.stack([each.evaluation.probabilities.argmax(-1) == first.labels for each in measured])
        images = [int(number) for number in contents.told_apart(right, 1)] or [0]
    names = _told_apart(folders_of)
    compared = []
    for name, this, result in zip(names, opened, measured):
        times = read_timing(this.folder)
        compared.append(
            contents.Compared(
                name=name,
                settings=this.settings,
                step=result.step,
                rule=result.rule,
                metrics=read_rows(this.folder),
                probabilities=result.evaluation.probabilities,
                parameters=this.learner.cost.parameters,
                multiply_adds=this.learner.cost.multiply_adds,
                seconds=times[-1]["seconds"] if times else None,
                examples=[
                    example(this.learner, result.variables, each) for each in this.followed(images, result.dataset)
                ],
            )
        )
    place = files.place(os.fspath(path), f"--out={path}")
    write_comparison(place, compared, first.images, first.labels, first.class_names)
    return place


def _told_apart(paths):
    """The ends of paths, as short as tells them apart."""
    parts = [Path(each).parts for each in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            break
    return names
