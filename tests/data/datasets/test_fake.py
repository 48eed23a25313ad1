import numpy as np
import pytest

from cnn_jax import config
from cnn_jax.data.datasets import fake, source
from cnn_jax.data.images import placement

DATA = config.Data.of(name="fake", side=32, classes=20, examples=400)


def spectrum(images):
    """Power of each spatial frequency in each colour, with the mean colour: gratings, wherever their phase."""
    power = np.abs(np.fft.fft2(images.astype(np.float32) - 127.5, axes=(1, 2), norm="forward")) ** 2
    features = [power[:, : images.shape[1] // 2 + 1].reshape(len(images), -1), 30 * images.mean((1, 2)) - 30 * 127.5]
    features = np.concatenate(features, 1)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("classes, examples, side", [(10, 200, 28), (100, 600, 48)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_classes_can_be_told_apart_on_other_images(classes, examples, side, mirrored):
    data = DATA.changed(classes=classes, examples=examples, side=side)
    train, test = source.load(data, "train"), source.load(data, "test")
    seen = np.concatenate([train.images, train.images[:, :, ::-1]]) if mirrored else train.images
    labels = np.tile(train.labels, 1 + mirrored)
    features = spectrum(seen)
    means = np.stack([features[labels == label].mean(0) for label in range(classes)])
    likeness = spectrum(test.images) @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    assert np.mean(likeness.argmax(1) == test.labels) > 0.95


def test_an_image_depends_on_split_and_index_only():
    few, many = source.load(DATA, "train"), source.load(DATA.changed(examples=800), "train")
    np.testing.assert_array_equal(few.images, many.images[:400])
    test = source.load(DATA, "test")
    assert len(test.labels) == 80 and not np.array_equal(test.images, few.images[:80])
    assert len({image.tobytes() for image in [*many.images, *test.images]}) == 880


def test_never_changes():
    # Results are comparable only while these are the same; a cosine's last digit may move a level between machines.
    np.testing.assert_allclose(fake.draw(0, 3, 7, 16)[0, :4, 0].astype(int), [175, 105, 74, 106], atol=1)
    np.testing.assert_allclose(fake.draw(1, 3, 7, 16)[0, :4, 0].astype(int), [102, 175, 122, 97], atol=1)


def test_placements_agree_and_auto_goes_by_size(monkeypatch):
    arrays = source.load(DATA.changed(placement="host"), "train")
    streamed = source.load(DATA.changed(placement="stream"), "train")
    assert isinstance(arrays.images, np.ndarray) and (arrays.where, streamed.where) == ("memory", "stream")
    np.testing.assert_array_equal(streamed.images[:], arrays.images)
    np.testing.assert_array_equal(streamed.labels, arrays.labels)
    assert source.load(DATA, "train").where == "memory"
    monkeypatch.setattr(placement, "DEVICE_BYTES", arrays.images.nbytes - 1)
    large = source.load(DATA, "train")
    assert large.where == "stream" and large.reason.startswith("auto: more than 1.2 MB decoded")


def test_validation_and_limit_hold_for_generated_images():
    data = DATA.changed(validation=40, placement="stream")
    train, validation = source.load(data, "train"), source.load(data, "validation")
    np.testing.assert_array_equal(np.bincount(validation.labels), [2] * 20)
    whole = source.load(DATA, "train")
    parts = {image.tobytes() for image in [*train.images[:], *validation.images[:]]}
    assert len(train.labels) == 360 and parts == {image.tobytes() for image in whole.images}
    few = source.load(data.changed(limit=7), "train")
    np.testing.assert_array_equal(few.images[:], train.images[train.sample(7)])


def test_nothing_has_to_be_prepared():
    assert source.of(DATA).is_prepared()
    assert source.prepare(DATA) == "fake needs no preparation: 400 train and 80 test examples"
