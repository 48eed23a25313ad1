"""Checks the answers to the exercises of the lessons in docs/lessons/. What is right is computed, not written down."""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

from cnn_jax import api, attribution
from cnn_jax.config import sizes
from cnn_jax.errors import UsageError
from cnn_jax.layers.activations import scaled_tanh
from cnn_jax.models import outline


@dataclasses.dataclass(frozen=True)
class Exercise:
    """An exercise.

    Attributes:
      answer: computes what is right: a number, or several.
      hint: for those who are wrong.
    """

    answer: Callable[[], Any]
    hint: str


def _layer(experiment: str, name: str, *changes: str) -> Any:
    rows = api.build(api.settings(experiment, *changes)).layers
    return next(row for row in rows if row.name == name)


def _parameters(experiment: str, *changes: str) -> int:
    return sum(row.parameters for row in api.build(api.settings(experiment, *changes)).layers)


def _window(experiment: str, layer: str) -> int:
    network = api.build(api.settings(experiment))
    window = attribution.window_of(
        outline(network.settings.model, network.image_shape, len(network.class_names)), layer
    )
    assert window is not None  # a test asks for all answers
    return window[0]


EXERCISES = {
    "1.1": Exercise(lambda: sizes.output_size(27, 3, 2), "(n + 2p - k) / s + 1, with p = 0"),
    "1.2": Exercise(lambda: sizes.same_pads(32, 7, 1)[0], "how many of a window's 7 pixels lie left of its middle?"),
    "1.3": Exercise(
        lambda: _parameters("lenet_digits", "model.padding.mode=same"),
        "the convolutions keep theirs; the last map is larger, and dense1 reads all of it",
    ),
    "1.4": Exercise(lambda: 2 * 2, "a number after two poolings depends on how many rows of the image?"),
    "1.5": Exercise(lambda: sizes.same_pads(7, 2, 2), "there are ceil(7 / 2) windows; how many pixels do they read?"),
    "2.1": Exercise(
        lambda: _layer("lenet5_mnist", "c3", "model.connections=dense").parameters,
        "(5 * 5 weights for each of 6 maps, and a bias) for each of 16 maps",
    ),
    "2.2": Exercise(lambda: _layer("lenet5_mnist", "c1").multiply_adds, "25 for each number of the 6 maps of 28 x 28"),
    "2.3": Exercise(lambda: _window("lenet5_mnist", "s4"), "go back: 2 rows of C3, which read 6 rows of S2, ..."),
    "2.4": Exercise(lambda: float(scaled_tanh(1.0)), "1.7159 * tanh(2 / 3)"),
    "2.5": Exercise(lambda: _layer("lenet_mnist", "dense1").parameters, "4 * 4 * 16 inputs and a bias, 120 times"),
    "3.1": Exercise(lambda: sizes.output_size(224, 11, 4), "(224 + 0 - 11) / 4 + 1, rounded down"),
    "3.2": Exercise(lambda: sizes.output_size(55, 3, 2), "(55 - 3) / 2 + 1"),
    "3.3": Exercise(
        lambda: _layer("alexnet_imagenet", "dense1").parameters, "6 * 6 * 256 inputs and a bias, 4,096 times"
    ),
    "3.4": Exercise(lambda: math.exp(2) / (math.exp(2) + math.exp(1) + math.exp(0)), "e^2 / (e^2 + e^1 + e^0)"),
    "3.5": Exercise(lambda: 2 * (256 - 224) ** 2, "as the paper counts: 32 x 32 places, and each mirrored"),
}


def check(name: str, answer: Any) -> None:
    """Says whether an answer is right.

    Args:
      name: of the exercise, such as "1.2": the second of the first lesson.
      answer: a number, or several; numbers that are not whole may be off by 0.002. `...`: none yet.

    Raises:
      UsageError: there is no such exercise.
    """
    if name not in EXERCISES:
        raise UsageError(f"there is no exercise {name!r}: they are {', '.join(EXERCISES)}")
    if answer is ...:
        print(f"{name}: put your answer in place of the dots")
        return
    print(f"{name}: right, {_words(answer)}" if is_right(name, answer) else f"{name}: not yet. {EXERCISES[name].hint}")


def is_right(name: str, answer: Any) -> bool:
    """Returns whether an answer to an exercise is right; see `check`."""
    right = EXERCISES[name].answer()
    ours, theirs = (list(each) if isinstance(each, list | tuple) else [each] for each in (right, answer))
    if len(ours) != len(theirs) or not all(isinstance(each, numbers.Real) for each in theirs):
        return False
    return all(math.isclose(one, float(other), rel_tol=0, abs_tol=0.002) for one, other in zip(ours, theirs))


def _words(answer):
    each = answer if isinstance(answer, list | tuple) else [answer]
    return " and ".join(f"{value:,}" if isinstance(value, int) else f"{float(value):.4g}" for value in each)
