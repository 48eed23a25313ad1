import dataclasses

import numpy as np
import pytest

from cnn_jax.errors import UserError
from cnn_jax.studies.measurements import border_distance, consistency, shift_map, shifted


def moved(image, down, right, circular):
    """One image [H, W, C], pixel by pixel."""
    out = np.zeros_like(image)
    height, width = image.shape[:2]
    for row in range(height):
        for column in range(width):
            to = row + down, column + right
            if circular:
                out[to[0] % height, to[1] % width] = image[row, column]
            elif 0 <= to[0] < height and 0 <= to[1] < width:
                out[to] = image[row, column]
    return out


def noise(count, side=6, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, side, side, 2)).astype(np.uint8)


def dot(count, side=13):
    """One white pixel in the middle of a black image."""
    images = np.zeros((count, side, side, 1), np.uint8)
    images[:, side // 2, side // 2] = 255
    return images


def place(images):
    """Row and column of the brightest pixel, two [N]."""
    return np.unravel_index(images.reshape(len(images), -1).argmax(1), images.shape[1:3])


def certain(classes, count=10):
    """Classes [seeds, N] as probabilities of 1 and 0."""
    return np.eye(count, dtype=np.float32)[np.asarray(classes)]


def linear(images):
    """Two seeds of a random linear classifier in three classes."""
    weights = np.random.RandomState(7).standard_normal((2, images[0].size, 3)) * 0.03
    logits = (images.reshape(len(images), -1) / 255) @ weights * 10
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


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


@pytest.mark.parametrize("circular", [False, True])
def test_consistency_is_what_the_predictions_say(circular):
    """Recounted from the images that the predictor was shown: two seeds that read off row and column."""
    images, calls = dot(50), []
    labels = np.arange(50) % 4 + 5

    def predict(shown):
        calls.append(place(shown))
        return certain([calls[-1][0] % 10, calls[-1][1] % 10])

    result = consistency(predict, images, labels, reach=3, circular=circular, draws=4, seed=1)
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
    result = consistency(predict, dot(1000), np.zeros(1000, int), reach=1, draws=5)
    assert result.agreement == pytest.approx(5 / 9, abs=0.03)  # standard error 0.007
    assert result.accuracy == pytest.approx(1 / 3, abs=0.03)  # the middle, row 6, is even


def test_every_arm_sees_the_same_shifts():
    shown = []
    predict = lambda images: (shown.append(images), certain([np.zeros(len(images), int)]))[1]
    for seed in (0, 0, 1):
        consistency(predict, noise(8), np.zeros(8), reach=2, draws=2, seed=seed)
    first, again, other = (np.stack(shown[start : start + 4]) for start in (0, 4, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first[0] != first[1]).any() and (first[0] != first[2]).any()


def test_constant_and_invariant_predictors():
    images = noise(40)
    labels = np.arange(40) % 10
    constant = consistency(lambda shown: certain([np.full(len(shown), 3)]), images, labels)
    assert (constant.agreement, constant.stability, constant.accuracy) == (1, 0.1, 0.1)
    total = lambda shown: certain([shown.sum((1, 2, 3), dtype=int) % 10])
    assert consistency(total, images, labels, circular=True).agreement == 1
    assert consistency(total, images, labels, circular=False).agreement < 0.5  # what is cut off changes the sum
    within = shift_map(total, images, labels, reach=2, circular=True)
    assert within.changed == 0 and within.jaggedness == 0 and within.diagonal_sd == 0


@pytest.mark.parametrize("circular", [False, True])
def test_shift_map_against_loops(circular):
    images, reach = noise(9), 2
    labels = np.arange(9) % 3
    result = shift_map(linear, images, labels, reach, circular)
    side = range(-reach, reach + 1)
    answers = {}
    for down in side:
        for right in side:
            copies = np.stack([moved(image, down, right, circular) for image in images])
            answers[down, right] = linear(copies)
    for seed in (0, 1):
        truth = {cell: [answer[seed][i][labels[i]] for i in range(9)] for cell, answer in answers.items()}
        choice = {cell: answer[seed].argmax(-1) for cell, answer in answers.items()}
        for (down, right), chosen in choice.items():
            cell = seed, reach + down, reach + right
            assert result.accuracy[cell] == pytest.approx(np.mean(chosen == labels))
            assert result.probability[cell] == pytest.approx(np.mean(truth[down, right]))
        for step in range(reach + 1):
            assert result.diagonal_accuracy[seed, step] == pytest.approx(np.mean(choice[step, step] == labels))
            assert result.diagonal_probability[seed, step] == pytest.approx(np.mean(truth[step, step]))
        along = [np.std([truth[step, step][i] for step in range(reach + 1)]) for i in range(9)]
        assert result.diagonal_sd[seed] == pytest.approx(np.mean(along))
        pairs = [(a, b) for a in choice for b in choice if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]
        assert result.changed[seed] == pytest.approx(np.mean([choice[a] != choice[b] for a, b in pairs]))
        differences = [np.abs(np.subtract(truth[a], truth[b])) for a, b in pairs]
        assert result.jaggedness[seed] == pytest.approx(np.mean(differences), rel=1e-5)
    assert 0 < result.changed.min() and result.accuracy.std() > 0  # there was something to see


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

    result = border_distance(predict, images, labels, reach=2)
    assert result.images == 10
    np.testing.assert_allclose(result.accuracy, [[0.4, 0.3, 0.3], [0.4, 0.4, 0.4]])


def test_border_distance_visits_the_four_sides():
    """From anywhere, in exactly one direction at a time."""
    images, seen = np.zeros((3, 8, 9, 1), np.uint8), []
    starts = [(0, 0), (5, 8), (3, 4)]
    for image, start in zip(images, starts):
        image[start] = 255
    predict = lambda shown: (seen.append(np.stack(place(shown), 1).tolist()), certain([[0, 0, 0]]))[1]
    border_distance(predict, images, np.zeros(3, int), reach=1)
    expected = []
    for d in (0, 1):
        expected += [[[d, c] for _, c in starts], [[7 - d, c] for _, c in starts]]
        expected += [[[r, d] for r, _ in starts], [[r, 8 - d] for r, _ in starts]]
    assert seen == expected


def test_border_distance_needs_an_object():
    for images, reach in ((noise(3), 1), (np.zeros((3, 6, 6, 1), np.uint8), 0)):
        with pytest.raises(UserError, match=f"no image has an object on black with {reach} pixels to spare"):
            border_distance(linear, images, np.zeros(3, int), reach)


def test_a_seed_that_diverged_has_no_figures():
    broken = lambda images: np.where(np.array([True, False])[:, None, None], linear(images), np.nan)
    images = noise(5)
    images[:, 0] = images[:, -1] = images[:, :, 0] = images[:, :, -1] = 0
    labels = np.arange(5) % 3
    results = [
        (consistency(one, images, labels), shift_map(one, images, labels, 1), border_distance(one, images, labels, 1))
        for one in (broken, linear)
    ]
    for broken, sound in zip(*results):
        for field in dataclasses.fields(broken):
            value, expected = getattr(broken, field.name), getattr(sound, field.name)
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value[0], expected[0])
                assert np.isfinite(expected).all() and np.isnan(value[1]).all(), field.name


def test_protocols_name_what_was_done():
    images, labels = dot(4), np.zeros(4, int)
    text = consistency(constant_zero, images, labels, reach=3, circular=True, draws=2).protocol
    assert "circular" in text and "-3 to 3" in text and "2 pairs" in text
    assert "in black of -1 to 1 pixels" in shift_map(constant_zero, images, labels, 1).protocol
    assert border_distance(constant_zero, images, labels, 2).protocol.startswith("4 test images")


def constant_zero(images):
    return certain([np.zeros(len(images), int)])
