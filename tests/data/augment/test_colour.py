"""Changes of colour against NumPy, Pillow and colorsys, and the distributions they promise."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image, ImageEnhance

from cnn_jax import config
from cnn_jax.data.augment import colour
from cnn_jax.data.augment import transforms as augmentation
from cnn_jax.data.augment.transforms import augment
from cnn_jax.training.step import prepare_images

pytestmark = pytest.mark.usefixtures("quick_compile")

FOUR = config.Augment(brightness=0.4, contrast=0.5, saturation=0.6, hue=0.3)


def noise(count, height=9, width=7):
    """Bytes of every sort: greys, black and white, and pure colours among them."""
    images = np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    images[:, 0], images[:, 1, :, 1:] = images[:, 0, :, :1], 0
    images[:, 2, 0], images[:, 2, 1] = 0, 255
    return images


def keys(count, seed=0):
    """Keys from NumPy: jax.random.split would be compiled anew for every count."""
    return jax.random.wrap_key_data(np.random.default_rng(seed).integers(0, 2**32, (count, 2), dtype=np.uint32))


@functools.partial(jax.jit, static_argnames="settings")
def jitted(images, keys, settings):
    return augment(images, keys, settings)


def planes(image):
    return jnp.moveaxis(jnp.asarray(image, jnp.float32), -1, 0)


def image_of(planes):
    return np.moveaxis(np.asarray(planes), 0, -1)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize(
    "change, theirs",
    [
        (lambda p, f: colour.blend(p, 0.0, f), ImageEnhance.Brightness),
        (lambda p, f: colour.blend(p, jnp.mean(colour.grey(p)), f), ImageEnhance.Contrast),
        (lambda p, f: colour.blend(p, colour.grey(p), f), ImageEnhance.Color),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_changes_are_pillows_but_for_its_rounding(change, theirs, factor):
    image = noise(1)[0]
    expected = np.asarray(theirs(Image.fromarray(image)).enhance(factor), np.float32)
    np.testing.assert_allclose(image_of(change(planes(image), factor)), expected, atol=1.6)


def turned(image, turn):
    """The reference: pixel by pixel."""
    out = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[place] / 255))
        out[place] = 255 * np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))
    return out


@pytest.mark.parametrize("turn", [-0.5, -0.21, 0.0, 1 / 6, 0.4, 0.5])
def test_hue_is_turned_as_in_colorsys(turn):
    image = noise(1)[0]
    np.testing.assert_allclose(image_of(colour.turn_hue(planes(image), turn)), turned(image, turn), atol=1e-2)


def reference(image, key, settings):
    """The four changes in NumPy, in their order, with the factors that the key gives."""
    names = augmentation.PURPOSES
    draw = dict(zip(names, np.asarray(jax.random.uniform(key, (len(names),)), np.float64), strict=True))
    spread = {name: (2 * draw[name] - 1) * getattr(settings, name) for name in names[-4:]}
    grey = lambda pixels: pixels @ np.array([0.2989, 0.587, 0.114])
    mixed = lambda pixels, other, change: np.clip((1 + change) * pixels - change * other, 0, 255)
    image = mixed(image.astype(np.float64), 0, spread["brightness"])
    image = mixed(image, grey(image).mean(), spread["contrast"])
    image = mixed(image, grey(image)[..., None], spread["saturation"])
    return turned(image, spread["hue"])


def test_all_four_follow_one_another_in_a_fixed_order():
    images = noise(6)
    out = np.asarray(jitted(images, keys(6), FOUR))
    expected = [reference(*each, FOUR) for each in zip(images, keys(6), strict=True)]
    np.testing.assert_allclose(out, expected, atol=2e-2)
    assert out.min() >= 0 and out.max() <= 255


def test_factors_fill_their_ranges():
    count = 500
    column = lambda *pixels: np.tile(np.asarray(pixels, np.float32)[:, None], (count, 1, 1, 1))
    middle = 90 + 20 * 0.9999  # the mean grey of 90 and 130, with weights that sum to 0.9999
    out = np.asarray(jitted(column((100, 80, 60)), keys(count), config.Augment(brightness=0.5)))
    factors = {"brightness": out[:, 0, 0, 0] / 100}
    out = np.asarray(jitted(column((90,) * 3, (130,) * 3), keys(count), config.Augment(contrast=0.5)))
    factors["contrast"] = (out[:, 1, 0, 0] - out[:, 0, 0, 0]) / 40
    assert abs(out.mean() - middle) < 0.1
    out = np.asarray(jitted(column((110, 100, 90)), keys(count), config.Augment(saturation=0.5)))
    factors["saturation"] = (out[:, 0, 0, 0] - out[:, 0, 0, 2]) / 20
    for name, values in factors.items():
        assert scipy.stats.kstest(values, "uniform", (0.5, 1)).pvalue > 0.01, name
    out = np.asarray(jitted(column((150, 50, 50)), keys(count), config.Augment(hue=0.5)))[:, 0, 0]
    turns = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in out / 255]
    assert scipy.stats.kstest(turns, "uniform").pvalue > 0.01
    series = np.array([*factors.values(), turns])
    np.testing.assert_allclose(np.corrcoef(series), np.eye(4), atol=0.15)


def test_colour_noise_lies_along_the_components_and_is_not_clipped():
    components = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    count = 3000
    images = np.tile(np.asarray([[[0, 128, 255]], [[255, 255, 255]]], np.uint8), (count, 1, 1, 1))
    out = np.asarray(jitted(images, keys(count), config.Augment(pca=0.1)), np.float64)
    added = out - images
    np.testing.assert_allclose(added[:, 0], added[:, 1], atol=1e-4)  # one draw for the image
    assert out.min() < -1 and out.max() > 256
    amounts = np.linalg.solve(components, added[:, 0, 0].T / 255) / np.array([[0.2175], [0.0188], [0.0045]])
    for values in amounts:
        assert scipy.stats.kstest(values / 0.1, "norm").pvalue > 0.01
    np.testing.assert_allclose(np.corrcoef(amounts), np.eye(3), atol=0.06)


def test_both_readings_of_the_colour_noise():
    """By hand: the same draws, times the eigenvalues or their square roots; and, as in 2012, a smaller image after."""
    components = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    eigenvalues = np.array([0.2175, 0.0188, 0.0045])
    images, amounts = noise(16), {}
    for reading, factors in (("community", eigenvalues), ("2012", eigenvalues**0.5)):
        added = np.asarray(jitted(images, keys(16), config.Augment(pca=0.1, pca_reading=reading))) - images
        amounts[reading] = np.linalg.solve(components, added[:, 0, 0].T / 255) / factors[:, None]
    np.testing.assert_allclose(amounts["2012"], amounts["community"], atol=1e-3)
    data = config.Data.of(name="fake", side=8, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0), high=255.0)
    augment = config.Augment(pca=0.1, pca_reading="2012")
    settings = config.Config(data=data, augment=augment)
    recoloured = np.asarray(jitted(images, keys(16), augment))
    expected = (recoloured - np.array([120, 110, 100])) / np.array([50, 60, 70]) / 1.1
    np.testing.assert_allclose(prepare_images(settings, jnp.asarray(images), keys(16)), expected, atol=1e-4)
    plain = (np.asarray(images, np.float32) - np.array([120, 110, 100])) / np.array([50, 60, 70])
    np.testing.assert_allclose(prepare_images(settings, jnp.asarray(images)), plain, atol=1e-5)


def test_colour_noise_has_draws_of_its_own():
    images = noise(8)
    four = np.asarray(jitted(images, keys(8), FOUR))
    added = np.asarray(jitted(images, keys(8), config.Augment(pca=0.1))) - images
    both = jitted(images, keys(8), config.Augment(brightness=0.4, contrast=0.5, saturation=0.6, hue=0.3, pca=0.1))
    np.testing.assert_allclose(both, four + added, atol=1e-2)


def test_images_without_three_channels_are_refused():
    with pytest.raises(ValueError, match="images of 3 channels, not 1"):
        augment(jnp.zeros((2, 4, 4, 1)), keys(2), config.Augment(hue=0.1))
