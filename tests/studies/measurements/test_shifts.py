"""Images moved by whole pixels."""

import numpy as np
import pytest
from tiny_measuring import moved, noise

from cnn_jax.studies.measurements.shifts import shifted


@pytest.mark.parametrize("circular", [False, True])
def test_shifted_pixel_by_pixel(circular):
    images = noise(6)
    down, right = np.array([0, 1, -2, 5, -7, 3]), np.array([0, -1, 4, 0, 2, -5])
    got = shifted(images, down, right, circular)
    assert got.dtype == np.uint8
    for index, image in enumerate(images):
        np.testing.assert_array_equal(got[index], moved(image, down[index], right[index], circular))
    np.testing.assert_array_equal(shifted(images, 2, -1, circular)[3], moved(images[3], 2, -1, circular))
    np.testing.assert_array_equal(images, noise(6))
