"""Decisions at two random shifts, recounted."""

import numpy as np
import pytest
from tiny_measuring import certain, constant_zero, context, dot, noise, place

from cnn_jax.studies.measurements.consistency import Consistency


@pytest.mark.parametrize("circular", [False, True])
def test_consistency_is_what_the_predictions_say(circular):
    """Recounted from the images that the predictor was shown: two seeds that read off row and column."""
    images, calls = dot(50), []
    labels = np.arange(50) % 4 + 5

    def predict(shown):
        calls.append(place(shown))
        return certain([calls[-1][0] % 10, calls[-1][1] % 10])

    asked = context(images, labels, predict=predict, reach=3, draws=4)
    result = Consistency(manner="circular" if circular else "black", seed=1).measure(asked)
    assert len(calls) == 8 and result.draws == 4
    shifts = np.array(calls) - 6
    assert shifts.min() == -3 and shifts.max() == 3
    agree, stable, right = np.zeros((3, 2))
    for first, second in zip(calls[::2], calls[1::2]):
        for axis in (0, 1):
            for image in range(50):
                one, other = first[axis][image] % 10, second[axis][image] % 10
                agree[axis] += one == other
                stable[axis] += one == other == labels[image]
                right[axis] += (one == labels[image]) / 2 + (other == labels[image]) / 2
    np.testing.assert_allclose(result.agreement, agree / 200)
    np.testing.assert_allclose(result.stability, stable / 200)
    np.testing.assert_allclose(result.accuracy, right / 200)


def test_the_two_shifts_are_independent_and_uniform():
    """Whether the row is even: 1 shift of 3 leaves it as it is, so two agree with probability 1/9 + 4/9."""
    predict = lambda shown: certain([place(shown)[0] % 2])
    result = Consistency().measure(context(dot(1000), np.zeros(1000, int), predict=predict, reach=1))
    assert result.agreement == pytest.approx(5 / 9, abs=0.03)  # standard error 0.007
    assert result.accuracy == pytest.approx(1 / 3, abs=0.03)  # the middle, row 6, is even


def test_every_arm_sees_the_same_shifts():
    shown = []
    predict = lambda images: (shown.append(images), certain([np.zeros(len(images), int)]))[1]
    for seed in (0, 0, 1):
        Consistency(seed=seed).measure(context(noise(8), np.zeros(8), predict=predict, reach=2, draws=2))
    first, again, other = (np.stack(shown[start : start + 4]) for start in (0, 4, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first[0] != first[1]).any() and (first[0] != first[2]).any()


def test_constant_and_invariant_predictors():
    images = noise(40)
    labels = np.arange(40) % 10
    three = lambda shown: certain([np.full(len(shown), 3)])
    constant = Consistency().measure(context(images, labels, predict=three))
    assert (constant.agreement, constant.stability, constant.accuracy) == (1, 0.1, 0.1)
    total = lambda shown: certain([shown.sum((1, 2, 3), dtype=int) % 10])
    given = context(images, labels, predict=total)
    assert Consistency(manner="circular").measure(given).agreement == 1
    assert Consistency(manner="black").measure(given).agreement < 0.5  # what is cut off changes the sum


def test_the_protocol_names_what_was_done():
    measurement = Consistency(manner="circular")
    given = context(dot(4), np.zeros(4, int), predict=constant_zero, reach=3, draws=2)
    text = measurement.protocol(measurement.measure(given))
    assert "circular" in text and "-3 to 3" in text and "2 pairs" in text
    crops = Consistency(manner="crops")
    text = crops.protocol(crops.measure(context(dot(4), np.zeros(4, int), predict=constant_zero, margin=4)))
    assert "crops of the stored image, offsets uniform in 0 to 3 pixels" in text and "5 pairs" in text


def test_crops_are_cut_from_the_stored_image_at_every_offset():
    """Offsets 0 to 3 of a square of 9 pixels in 13: what the network is given is what slicing gives."""
    images, shown = noise(64, side=13), []
    cut = lambda images: images[:, 2:-2, 2:-2]  # as the network's own centre crop does

    def predict(moved):
        shown.append(cut(moved))
        return certain([np.zeros(len(moved), int)])

    found = Consistency(manner="crops").measure(context(images, np.zeros(64), predict=predict, draws=3, margin=4))
    assert found.reach == 3 and found.draws == 3 and len(shown) == 6
    offsets = set()
    for crops in shown:
        for image, crop in zip(images, crops):
            found_at = [(i, j) for i in range(5) for j in range(5) if np.array_equal(image[i : i + 9, j : j + 9], crop)]
            assert len(found_at) == 1
            offsets |= set(found_at)
    assert {i for pair in offsets for i in pair} == {0, 1, 2, 3}
