"""Distance of maps from moving with the image, against loops."""

import numpy as np
import pytest
from tiny_measuring import context, noise

from cnn_jax.studies.measurements.equivariance import Equivariance


def maps(images):
    """Two seeds (the second is the first doubled) of an exact layer, a strided one and one that knows its place."""
    x = images.astype(np.float32) / 255
    ramp = np.arange(x.shape[1], dtype=np.float32)[None, :, None, None]
    layers = {"exact": np.maximum(x, 0.5), "strided": x[:, ::2, ::2], "placed": x * ramp}
    return {layer: np.stack([values, 2 * values]) for layer, values in layers.items()}


def measured(maps, images, strides, circular=False):
    return Equivariance(circular=circular).measure(context(images, maps=maps, strides=strides))


def expected_error(at_rest, moved, move, circular):
    """||moved - expected|| / ||at_rest|| by loops over positions; the expected value is interpolated."""
    count, height, width, _ = at_rest.shape
    differences = size = 0.0
    low, high = int(np.floor(move)), int(np.ceil(move))
    for row in range(height):
        for column in range(width):
            if not circular and (row < high or column < high):
                continue
            rows = {row - low: 1 - (move - low), row - high: move - low} if high > low else {row - low: 1.0}
            columns = {column - low: 1 - (move - low), column - high: move - low} if high > low else {column - low: 1.0}
            value = sum(
                share_r * share_c * at_rest[:, r % height, c % width]
                for r, share_r in rows.items()
                for c, share_c in columns.items()
            )
            differences += np.sum((moved[:, row, column] - value) ** 2, dtype=np.float64)
            kept = at_rest[:, (row - high) % height, (column - high) % width]
            size += np.sum(kept**2, dtype=np.float64)
    return np.sqrt(differences / size)


@pytest.mark.parametrize("circular", [False, True])
def test_equivariance_against_loops(circular):
    images = noise(3, side=12, low=1)
    strides = {"exact": 1, "strided": 2, "placed": 2}
    result = measured(maps, images, strides, circular)
    assert {layer: error.shape for layer, error in result.error.items()} == {
        "exact": (2, 3),
        "strided": (2, 5),
        "placed": (2, 5),
    }
    for pixels in range(5):
        rolled = np.roll(images, (pixels, pixels), (1, 2))
        if not circular:
            rolled[:, :pixels] = rolled[:, :, :pixels] = 0
        for layer in ("strided", "placed"):
            at_rest, moved = maps(images)[layer][0], maps(rolled)[layer][0]
            expected = expected_error(at_rest, moved, pixels / 2, circular)
            np.testing.assert_allclose(result.error[layer][:, pixels], expected, rtol=1e-5)
    np.testing.assert_array_equal(result.error["exact"], 0)
    strided = result.error["strided"]
    assert (strided[:, ::2] == 0).all() and (strided[:, 1::2] > 0.1).all()  # exact at multiples of the stride alone
    assert (result.error["placed"][:, 1:] > 0.1).all()


def test_dead_layers_and_small_maps():
    dead = lambda images: {"dead": np.zeros((1, len(images), 6, 6, 1), np.float32)}
    np.testing.assert_array_equal(measured(dead, noise(2), {"dead": 2}).error["dead"], np.zeros((1, 5)))
    small = lambda images: {"small": np.zeros((1, len(images), 2, 2, 1), np.float32)}
    with pytest.raises(ValueError, match="small has maps of 2x2"):
        measured(small, noise(2), {"small": 2})


def test_the_protocol_names_what_was_done():
    found = measured(maps, noise(6), {"exact": 1}, circular=True)
    assert "shifts circular" in Equivariance().protocol(found)
