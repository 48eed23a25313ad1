"""Seeds whose training diverged, in measurements of decisions."""

import numpy as np
import pytest
from tiny_measuring import context, linear, noise

from cnn_jax.studies import measurements


@pytest.mark.parametrize("name", ["consistency", "circular", "shift_map", "border", "corruptions"])
def test_a_seed_that_diverged_has_no_figures(name):
    broken = lambda images: np.where(np.array([True, False])[:, None, None], linear(images), np.nan)
    images = noise(5)
    images[:, 0] = images[:, -1] = images[:, :, 0] = images[:, :, -1] = 0
    labels = np.arange(5) % 3
    broken, sound = (
        vars(measurements.find(name).measure(context(images, labels, predict=one, reach=1))) for one in (broken, linear)
    )
    for field, expected in sound.items():
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(broken[field][0], expected[0])
            assert np.isfinite(expected).all() and np.isnan(broken[field][1]).all(), field
