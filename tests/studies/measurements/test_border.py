"""Accuracy with the object moved to the border."""

import numpy as np
import pytest
from tiny_measuring import certain, constant_zero, context, dot, linear, noise, place

from cnn_jax.errors import UserError
from cnn_jax.studies.measurements.border import BorderDistance


def test_border_distance():
    """The predictor answers with the distance it sees, so an image is right at its label's distance and no other."""
    draws = np.random.RandomState(0)
    images = np.zeros((12, 14, 15, 1), np.uint8)
    for image in images[:10]:  # 3x2 pixels with a gap in the middle, four pixels or more from every side
        top, left = draws.randint(4, 8), draws.randint(4, 9)
        image[top, left] = image[top + 2, left + 1] = 9
    images[10, 1:, 4] = 9  # no room to lie two pixels from top and bottom
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0])  # image 11 is blank

    def predict(shown):
        assert len(shown) == 10 and (shown.sum((1, 2, 3)) == 18).all()  # nothing is cut off
        rows, columns = shown.any((2, 3)), shown.any((1, 3))
        near = [
            [min(*np.flatnonzero(line), *np.flatnonzero(line[::-1])) for line in lines] for lines in (rows, columns)
        ]
        return certain([np.min(near, 0), np.zeros(10, int)], 20)

    result = BorderDistance().measure(context(images, labels, predict=predict, reach=2))
    assert result.images == 10
    np.testing.assert_allclose(result.accuracy, [[0.4, 0.3, 0.3], [0.4, 0.4, 0.4]])


def test_border_distance_visits_the_four_sides():
    """From anywhere, in exactly one direction at a time."""
    images, seen = np.zeros((3, 8, 9, 1), np.uint8), []
    starts = [(0, 0), (5, 8), (3, 4)]
    for image, start in zip(images, starts):
        image[start] = 255
    predict = lambda shown: (seen.append(np.stack(place(shown), 1).tolist()), certain([[0, 0, 0]]))[1]
    BorderDistance().measure(context(images, np.zeros(3, int), predict=predict, reach=1))
    expected = []
    for d in (0, 1):
        expected += [[[d, c] for _, c in starts], [[7 - d, c] for _, c in starts]]
        expected += [[[r, d] for r, _ in starts], [[r, 8 - d] for r, _ in starts]]
    assert seen == expected


def test_border_distance_needs_an_object():
    for images, reach in ((noise(3), 1), (np.zeros((3, 6, 6, 1), np.uint8), 0)):
        with pytest.raises(UserError, match=f"no image has an object on black with {reach} pixels to spare"):
            BorderDistance().measure(context(images, np.zeros(3, int), predict=linear, reach=reach))


def test_the_protocol_names_what_was_done():
    found = BorderDistance().measure(context(dot(4), np.zeros(4, int), predict=constant_zero, reach=2))
    assert BorderDistance().protocol(found).startswith("4 test images")
