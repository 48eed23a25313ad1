"""Activation at the edge of maps, by hand."""

import numpy as np
from tiny_measuring import context

from cnn_jax.studies.measurements.edges import EdgeActivation


def test_edge_activation_by_hand():
    """A 4x5 map: 14 positions in the ring, 6 inside."""

    def network(images):
        values = np.zeros((2, len(images), 4, 5, 2), np.float32)
        values[0, ..., 0] = 3  # everywhere, also when blank
        values[1, :, 0] = -2  # the upper row, five positions of the ring, both channels
        values[1, :, 1, 1, 0] = images[:, 0, 0, 0]
        return {"conv": values, "small": np.ones((2, len(images), 2, 2, 1))}

    images = np.full((3, 8, 8, 1), 12, np.uint8)
    result = EdgeActivation().measure(context(images, maps=network))
    assert list(result.edge) == ["conv"] and result.images == 3
    np.testing.assert_allclose(result.edge["conv"], [1.5, 10 / 14])
    np.testing.assert_allclose(result.centre["conv"], [1.5, 12 / 2 / 6])
    np.testing.assert_allclose(result.blank_edge["conv"], [1.5, 10 / 14])
    np.testing.assert_allclose(result.blank_centre["conv"], [1.5, 0])
    assert "3 test images" in EdgeActivation().protocol(result)
