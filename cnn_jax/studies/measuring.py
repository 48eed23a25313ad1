"""Measures trained networks: what measurements are given, and what is said meanwhile."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np

from cnn_jax.config.study import Protocol
from cnn_jax.progress import EVERY
from cnn_jax.studies.measurements import find
from cnn_jax.studies.measurements.base import Context, Result
from cnn_jax.studies.measurements.strides import cumulative_strides

MAPPED_IMAGES = 64  # that measurements of feature maps use
REACH = 4  # pixels that measurements shift images by where the study does not say; at most an eighth of the side


def context(protocol: Protocol, learner, variables, test, alive: np.ndarray) -> Context:
    """Returns what measurements are given: the networks, with NaN for diverged ones, and some test images.

    Args:
      protocol: how many images, and how far they are shifted or changed.
      learner: the networks on their devices.
      variables: of the networks, as the learner holds them.
      test: the test images.
      alive: bool [seeds], False for a network that diverged.
    """
    rows = test.sample(protocol.images or len(test.labels))
    images = np.asarray(test.images[rows])
    known = lambda values: np.where(alive.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan)
    maps = lambda images: {name: known(value) for name, value in learner.maps(variables, images).items()}
    return Context(
        predict=lambda images: known(learner.predict(variables, images)),
        maps=maps,
        uphill=lambda images, labels: learner.uphill(variables, images, labels),
        images=images,
        labels=test.labels[rows],
        few=np.asarray(test.images[test.sample(MAPPED_IMAGES)]),
        reach=protocol.reach or max(1, min(REACH, images.shape[1] // 8)),
        draws=protocol.draws,
        epsilon=protocol.epsilon,
        margin=images.shape[1] - learner.settings.data.crop if learner.settings.data.crop else 0,
        strides=cumulative_strides(learner.model, maps(images[:1])),
    )


def of_run(learner, variables, test) -> Context:
    """Returns what measurements of a single run are given: all test images, and a study's defaults."""
    return context(Protocol(), learner, variables, test, np.array([True]))


def measure(names: Sequence[str], context: Context, log=lambda line: None) -> dict[str, Result]:
    """Measures what these names stand for, of one group of seeds; lines say which it is, and how far a long one is."""
    found = {}
    for name in names:
        log(f"measuring {name}")
        found[name] = find(name).measure(_heard(context, name, log))
    return found


def _heard(context, name, log):
    """The context, with a line every few seconds on what the networks have answered."""
    began = shown = time.perf_counter()
    answered = 0

    def predict(images):
        nonlocal answered, shown
        probabilities = context.predict(images)
        answered += len(images)
        if time.perf_counter() - shown >= EVERY:
            shown = time.perf_counter()
            log(f"measuring {name}: {answered:,} images so far, in {shown - began:.0f} s")
        return probabilities

    return dataclasses.replace(context, predict=predict)


def described(found: Mapping[str, Result]) -> list[str]:
    """Lines on what was measured of a single network: how, and its numbers."""
    lines = []
    for name, result in found.items():
        measurement = find(name)
        lines.append(f"{name}: {measurement.protocol(result)}")
        for column in measurement.columns:
            value = float(column.shown(np.asarray(column.take(result)))[0])
            places = 2 if column.unit == "%" else column.digits
            lines.append(f"  {column.title} {value:.{places}f}{f' {column.unit}' if column.unit else ''}")
    return lines
