import io

import numpy as np
import pytest
from PIL import Image
from tiny_images import encoded, photo

from cnn_jax.data.images import decode
from cnn_jax.data.images.reader import Unreadable


def triangle_weights(length, side, start, extent):
    """Linear interpolation widened to the scale, as a matrix [side, length]; the reference, from its definition."""
    scale = extent / side
    reach = max(scale, 1.0)
    centres = start + (np.arange(side) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(length)[None] + 0.5 - centres[:, None]) / reach)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("side", [16, 33, 60])
@pytest.mark.parametrize("seed", range(5))
def test_square_is_the_central_square_scaled(seed, side):
    image = photo(seed)
    pixels = np.asarray(image, np.float64)
    height, width = pixels.shape[:2]
    short = min(height, width)
    rows = triangle_weights(height, side, (height - short) / 2, short)
    columns = triangle_weights(width, side, (width - short) / 2, short)
    expected = np.einsum("yh,hwc,xw->yxc", rows, pixels, columns)
    out = decode.square(encoded(image, "png"), side, "x")
    assert out.shape == (side, side, 3) and out.dtype == np.uint8
    assert np.abs(out - expected).max() <= 1.01  # Pillow rounds twice, after the columns and after the rows


def test_a_jpeg_is_not_decoded_coarsely_when_that_could_show():
    image = photo(0).resize((400, 300))
    plain = pillow(image, 64)
    out = decode.square(encoded(image), 64, "x").astype(int)
    assert np.abs(out - plain).max() <= 3 and np.abs(out - plain).mean() < 0.5  # 300 is above 4 x 64: at half size
    np.testing.assert_array_equal(decode.square(encoded(image), 80, "x"), pillow(image, 80))  # 300 is below 4 x 80


def pillow(image, side):
    whole = Image.open(io.BytesIO(encoded(image)))
    return np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR, (50, 0, 350, 300)))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_other_colours_become_rgb(mode):
    grey = Image.fromarray(np.tile(np.array([[0, 255]], np.uint8).repeat(8, 1), (16, 1)))
    kind = "tiff" if mode == "CMYK" else "png"
    out = decode.square(encoded(grey.convert("RGB").convert(mode), kind), 16, "x")
    np.testing.assert_allclose(out, np.asarray(grey)[..., None].repeat(3, 2), atol=1)


def test_sixteen_bits_are_scaled():
    deep = Image.fromarray(np.tile(np.arange(0, 65536, 4096, dtype=np.uint16), (16, 1)))
    out = decode.square(encoded(deep, "png"), 16, "x")
    np.testing.assert_array_equal(out[0, :, 0], np.arange(0, 256, 16))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_damaged_images_are_named(kind, damage):
    whole = encoded(photo(0), kind)
    content = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>not found</html>"}[damage]
    with pytest.raises(Unreadable, match="n01440764_7.JPEG"):
        decode.square(content, 32, "n01440764_7.JPEG")
    with pytest.raises(Unreadable, match="n01440764_7.JPEG"):
        decode.exact(content, (48, 64, 3), "n01440764_7.JPEG")


def test_exact_takes_only_the_expected_size():
    image = photo(0)
    np.testing.assert_array_equal(decode.exact(encoded(image, "png"), (48, 64, 3), "x"), np.asarray(image))
    with pytest.raises(Unreadable, match=r"x \(uint8 \(48, 64, 3\), expected uint8 \(64, 48, 3\)\)"):
        decode.exact(encoded(image, "png"), (64, 48, 3), "x")
