import numpy as np
import pytest

from cnn_jax import config
from cnn_jax.data.datasets import red_green, source

DATA = config.Data.of(name="red_green", examples=2000)


def squares(images):
    """First row and column of the red and of the green square, int [N, 2 (red, green), 2]; checks what they are."""
    assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3) and not images[..., 2].any()
    lit = np.moveaxis(images[..., :2], 3, 1) > 0
    rows, columns = lit.any(3), lit.any(2)
    corners = np.stack([rows.argmax(2), columns.argmax(2)], axis=2)
    expected = np.zeros_like(lit)
    for image, colour in np.ndindex(*lit.shape[:2]):
        row, column = corners[image, colour]
        expected[image, colour, row : row + 4, column : column + 4] = True
    np.testing.assert_array_equal(lit, expected)
    assert set(np.unique(images)) == {0, 255}
    return corners


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_class_is_the_order_and_the_height_gives_it_away(split):
    dataset = source.load(DATA, split)
    np.testing.assert_array_equal(dataset.labels, np.arange(2000 if split == "train" else 400) % 2)
    corners = squares(dataset.images)
    columns = corners[:, :, 1]
    names = np.where(columns[:, 0] < columns[:, 1], "red left of green", "green left of red")
    np.testing.assert_array_equal(names, np.array(dataset.class_names)[dataset.labels])
    left, right = columns.min(1), columns.max(1)
    assert set(left) == set(range(10)) and np.all(right >= left + 5) and right.max() == 27
    for label, band in enumerate([range(3, 11), range(19, 27)]):
        heights = corners[dataset.labels == label][:, :, 0]
        assert set(heights[:, 0]) == set(heights[:, 1]) == set(band)
        assert len(np.unique(heights, axis=0)) > 50  # of 64: each has its own


def test_swapped_the_order_stays_and_the_bands_change_places():
    images, labels = red_green.images("test", 40)
    swapped, same = red_green.images("test", 40, swapped=True)
    np.testing.assert_array_equal(images, source.load(DATA, "test").images[:40])
    np.testing.assert_array_equal(labels, same)
    moved = squares(swapped) - squares(images)
    np.testing.assert_array_equal(moved[..., 1], 0)
    np.testing.assert_array_equal(moved[..., 0], np.where(labels == 0, 16, -16)[:, None].repeat(2, 1))


def test_an_image_depends_on_split_and_index_only():
    few = source.load(DATA.changed(examples=7), "train")
    np.testing.assert_array_equal(few.images, source.load(DATA, "train").images[:7])
    assert len(source.load(DATA.changed(examples=7), "test").labels) == 2
    train, test = (red_green.images(split, 400)[0] for split in ("train", "test"))
    shared = {image.tobytes() for image in train} & {image.tobytes() for image in test}
    assert len(shared) < 40  # by chance 400 / 23,680 of 400, about 7


def test_never_changes():
    # Results are comparable only while these are the same. Split, index: rows and columns of red and green.
    corners = squares(np.stack([red_green.draw(0, 0), red_green.draw(0, 3), red_green.draw(1, 2)]))
    np.testing.assert_array_equal(corners.reshape(3, 4), [[8, 8, 6, 22], [24, 10, 24, 5], [8, 3, 8, 23]])


def test_nothing_has_to_be_prepared():
    assert source.prepare(DATA) == "red_green needs no preparation: 2,000 train and 400 test examples"
