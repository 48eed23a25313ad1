"""A linear reading of the position: of padding, of coordinates, of nothing."""

import numpy as np
import pytest
from tiny_measuring import context, noise

from cnn_jax.studies.measurements.position import PositionLeak


def filtered(images, padding):
    """Two filters over 3x1: the sum, and what lies below minus what lies above. Zeros beyond the edge show in both."""
    x = np.pad(images.astype(np.float32) / 255, ((0, 0), (1, 1), (0, 0), (0, 0)), mode=padding)
    above, here, below = x[:, :-2], x[:, 1:-1], x[:, 2:]
    return np.concatenate([above + here + below, below - above], -1)


def measured(network, images):
    return PositionLeak().measure(context(images, maps=network, strides={"first": 1, "last": 2}))


def test_position_leak_comes_from_the_padding_alone():
    images = np.random.RandomState(0).randint(20, 40, (200, 8, 8, 1)).astype(np.uint8)
    images[:, 1:5, 2:6] += 200  # always at one place, as digits are: what is seen would tell where it is
    network = lambda images: {"last": np.stack([filtered(images, "wrap"), filtered(images, "constant")])}
    result = measured(network, images)
    assert abs(result.spearman[0]) < 0.05 < 0.1 < result.spearman[1]
    assert result.error[0] == pytest.approx(result.chance, rel=0.005) and result.error[1] < 0.99 * result.chance


def test_position_leak_of_coordinates():
    """Maps that hold row and column are read without error; the centre is the best answer to nothing."""
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(6), indexing="ij"), -1).astype(np.float32)
    network = lambda images: {"last": np.broadcast_to(grid, (1, len(images), *grid.shape))}
    result = measured(network, noise(50))
    assert result.spearman == pytest.approx(1) and result.error < 0.005
    # Rows 0, 1/3, 2/3, 1 lie 1/2, 1/6, 1/6, 1/2 from the centre; columns 5/10, 3/10, 1/10 and so on.
    assert result.chance == pytest.approx((1 / 3 + 0.3) / 2)


def test_position_leak_of_nothing():
    """Maps that are constant tell nothing; a seed that diverged has no figure."""

    def network(images):
        values = np.ones((2, len(images), 4, 4, 3), np.float32)
        values[1] = np.nan
        return {"last": values}

    result = measured(network, noise(10))
    np.testing.assert_allclose(result.spearman, [0, np.nan])
    np.testing.assert_allclose(result.error, [result.chance, np.nan])
    assert "last" in PositionLeak().protocol(result)
