"""The memory that a training step is said to take."""

import dataclasses
import math

import pytest

import cnn_jax
from cnn_jax.training.memory import step_memory


@pytest.mark.slow
def test_memory_grows_with_the_batch_and_holds_the_state():
    settings = cnn_jax.settings("lenet_digits", "optimizer.ema=0")
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, layout="CHWN"))
    small, large = (step_memory(settings, size) for size in (8, 64))
    adam = 3 * 4 * 44_426  # weights, mean and mean square of the gradient
    image, maps = 28 * 28, 4 * (24 * 24 * 6 + 8 * 8 * 16)
    assert small > adam + 8 * image
    assert (large - small) / 56 > image + maps / 2 and math.isfinite(large)
    averaged = dataclasses.replace(settings, optimizer=settings.optimizer.changed(ema=0.9))
    assert step_memory(averaged, 8) - small > 0.9 * 4 * 44_426
