"""Padding, pooling, convolution and augmentation of a reader's own images, against NumPy."""

import numpy as np
import pytest
import reference

import cnn_jax


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), np.uint8)


@pytest.mark.parametrize("kind, reduce", [("max", np.max), ("average", np.mean), ("min", np.min)])
def test_pool_is_a_loop_over_windows(images, kind, reduce):
    found = cnn_jax.pool(images, kind, window=3, stride=2)
    for y in range(4):
        for x in range(3):
            window = images[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            np.testing.assert_allclose(found[:, y, x], reduce(window, axis=(1, 2)), rtol=1e-6)
    assert found.shape == (2, 4, 3, 3)


def test_axes_stay(images):
    whole = cnn_jax.pool(images)
    np.testing.assert_array_equal(cnn_jax.pool(images[0]), whole[0])
    np.testing.assert_array_equal(cnn_jax.pool(images[0, :, :, 1]), whole[0, :, :, 1])
    assert cnn_jax.pool(images, window=0).shape == (2, 1, 1, 3)


@pytest.mark.parametrize("fill, mode", reference.FILLS.items())
def test_pad_is_numpys(images, fill, mode):
    found = cnn_jax.pad(images[0], "1,2,0,3", fill)
    np.testing.assert_array_equal(found, np.pad(images[0], ((1, 2), (0, 3), (0, 0)), mode))


def test_same_goes_by_window_and_stride():
    assert cnn_jax.pad(np.zeros((28, 28)), "same", window=3, stride=2).shape == (29, 29)
    assert cnn_jax.pad(np.zeros((28, 28)), "same", window=5).shape == (32, 32)


def test_convolve_is_a_loop(images):
    kernel = np.arange(6.0).reshape(2, 3)
    found = cnn_jax.convolve(images, kernel, stride=2)
    for y in range(found.shape[1]):
        for x in range(found.shape[2]):
            window = images[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 3].astype(float)
            np.testing.assert_allclose(found[:, y, x], (window * kernel[:, :, None]).sum((1, 2)), rtol=1e-5)


def test_augment_is_what_training_does():
    """Crops are pieces of the image; the same seed draws the same; nothing switched on changes nothing."""
    image = np.random.default_rng(1).integers(0, 256, (1, 40, 40, 3), np.uint8)
    settings = cnn_jax.settings("alexnet_cifar10")
    found = cnn_jax.augment(np.repeat(image, 8, 0), settings, seed=3)
    assert found.shape == (8, 32, 32, 3) and len({each.tobytes() for each in found}) > 4
    np.testing.assert_array_equal(found, cnn_jax.augment(np.repeat(image, 8, 0), settings, seed=3))
    pieces = [image[0, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    known = {side.tobytes() for piece in pieces for side in (piece, piece[:, ::-1])}
    assert all(each.tobytes() in known for each in found)
    still = cnn_jax.settings("lenet_digits", "augment.shift=0", "augment.rotation=0", "augment.scale=0")
    grey = image[:, :28, :28, :1]
    np.testing.assert_array_equal(cnn_jax.augment(grey, still), grey)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda x: cnn_jax.pool(x, "mx"), "kind = 'mx' must be one of max"),
        (lambda x: cnn_jax.pool(x, window=99), "the window does not fit"),
        (lambda x: cnn_jax.pool(x, "lp", q=2), "unknown settings q"),
        (lambda x: cnn_jax.pool(x, "strided"), "is no pooling"),
        (lambda x: cnn_jax.pool([1, 2]), "not int64"),
        (lambda x: cnn_jax.pad(x, "1,2,3"), "must be 'valid'"),
        (lambda x: cnn_jax.pad(x, 2, "random"), "pads with zeros"),
        (lambda x: cnn_jax.convolve(x, np.ones(3)), "must be [height, width]"),
        (lambda x: cnn_jax.augment(x, cnn_jax.settings("alexnet_imagenet")), "must be uint8 [N"),
        (lambda x: cnn_jax.show([]), "pictures must be"),
        (lambda x: cnn_jax.show([x], ["a", "b"]), "2 titles and 1 pictures"),
    ],
)
def test_what_cannot_be_done_is_said(call, said):
    with pytest.raises(cnn_jax.UserError) as caught:
        call(np.zeros((6, 6)))
    assert said in str(caught.value)


def test_show_draws_each_picture(images):
    figure = cnn_jax.show([images[0], images[1, :, :, 0]], ["one", "two"])
    drawn = [axes.get_images()[0].get_array() for axes in figure.axes]
    np.testing.assert_array_equal(drawn[0], images[0])
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
