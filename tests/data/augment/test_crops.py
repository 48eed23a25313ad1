"""Crops, random, resized, central and tenfold, against slices, Pillow and the distributions they promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from cnn_jax import config
from cnn_jax.data.augment.transforms import augment, centre_crop, ten_crops

pytestmark = pytest.mark.usefixtures("quick_compile")

HEIGHT, WIDTH, SIDE = 13, 11, 8  # of a canvas with 6 x 4 places for the crop
EVERYTHING = config.Augment(
    shift=2, flip=True, rotation=20.0, scale=0.1, shear=0.2, area=0.3, pca=0.1, brightness=0.4, contrast=0.4,
    saturation=0.4, hue=0.1,
)  # fmt: skip


def noise(count, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def positions(count, height=HEIGHT, width=WIDTH):
    """Images whose pixels say where they are: row, column."""
    image = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
    return np.tile(image.astype(np.float32), (count, 1, 1, 1))


def keys(count, seed=0):
    """Keys from NumPy: jax.random.split would be compiled anew for every count."""
    return jax.random.wrap_key_data(np.random.default_rng(seed).integers(0, 2**32, (count, 2), dtype=np.uint32))


@functools.partial(jax.jit, static_argnames=("settings", "crop"))
def jitted(images, keys, settings, crop):
    return augment(images, keys, settings, crop)


@functools.cache
def all_places():
    return np.asarray(jitted(positions(2400), keys(2400), config.Augment(), SIDE))[:, 0, 0].astype(int)


def places(count):
    """Top and left edge of each random crop."""
    return all_places()[:count].T


def sliced(images, top, left, side=SIDE):
    return np.stack([one[t : t + side, le : le + side] for one, t, le in zip(images, top, left, strict=True)])


def test_random_crops_are_slices_of_the_image():
    images = noise(20)
    out = jitted(images, keys(20), config.Augment(), SIDE)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, sliced(images, *places(20)))


def test_every_place_of_a_random_crop_is_as_likely():
    top, left = places(2400)
    counts = np.zeros((HEIGHT - SIDE + 1, WIDTH - SIDE + 1))
    np.add.at(counts, (top, left), 1)  # IndexError: beyond the last place
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 0.01


def test_random_crops_are_mirrored_every_other_time():
    count, settings = 400, config.Augment(flip=True)
    images = np.concatenate([positions(count), noise(count)], axis=-1)
    out = np.asarray(jitted(images, keys(count), settings, SIDE))
    columns = out[:, 0, :, 1].astype(int)
    mirrored = columns[:, 0] > columns[:, -1]
    assert scipy.stats.binomtest(int(mirrored.sum()), count).pvalue > 0.01
    assert set(columns.min(axis=1)) == set(range(WIDTH - SIDE + 1))
    expected = sliced(images, places(count)[0], columns.min(axis=1))
    np.testing.assert_array_equal(out, np.where(mirrored[:, None, None, None], expected[:, :, ::-1], expected))


@pytest.mark.parametrize(
    "settings",
    [config.Augment(shift=3, flip=True), config.Augment(shift=3, rotation=30.0, scale=0.2, shear=0.3)],
    ids=["whole pixels", "warp"],
)
def test_a_crop_is_cut_out_of_the_moved_image(settings):
    images = noise(20)
    moved = np.asarray(jitted(images, keys(20), settings, 0))
    out = jitted(images, keys(20), settings, SIDE)
    np.testing.assert_allclose(out, sliced(moved, *places(20)), atol=1e-3)


def rectangles(count, height, width, settings, side):
    """Top, left, height and width of each random rectangle, read off resized ramps."""
    ramps = np.asarray(jitted(positions(count, height, width), keys(count), settings, side), np.float64)
    found = []
    for axis, line in enumerate((ramps[:, :, side // 2, 0], ramps[:, side // 2, :, 1])):
        first, last = side // 4, side - 1 - side // 4  # clear of the edges, where the rectangle's last pixel repeats
        extent = (line[:, last] - line[:, first]) / (last - first) * side
        start = line[:, first] - (first + 0.5) * extent / side + 0.5
        for value in (extent, start):
            np.testing.assert_allclose(value, np.round(value), atol=2e-2)
        extent, start = np.round(extent).astype(int), np.round(start).astype(int)
        assert np.all(extent >= 1) and np.all(start >= 0) and np.all(start + extent <= (height, width)[axis])
        found.append((start, extent))
    (top, rows), (left, columns) = found
    return top, left, rows, columns


@pytest.mark.parametrize("side", [12, 50])
def test_random_resized_crops_are_pillows_unfiltered_resize(side):
    count, height, width = 12, 60, 50
    settings = config.Augment(area=0.1, aspect=2.0)
    images = noise(count, height, width)
    out = np.asarray(jitted(images, keys(count), settings, side))
    boxes = zip(*rectangles(count, height, width, settings, side), strict=True)
    for image, ours, (top, left, rows, columns) in zip(images, out, boxes, strict=True):
        for channel in range(3):
            plane = Image.fromarray(image[top : top + rows, left : left + columns, channel].astype(np.float32))
            box = (0, 0, columns, rows)
            theirs = plane.transform((side, side), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
            np.testing.assert_allclose(ours[..., channel], np.asarray(theirs), atol=0.05)


def test_areas_aspect_ratios_and_places_fill_their_ranges():
    height, width, reach = 80, 120, np.log(4 / 3)
    top, left, rows, columns = rectangles(1000, height, width, config.Augment(area=0.1), 24)
    area = rows * columns / (height * width)
    assert scipy.stats.kstest(area, "uniform", (0.1, 0.9)).pvalue > 0.01
    aspect = np.log(columns / rows)
    always_fits = area < 0.5 / (4 / 3) * 1.3
    assert always_fits.sum() > 300
    assert scipy.stats.kstest(aspect[always_fits], "uniform", (-reach, 2 * reach)).pvalue > 0.01
    assert np.all(aspect[~always_fits] > np.log(area[~always_fits] * width / height) - 0.05)  # as high as the image
    for start, room in ((top, height - rows), (left, width - columns)):
        assert scipy.stats.kstest((start + np.random.default_rng(0).random(1000)) / (room + 1), "uniform").pvalue > 0.01


def test_the_whole_area_is_the_whole_image():
    images = noise(3, 12, 12)
    np.testing.assert_array_equal(jitted(images, keys(3), config.Augment(area=1.0), 0), images)
    _, _, rows, columns = rectangles(3, 16, 32, config.Augment(area=1.0, aspect=1.0), 16)
    assert set(rows) == {16} and set(columns) == {32}


def test_resized_crops_are_mirrored_and_shifted_as_any_other():
    images = noise(20)
    mirrored_images = np.concatenate([images, images[:, :, ::-1]], axis=2)  # symmetric: a mirror image changes nothing
    area, both = config.Augment(area=0.5), config.Augment(area=0.5, flip=True)
    alone = jitted(mirrored_images, keys(20), area, SIDE)
    np.testing.assert_allclose(jitted(mirrored_images, keys(20), both, SIDE), alone, atol=1e-3)
    shifted = np.asarray(jitted(images, keys(20), config.Augment(area=1.0, shift=HEIGHT + 30), SIDE))
    assert np.mean(np.all(shifted == 0, axis=(1, 2, 3))) > 0.5


def test_crops_of_everything_depend_on_their_own_key_only():
    images, some = noise(12), np.array([7, 3])
    whole = jitted(images, keys(12), EVERYTHING, SIDE)
    np.testing.assert_allclose(jitted(images[some], keys(12)[some], EVERYTHING, SIDE), whole[some], atol=2e-2)
    over_seeds = jax.vmap(lambda i, k: jitted(i, k, EVERYTHING, SIDE))
    stacked = over_seeds(images.reshape(2, 6, HEIGHT, WIDTH, 3), keys(12).reshape(2, 6))
    np.testing.assert_allclose(stacked.reshape(whole.shape), whole, atol=2e-2)
    assert not np.allclose(jitted(images, keys(12, seed=1), EVERYTHING, SIDE), whole, atol=1)


def test_the_optimised_program_gives_the_same():
    images = noise(12)
    expected = jitted(images, keys(12), EVERYTHING, SIDE)
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        out = jax.jit(lambda i, k: augment(i, k, EVERYTHING, SIDE))(images, keys(12))
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
    np.testing.assert_allclose(out, expected, atol=2e-2)


@pytest.mark.parametrize("side, top, left", [(8, 2, 1), (11, 1, 0), (7, 3, 2)])
def test_centre_crop_leaves_the_odd_pixel_below_and_right(side, top, left):
    images = noise(2)
    out = centre_crop(images, side)
    assert out.dtype == jnp.uint8
    np.testing.assert_array_equal(out, images[:, top : top + side, left : left + side])


def test_centre_crop_of_side_zero_keeps_the_images():
    images = noise(2)
    assert centre_crop(images, 0) is images


def test_ten_crops_are_corners_and_centre_and_their_mirror_images():
    images = noise(3)
    out = np.asarray(ten_crops(images, SIDE))
    assert out.shape == (10, 3, SIDE, SIDE, 3) and out.dtype == np.uint8
    for view, (left, top) in enumerate([(0, 0), (3, 0), (0, 5), (3, 5), (1, 2)]):
        for image, ours, mirrored in zip(images, out[view], out[view + 5], strict=True):
            theirs = Image.fromarray(image).crop((left, top, left + SIDE, top + SIDE))
            np.testing.assert_array_equal(ours, theirs)
            np.testing.assert_array_equal(mirrored, theirs.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    np.testing.assert_array_equal(out[4], centre_crop(images, SIDE))


def test_ten_crops_of_side_zero_are_as_large_as_they_can_be():
    assert ten_crops(noise(1), 0).shape == (10, 1, WIDTH, WIDTH, 3)


@pytest.mark.parametrize("cut", [centre_crop, ten_crops, lambda i, side: augment(i, keys(1), config.Augment(), side)])
def test_crops_larger_than_the_images_are_refused(cut):
    with pytest.raises(ValueError, match="side 12 is larger than the images, 13x11"):
        cut(noise(1), 12)
