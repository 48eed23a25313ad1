"""Corruptions and adversarial images, against independent computations."""

import io

import jax
import numpy as np
import pytest
import tiny_training
from PIL import Image
from tiny_measuring import certain, context, noise

from cnn_jax.config import overrides
from cnn_jax.studies.measurements import corruptions, fgsm
from cnn_jax.studies.measurements.corruptions import KINDS, corrupted
from cnn_jax.training.learner import Learner
from cnn_jax.training.step import example_losses, prepare_images

GREY = np.full((400, 12, 12, 1), 128, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_severity_moves_images_further(kind, channels):
    """Uint8 of the same shape, the same every time, and worse with every severity."""
    images = np.repeat(noise(20, side=14, low=60)[..., :1] // 2, channels, axis=3)
    distances = []
    for severity in range(1, 6):
        found = corrupted(images, kind, severity)
        assert found.shape == images.shape and found.dtype == np.uint8
        np.testing.assert_array_equal(found, corrupted(images, kind, severity))
        distances.append(np.abs(found.astype(float) - images).mean())
    assert distances[0] > 0
    if kind not in ("rotation", "translation"):  # of noise, any move is as far
        assert distances == sorted(distances)


def test_noise_and_shot_noise_have_their_spread():
    assert corrupted(GREY, "noise", 2).astype(float).std() == pytest.approx(25.5, rel=0.02)
    photons = 25 * 128 / 255
    found = corrupted(GREY, "shot", 2).astype(float)
    assert found.mean() == pytest.approx(128, rel=0.02)
    assert found.std() == pytest.approx(np.sqrt(photons) / 25 * 255, rel=0.02)


def test_contrast_brightness_and_jpeg_by_hand():
    images = noise(3, side=16)[..., :1]
    for image, ours in zip(images.astype(float), corrupted(images, "contrast", 2)):
        np.testing.assert_allclose(ours, np.rint(0.5 * image + 0.5 * image.mean()), atol=1)
    np.testing.assert_array_equal(corrupted(images, "brightness", 1), np.minimum(np.rint(images + 25.5), 255))
    file = io.BytesIO()
    Image.fromarray(images[0, ..., 0]).save(file, "jpeg", quality=10)
    np.testing.assert_array_equal(corrupted(images, "jpeg", 4)[0, ..., 0], np.asarray(Image.open(file)))


def test_rotation_and_translation_move_a_dot():
    image = np.zeros((200, 21, 21, 1), np.uint8)
    image[:, 10, 18] = 255
    turned = corrupted(image, "rotation", 5)[..., 0].reshape(200, -1)
    angles = set()
    for each in turned:
        row, column = np.unravel_index(each.argmax(), (21, 21))
        angles.add(round(np.degrees(np.arctan2(row - 10, column - 10)) / 10) * 10)
    assert angles == {-50, 50}
    moved = corrupted(image, "translation", 1)[..., 0]
    places = {tuple(map(int, np.unravel_index(each.argmax(), (21, 21)))) for each in moved}
    assert places == {(9, 17), (9, 19), (11, 17), (11, 19)}


def test_spatter_covers_its_share():
    covered = corrupted(np.zeros((50, 28, 28, 3), np.uint8), "spatter", 4) == 200
    assert covered.mean() == pytest.approx(0.2, abs=0.01)
    assert covered.all(-1).mean() == covered.mean()  # whole pixels


def test_accuracy_is_by_kind_and_severity():
    """A network that sees how bright an image is, and is right as long as that stays."""
    images, labels = np.full((10, 8, 8, 1), 100, np.uint8), np.ones(10, int)
    predict = lambda shown: certain([(np.abs(shown.mean((1, 2, 3)) - 100) < 60).astype(int)])
    found = corruptions.MEASUREMENT.measure(context(images, labels, predict=predict))
    assert found.accuracy.shape == (1, len(KINDS), 5) and found.clean == [1.0]
    by_kind = dict(zip(KINDS, found.accuracy[0]))
    np.testing.assert_array_equal(by_kind["brightness"], [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(by_kind["contrast"], np.ones(5))
    columns = {column.name: column.take(found)[0] for column in corruptions.MEASUREMENT.columns}
    assert columns["corrupted_brightness"] == pytest.approx(0.4)
    assert columns["corrupted_accuracy"] == pytest.approx(found.accuracy.mean())


@pytest.mark.parametrize("seeds", [[3], [3, 4]])
@pytest.mark.usefixtures("quick_compile")
def test_uphill_is_where_the_loss_grows(seeds):
    """Signs of central differences of the loss, pixel by pixel, and of each network its own."""
    settings = overrides.apply(tiny_training.RECIPE, [tiny_training.SMOOTH, *tiny_training.PLAIN])
    learner = Learner(settings, seeds, facts=None)
    variables = learner.initial().evaluated
    data = tiny_training.dataset("validation")
    images, labels = data.images[:3], data.labels[:3]
    signs = learner.uphill(variables, images, labels)
    assert signs.shape == (len(seeds), *images.shape) and signs.dtype == np.int8

    def losses(variables, pixels):
        logits, *_ = learner.network(variables, prepare_images(learner.settings, pixels))
        return example_losses(learner.settings, logits, jax.nn.one_hot(labels, learner.classes))

    losses = jax.jit(losses)
    for k, own in enumerate([variables] if len(seeds) == 1 else learner.each(variables)):
        for row, column in ((5, 5), (12, 14), (20, 9)):
            step = np.zeros(images.shape, np.float32)
            step[:, row, column] = 2.0
            slope = np.asarray(losses(own, images + step)) - np.asarray(losses(own, images - step))
            sure = np.abs(slope) > 1e-5
            np.testing.assert_array_equal(signs[k, sure, row, column, 0], np.sign(slope[sure]))
            assert sure.any()


def test_each_network_is_attacked_with_its_own_images():
    """Two networks that read the brightness of a corner each, and a step that crosses their thresholds or does not."""
    images, labels = np.full((4, 6, 6, 1), 120, np.uint8), np.ones(4, int)
    corners = (0, 0), (5, 5)
    predict = lambda shown: certain([(shown[:, i, j, 0] > 115).astype(int) for i, j in corners])

    def uphill(images, labels):
        signs = np.zeros((2, *images.shape), np.int8)
        for k, (i, j) in enumerate(corners):
            signs[k, :, i, j] = -1
        return signs

    ask = lambda epsilon: context(images, labels, predict=predict, uphill=uphill, epsilon=epsilon)
    crossed, stayed = (fgsm.MEASUREMENT.measure(ask(epsilon)) for epsilon in (8, 4))
    np.testing.assert_array_equal(crossed.accuracy, [0, 0])
    np.testing.assert_array_equal(stayed.accuracy, [1, 1])
    np.testing.assert_array_equal(crossed.clean, [1, 1])
    assert "8 of 255 grey levels" in fgsm.MEASUREMENT.protocol(crossed)
