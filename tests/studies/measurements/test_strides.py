"""Strides that add up over a network's layers."""

import pytest

from cnn_jax import config
from cnn_jax.models import outline
from cnn_jax.studies.measurements.strides import cumulative_strides


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("max", {"conv1": 1, "pool1": 2, "conv2": 2, "pool2": 4}),
        ("max_blur", {"conv1": 1, "pool1": 2, "conv2": 2, "pool2": 4}),
        ("strided", {"conv1": 2, "pool1": 2, "conv2": 4, "pool2": 4}),
        ("fractional", {"conv1": 1}),
    ],
)
def test_strides_add_up_over_the_layers(kind, expected):
    network = outline(config.LeNet(pool=config.Pool.of(kind=kind), layout="CHWN"), (28, 28, 1), 10)
    maps = ("conv1", "pool1", "conv2", "pool2")
    assert cumulative_strides(network, maps) == expected
