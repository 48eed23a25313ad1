import numpy as np
import pytest

from cnn_jax.studies.feature_maps import edge_activation, equivariance, position_leak


def noise(count, side=12, channels=2):
    return np.random.RandomState(0).randint(1, 256, (count, side, side, channels)).astype(np.uint8)


def maps(images):
    """Two seeds (the second is the first doubled) of an exact layer, a strided one and one that knows its place."""
    x = images.astype(np.float32) / 255
    ramp = np.arange(x.shape[1], dtype=np.float32)[None, :, None, None]
    layers = {"exact": np.maximum(x, 0.5), "strided": x[:, ::2, ::2], "placed": x * ramp}
    return {layer: np.stack([values, 2 * values]) for layer, values in layers.items()}


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
    images = noise(3)
    strides = {"exact": 1, "strided": 2, "placed": 2}
    result = equivariance(maps, images, strides, circular)
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
    np.testing.assert_array_equal(equivariance(dead, noise(2), {"dead": 2}).error["dead"], np.zeros((1, 5)))
    small = lambda images: {"small": np.zeros((1, len(images), 2, 2, 1), np.float32)}
    with pytest.raises(ValueError, match="small has maps of 2x2"):
        equivariance(small, noise(2), {"small": 2})


def test_edge_activation_by_hand():
    """A 4x5 map: 14 positions in the ring, 6 inside."""

    def network(images):
        values = np.zeros((2, len(images), 4, 5, 2), np.float32)
        values[0, ..., 0] = 3  # everywhere, also when blank
        values[1, :, 0] = -2  # the upper row, five positions of the ring, both channels
        values[1, :, 1, 1, 0] = images[:, 0, 0, 0]
        return {"conv": values, "small": np.ones((2, len(images), 2, 2, 1))}

    images = np.full((3, 8, 8, 1), 12, np.uint8)
    result = edge_activation(network, images)
    assert list(result.edge) == ["conv"] and result.images == 3
    np.testing.assert_allclose(result.edge["conv"], [1.5, 10 / 14])
    np.testing.assert_allclose(result.centre["conv"], [1.5, 12 / 2 / 6])
    np.testing.assert_allclose(result.blank_edge["conv"], [1.5, 10 / 14])
    np.testing.assert_allclose(result.blank_centre["conv"], [1.5, 0])


def filtered(images, padding):
    """Two filters over 3x1: the sum, and what lies below minus what lies above. Zeros beyond the edge show in both."""
    x = np.pad(images.astype(np.float32) / 255, ((0, 0), (1, 1), (0, 0), (0, 0)), mode=padding)
    above, here, below = x[:, :-2], x[:, 1:-1], x[:, 2:]
    return np.concatenate([above + here + below, below - above], -1)


def test_position_leak_comes_from_the_padding_alone():
    images = np.random.RandomState(0).randint(20, 40, (200, 8, 8, 1)).astype(np.uint8)
    images[:, 1:5, 2:6] += 200  # always at one place, as digits are: what is seen would tell where it is
    network = lambda images: {"last": np.stack([filtered(images, "wrap"), filtered(images, "constant")])}
    result = position_leak(network, images, "last")
    assert abs(result.spearman[0]) < 0.05 < 0.1 < result.spearman[1]
    assert result.error[0] == pytest.approx(result.chance, rel=0.005) and result.error[1] < 0.99 * result.chance


def test_position_leak_of_coordinates():
    """Maps that hold row and column are read without error; the centre is the best answer to nothing."""
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(6), indexing="ij"), -1).astype(np.float32)
    network = lambda images: {"last": np.broadcast_to(grid, (1, len(images), *grid.shape))}
    result = position_leak(network, noise(50), "last")
    assert result.spearman == pytest.approx(1) and result.error < 0.005
    # Rows 0, 1/3, 2/3, 1 lie 1/2, 1/6, 1/6, 1/2 from the centre; columns 5/10, 3/10, 1/10 and so on.
    assert result.chance == pytest.approx((1 / 3 + 0.3) / 2)


def test_position_leak_of_nothing():
    """Maps that are constant tell nothing; a seed that diverged has no figure."""

    def network(images):
        values = np.ones((2, len(images), 4, 4, 3), np.float32)
        values[1] = np.nan
        return {"last": values}

    result = position_leak(network, noise(10), "last")
    np.testing.assert_allclose(result.spearman, [0, np.nan])
    np.testing.assert_allclose(result.error, [result.chance, np.nan])


def test_protocols_name_what_was_done():
    images = noise(6)
    assert "shifts circular" in equivariance(maps, images, {"exact": 1}, circular=True).protocol
    assert "6 test images" in edge_activation(maps, images).protocol
    assert "placed" in position_leak(maps, images, "placed").protocol
