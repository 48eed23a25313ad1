"""Accuracy with the squares where the other class had them."""

import numpy as np
from tiny_measuring import certain, context

from cnn_jax.data.datasets import red_green
from cnn_jax.studies.measurements.swapped import Swapped


def test_a_network_that_reads_the_place_is_lost_and_one_that_reads_the_order_is_not():
    images, labels = red_green.images("test", 20)

    def predict(shown):
        assert (shown != images).any((1, 2, 3)).all()
        place = shown.any((2, 3)).argmax(1) >= red_green.BANDS[1]
        columns = shown.any(1).argmax(1)  # of the red and the green square's first
        return certain([place.astype(int), (columns[:, 0] > columns[:, 1]).astype(int)], 2)

    found = Swapped().measure(context(images, labels, predict=predict))
    np.testing.assert_array_equal(found.accuracy, [0, 1])
    assert Swapped().protocol(found).startswith("20 images of the test")
    diverged = lambda shown: np.full((1, len(shown), 2), np.nan)
    assert np.isnan(Swapped().measure(context(images, labels, predict=diverged)).accuracy).all()
