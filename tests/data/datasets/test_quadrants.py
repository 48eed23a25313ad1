import hashlib

import numpy as np
import pytest

from cnn_jax import config
from cnn_jax.data.datasets import quadrants, source

DATA = config.Data.of(name="quadrants", examples=60, border=5)


@pytest.mark.parametrize("split, count", [("train", 60), ("test", 12)])
def test_the_class_is_the_place_of_a_patch_and_all_else_is_black(split, count):
    dataset = source.load(DATA, split)
    assert dataset.images.shape == (count, 42, 42, 3) and dataset.images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.labels, np.arange(count) % 4)
    for image, label in zip(np.asarray(dataset.images), dataset.labels):
        rows, columns = (np.flatnonzero(image.any((axis, 2))) for axis in (1, 0))
        name = f"{'upper' if rows[0] == 5 else 'lower'} {'left' if columns[0] == 5 else 'right'}"
        assert name == dataset.class_names[label]
        assert (rows[0], rows[-1]) in ((5, 20), (21, 36)) and (columns[0], columns[-1]) in ((5, 20), (21, 36))
        patch = image[rows[0] : rows[0] + 16, columns[0] : columns[0] + 16]
        assert 110 < patch.mean() < 145 and len(np.unique(patch)) > 200  # noise of all levels


def test_a_patch_depends_on_split_and_index_only():
    patch = lambda split, index, border: quadrants.draw(split, index, border)[border:, border:][:16, :16]
    np.testing.assert_array_equal(patch(0, 8, 0), patch(0, 8, 40))
    assert not np.array_equal(patch(0, 8, 0), patch(1, 8, 0))
    assert not np.array_equal(patch(0, 8, 0), patch(0, 12, 0))
    np.testing.assert_array_equal(quadrants.draw(0, 3, 5), source.load(DATA, "train").images[3])


def test_never_changes():
    drawn = np.stack([quadrants.draw(split, index, 2) for split in (0, 1) for index in range(8)])
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == "02302c4bb820d322"
