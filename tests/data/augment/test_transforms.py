"""Augmentation against NumPy, SciPy and Pillow, and what the draws promise."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from PIL import Image

from cnn_jax import config
from cnn_jax.data.augment import transforms as augmentation
from cnn_jax.data.augment.transforms import augment, normalise, to_canvas

pytestmark = pytest.mark.usefixtures("quick_compile")

WHOLE_PIXELS = config.Augment(shift=3, flip=True)
EVERYTHING = config.Augment(shift=3, flip=True, rotation=25.0, scale=0.2, shear=0.3)


def noise(count, height=12, width=12, channels=1, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width, channels))
    return jnp.asarray(pixels, jnp.float32)


def keys(count, seed=0):
    """Keys from NumPy: jax.random.split would be compiled anew for every count."""
    return jax.random.wrap_key_data(np.random.default_rng(seed).integers(0, 2**32, (count, 2), dtype=np.uint32))


@functools.partial(jax.jit, static_argnames="settings")
def jitted(images, keys, settings):
    return augment(images, keys, settings)


def shifted(image, down, right):
    """The reference: pixel by pixel, black where nothing comes from."""
    out = np.zeros_like(image)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            source = (row - down, column - right)
            if 0 <= source[0] < image.shape[0] and 0 <= source[1] < image.shape[1]:
                out[row, column] = image[source]
    return out


def uniform(values, low, high):
    """Whether the values fill [low, high] evenly; the seeds are fixed, so the answer is too."""
    assert min(values) >= low - 1e-3 * (high - low)
    assert max(values) <= high + 1e-3 * (high - low)
    return scipy.stats.kstest(values, "uniform", (low, high - low)).pvalue > 0.01


def test_all_off_is_no_operation():
    images = noise(2)
    assert augment(images, keys(2), config.Augment()) is images


@pytest.mark.parametrize("reach", [1, 2])
def test_shift_moves_whole_pixels_and_fills_with_black(reach):
    count = 600
    image = np.asarray(noise(1, 9, 7, 2)[0])
    moves = [(down, right) for down in range(-reach, reach + 1) for right in range(-reach, reach + 1)]
    possible = {shifted(image, *move).tobytes(): move for move in moves}
    out = np.asarray(jitted(jnp.tile(image, (count, 1, 1, 1)), keys(count), config.Augment(shift=reach)))
    found = [possible[one.tobytes()] for one in out]  # KeyError: not a shift of the image, or too far
    counts = [found.count(move) for move in moves]
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_a_shift_larger_than_the_image_leaves_black():
    out = np.asarray(jitted(noise(200, 4, 4), keys(200), config.Augment(shift=30)))
    assert np.mean(np.all(out == 0, axis=(1, 2, 3))) > 0.9


def test_flip_mirrors_every_other_image():
    images = np.asarray(noise(400, 5, 6, 3))
    out = np.asarray(jitted(images, keys(400), config.Augment(flip=True)))
    mirrored = np.all(out == images[:, :, ::-1], axis=(1, 2, 3))
    kept = np.all(out == images, axis=(1, 2, 3))
    assert np.all(mirrored ^ kept)
    assert scipy.stats.binomtest(int(mirrored.sum()), 400).pvalue > 0.01


def scipy_reference(image, key, settings):
    """Mirror, shear, rotation, factor, shift: forward matrices on (row, column), whose inverse SciPy is given."""
    names = augmentation.PURPOSES
    draw = dict(zip(names, np.asarray(jax.random.uniform(key, (len(names),)), np.float64), strict=True))
    angle = math.radians(settings.rotation) * (2 * draw["rotation"] - 1)
    factor = 1 + settings.scale * (2 * draw["scale"] - 1)
    shear = np.array([[1, 0], [settings.shear * (2 * draw["shear"] - 1), 1]])
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(factor * rotation @ shear)
    move = np.floor(np.array([draw["rows"], draw["columns"]]) * (2 * settings.shift + 1)) - settings.shift
    centre = (np.array(image.shape[:2]) - 1) / 2
    if settings.flip and draw["flip"] < 0.5:
        image = image[:, ::-1]
    geometry = {"matrix": inverse, "offset": centre - inverse @ (centre + move)}
    channels = np.moveaxis(image.astype(np.float64), -1, 0)
    warped = [scipy.ndimage.affine_transform(plane, **geometry, order=1, mode="grid-constant") for plane in channels]
    return np.stack(warped, axis=-1)


@pytest.mark.parametrize(
    "settings, shape",
    [
        (config.Augment(rotation=40.0), (11, 14, 3)),
        (config.Augment(scale=0.3), (11, 14, 3)),
        (config.Augment(shear=0.5), (11, 14, 3)),
        (config.Augment(shift=2, scale=0.1), (11, 14, 3)),
        (EVERYTHING, (11, 14, 3)),
        (EVERYTHING, (12, 12, 1)),
    ],
    ids=["rotation", "scale", "shear", "shift and scale", "everything", "everything, square"],
)
def test_warp_is_scipys_affine_transform(settings, shape):
    images = noise(8, *shape)
    out = np.asarray(jitted(images, keys(8), settings))
    for image, key, ours in zip(np.asarray(images), keys(8), out, strict=True):
        np.testing.assert_allclose(ours, scipy_reference(image, key, settings), atol=0.02)  # of 255


def test_positive_angles_turn_as_in_pillow():
    blob = np.zeros((21, 21), np.float32)
    blob[6:15, 8:17] = np.asarray(noise(1, 9, 9)[0, ..., 0])
    key = jax.random.key(5)
    draw = float(jax.random.uniform(key, (6,))[augmentation.PURPOSES.index("rotation")])
    theirs = Image.fromarray(blob).rotate(30 * (2 * draw - 1), resample=Image.Resampling.BILINEAR)
    ours = jitted(jnp.asarray(blob)[None, ..., None], key[None], config.Augment(rotation=30.0))
    assert abs(draw - 0.5) > 0.1
    np.testing.assert_allclose(np.asarray(ours)[0, ..., 0], np.asarray(theirs), atol=0.1)


def spot_positions(settings, row, column, count=500, side=41):
    """Where a round spot, `row` below and `column` right of the centre, ends up; measured by its centre of mass."""
    axis = np.arange(side) - (side - 1) / 2
    spot = 255 * np.exp(-((axis[:, None] - row) ** 2 + (axis[None, :] - column) ** 2) / 8)
    images = jnp.tile(jnp.asarray(spot, jnp.float32)[:, :, None], (count, 1, 1, 1))
    out = np.asarray(jitted(images, keys(count), settings))[..., 0]
    mass = out.sum((1, 2))
    return (out.sum(2) @ axis) / mass, (out.sum(1) @ axis) / mass


def test_rotation_fills_its_range():
    down, right = spot_positions(config.Augment(rotation=30.0), 0, 10)
    assert uniform(np.degrees(np.arctan2(-down, right)), -30, 30)
    np.testing.assert_allclose(np.hypot(down, right), 10, atol=0.1)


def test_scale_fills_its_range_with_one_factor_for_both_axes():
    down, right = spot_positions(config.Augment(scale=0.3), 6, 8)
    assert uniform(right / 8, 0.7, 1.3)
    np.testing.assert_allclose(down / 6, right / 8, atol=0.01)


def test_shear_fills_its_range_and_keeps_rows():
    down, right = spot_positions(config.Augment(shear=0.5), 10, 0)
    assert uniform(right / 10, -0.5, 0.5)
    np.testing.assert_allclose(down, 10, atol=0.02)


def test_one_change_does_not_alter_the_draws_of_another():
    down, right = spot_positions(config.Augment(rotation=30.0), 0, 10)
    down_too, right_too = spot_positions(config.Augment(rotation=30.0, scale=0.3), 0, 10)
    np.testing.assert_allclose(np.arctan2(down, right), np.arctan2(down_too, right_too), atol=0.01)
    symmetric = noise(16)
    symmetric = symmetric + symmetric[:, :, ::-1]
    alone = jitted(symmetric, keys(16), config.Augment(shift=3))
    np.testing.assert_array_equal(alone, jitted(symmetric, keys(16), WHOLE_PIXELS))


@pytest.mark.parametrize("settings", [WHOLE_PIXELS, EVERYTHING], ids=["whole pixels", "everything"])
def test_an_example_depends_on_its_own_key_only(settings):
    images, some = noise(16), np.array([11, 3, 4])
    whole = jitted(images, keys(16), settings)
    np.testing.assert_allclose(jitted(images[some], keys(16)[some], settings), whole[some], atol=1e-3)
    assert not np.array_equal(jitted(images, keys(16, seed=1), settings), whole)


@pytest.mark.parametrize("settings", [WHOLE_PIXELS, EVERYTHING], ids=["whole pixels", "everything"])
def test_vmap_over_seeds_changes_nothing(settings):
    images, all_keys = noise(16), keys(16)
    over_seeds = jax.vmap(lambda i, k: jitted(i, k, settings))
    stacked = over_seeds(images.reshape(2, 8, 12, 12, 1), all_keys.reshape(2, 8))
    np.testing.assert_allclose(stacked.reshape(images.shape), jitted(images, all_keys, settings), atol=1e-3)


def test_the_six_draws_of_the_first_runs_stay_as_they_were():
    assert augmentation.PURPOSES[:6] == ("rows", "columns", "flip", "rotation", "scale", "shear")
    key, count = jax.random.key(3), len(augmentation.PURPOSES)
    np.testing.assert_array_equal(jax.random.uniform(key, (count,))[:6], jax.random.uniform(key, (6,)))


@pytest.mark.parametrize("settings", [WHOLE_PIXELS, EVERYTHING], ids=["whole pixels", "everything"])
def test_stored_bytes_give_what_their_floats_give(settings):
    images = noise(8)
    out = jitted(images.astype(jnp.uint8), keys(8), settings)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, jitted(images, keys(8), settings), atol=1e-3)


def test_canvas_centres_with_the_odd_pixel_below_and_right():
    images = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 4, 1)
    expected = np.zeros((1, 6, 6, 1), np.uint8)
    expected[0, 1:4, 1:5] = images[0]
    canvas = to_canvas(jnp.asarray(images), 6)
    assert canvas.dtype == jnp.uint8
    np.testing.assert_array_equal(canvas, expected)


def test_canvas_of_size_zero_keeps_the_images():
    images = noise(2, 3, 4)
    assert to_canvas(images, 0) is images


def test_canvas_refuses_to_cut():
    with pytest.raises(ValueError, match="side 11 is smaller than the images, 12x12"):
        to_canvas(noise(1), 11)


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-0.1, 1.175), (1.0, 0.0)])
def test_normalise_is_linear_from_black_to_white(low, high):
    stored = np.arange(256, dtype=np.uint8)
    out = normalise(jnp.asarray(stored), low, high)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, np.interp(stored, [0, 255], [low, high]), atol=1e-6)
    assert out[0] == np.float32(low)


def test_normalise_subtracts_the_mean_and_divides_by_the_standard_deviation_of_each_channel():
    images = np.asarray(noise(2, 4, 5, 3))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(normalise(images.astype(np.uint8), 0.0, 1.0, mean, std), expected, atol=1e-5)
    expected = images.astype(np.float64) - np.multiply(mean, 255)
    np.testing.assert_allclose(normalise(images, 0.0, 255.0, mean=tuple(np.multiply(mean, 255))), expected, atol=1e-4)
    np.testing.assert_allclose(normalise(images, 0.0, 1.0, std=std), images / 255 / np.asarray(std), atol=1e-5)
