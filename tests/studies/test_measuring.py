"""Measurements by name: what they need of a network, and that they are stored and read whole."""

from types import SimpleNamespace

import numpy as np
import pytest

from cnn_jax import config
from cnn_jax.config.study import MEASUREMENTS
from cnn_jax.models import outline
from cnn_jax.studies import feature_maps, measurements, measuring


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
    model = config.LeNet(pool=config.Pool.of(kind=kind), layout="CHWN")
    learner = SimpleNamespace(model=outline(model, (28, 28, 1), 10))
    maps = dict.fromkeys(("conv1", "pool1", "conv2", "pool2"))
    assert measuring.cumulative_strides(learner, maps) == expected


def test_measurements_are_stored_and_joined_over_groups_of_seeds(tmp_path):
    def group(*values):
        values = np.array(values)
        layers = {"conv1": values, "pool1": 2 * values}
        return {
            "consistency": measurements.Consistency(
                agreement=values, stability=values / 2, accuracy=values / 3, reach=3, circular=False, draws=5
            ),
            "edges": feature_maps.EdgeActivation(
                edge=layers, centre=layers, blank_edge=layers, blank_centre=layers, images=64
            ),
        }

    whole = measuring.joined([group(0.5, 0.25), group(0.75)])
    measuring.store(tmp_path / "measurements.npz", whole)
    found = measuring.load(tmp_path / "measurements.npz")
    np.testing.assert_array_equal(found["consistency"].agreement, [0.5, 0.25, 0.75])
    np.testing.assert_array_equal(found["edges"].blank_edge["pool1"], [1, 0.5, 1.5])
    assert found["consistency"].protocol == group(1)["consistency"].protocol
    assert found["edges"].images == 64
    columns = measuring.figures(found)
    assert columns.keys() == {"consistency", "stability", "shifted_accuracy"}
    np.testing.assert_allclose(columns["stability"], [0.25, 0.125, 0.375])


def test_every_measurement_that_can_be_asked_for_has_a_kind():
    assert measuring.KINDS.keys() == MEASUREMENTS.keys()
