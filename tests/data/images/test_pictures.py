import numpy as np
import pytest
from PIL import Image, ImageDraw

from cnn_jax.data.images import pictures
from cnn_jax.data.images.reader import Reading
from cnn_jax.errors import UserError

SHAPE = (28, 28, 1)


def read_picture(path, shape):
    """A drawing, as `predict` reads it for a network of digits."""
    return pictures.read_picture(path, shape, Reading(channels=1), drawn=True)


def digit() -> np.ndarray:
    """A seven, bright on black, uint8 [28, 28]."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[5:8, 7:21] = 255
    pixels[8:23, 15:18] = 200
    return pixels


def saved(folder, image, name="picture.png") -> str:
    path = folder / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)
    return str(path)


def drawn(size, stroke: int, ink: int, paper: int) -> Image.Image:
    """A tall bar in the lower right quarter: 40 % of the height and `stroke` pixels wide."""
    image = Image.new("L", size, paper)
    left, top = round(size[0] * 0.7), round(size[1] * 0.5)
    ImageDraw.Draw(image).rectangle([left, top, left + stroke - 1, top + round(size[1] * 0.4) - 1], fill=ink)
    return image


def test_a_picture_as_stored_is_taken_as_it_is(tmp_path):
    picture = read_picture(saved(tmp_path, digit()), SHAPE)
    np.testing.assert_array_equal(picture.pixels, digit()[..., None])
    assert picture.pixels.dtype == np.uint8
    assert picture.changes == "bright on black: as it is"


def test_dark_ink_is_inverted_and_said(tmp_path):
    picture = read_picture(saved(tmp_path, 255 - digit()), SHAPE)
    np.testing.assert_array_equal(picture.pixels, digit()[..., None])
    assert "inverted" in picture.changes


@pytest.mark.parametrize("paper, ink, inverted", [(200, 255, False), (200, 20, True), (90, 10, True), (90, 250, False)])
def test_polarity_is_judged_against_the_ground_not_against_grey(tmp_path, paper, ink, inverted):
    picture = read_picture(saved(tmp_path, drawn((100, 100), 8, ink, paper)), SHAPE)
    assert ("inverted" in picture.changes) == inverted
    assert picture.pixels.max() == 255 and picture.pixels[0, 0] == 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
def test_colour_becomes_grey(tmp_path, mode):
    suffix = "tiff" if mode == "CMYK" else "png"
    picture = read_picture(saved(tmp_path, Image.fromarray(digit()).convert(mode), f"picture.{suffix}"), SHAPE)
    # The way through four inks rounds twice.
    np.testing.assert_allclose(picture.pixels[..., 0].astype(int), digit(), atol=2)
    assert "made greyscale" in picture.changes


def test_one_bit_and_rotated_pictures(tmp_path):
    bits = digit() > 127
    np.testing.assert_array_equal(read_picture(saved(tmp_path, bits), SHAPE).pixels[..., 0], bits * 255)
    turned = Image.fromarray(np.rot90(digit()))  # as a phone stores it: turned, with a note how to turn it back
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_picture(str(tmp_path / "turned.png"), SHAPE).pixels[..., 0], digit())


@pytest.mark.parametrize("ink, ground", [(0, "white"), (255, "black")])
def test_what_is_transparent_is_ground(tmp_path, ink, ground):
    pixels = np.zeros((28, 28, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = ink, digit()
    picture = read_picture(saved(tmp_path, pixels), SHAPE)
    np.testing.assert_allclose(picture.pixels[..., 0].astype(int), digit(), atol=1)
    assert f"laid on {ground}" in picture.changes


@pytest.mark.parametrize("kind, name", [(np.uint16, "deep.png"), (np.int32, "deep.tiff"), (np.float32, "deep.tiff")])
def test_more_than_eight_bits(tmp_path, kind, name):
    picture = read_picture(saved(tmp_path, digit().astype(kind) * kind(200), name), SHAPE)
    np.testing.assert_allclose(picture.pixels[..., 0], digit() * (200 / 257), atol=1)  # of 16 bits, as its largest
    assert "0 to 65,535 scaled to 8 bits" in picture.changes


@pytest.mark.parametrize("size, stroke", [((800, 600), 60), ((120, 300), 12), ((3000, 3000), 2), ((28, 40), 3)])
def test_another_size_is_cut_resized_and_centred(tmp_path, size, stroke):
    picture = read_picture(saved(tmp_path, drawn(size, stroke, 15, 240)), SHAPE)
    pixels = picture.pixels[..., 0].astype(float)
    rows, columns = (np.flatnonzero((pixels > 64).any(axis)) for axis in (1, 0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height == 20  # the longer side, as in MNIST
    # A pen that is very thin for its sheet gives a stroke of up to three pixels, as stored digits have.
    expected = round(stroke * 20 / round(size[1] * 0.4))
    assert width == expected if expected else width <= 3
    assert pixels.max() == 255  # a stroke of two pixels in three thousand is as white as any
    mass = [float((pixels.sum(1 - axis) * np.arange(28)).sum() / pixels.sum()) for axis in (0, 1)]
    assert np.abs(np.subtract(mass, 13.5)).max() <= 0.5
    assert f"{size[0]}x{size[1]} resized to 28x28" in picture.changes


def test_a_photograph_of_a_digit_is_the_digit(tmp_path):
    """Paper with a shadow and the noise of a JPEG: nearly what the clean drawing gives."""
    clean = drawn((640, 480), 40, 0, 255)
    shade = np.linspace(0.75, 1.0, 640)[None] * np.asarray(clean, float) * 0.9 + 10
    noise = np.random.default_rng(0).normal(0, 3, shade.shape)
    photograph = Image.fromarray(np.clip(shade + noise, 0, 255).astype(np.uint8)).convert("RGB")
    expected = read_picture(saved(tmp_path, clean), SHAPE).pixels.astype(float)
    actual = read_picture(saved(tmp_path, photograph, "photograph.jpg"), SHAPE).pixels.astype(float)
    assert np.abs(actual - expected).mean() < 8


@pytest.mark.parametrize("colour", ["white", "black", "grey"])
def test_blank_is_refused(tmp_path, colour):
    path = saved(tmp_path, Image.new("RGB", (50, 50), colour))
    with pytest.raises(UserError, match="picture.png is blank"):
        read_picture(path, SHAPE)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow also warns of what it finds in a damaged file
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_damaged_files_are_refused_by_name_or_read(tmp_path, suffix):
    path = tmp_path / f"damaged.{suffix}"
    Image.fromarray(digit()).save(path)
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        data = bytearray(whole[: draw.integers(len(whole))] if trial % 2 else whole)
        for _ in range(3 * (trial % 2 == 0)):
            data[draw.integers(min(len(data), 200))] = draw.integers(256)
        path.write_bytes(data)
        try:
            assert read_picture(str(path), SHAPE).pixels.shape == SHAPE
        except UserError as error:
            assert path.name in str(error)
            refused += 1
    assert refused


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as an image: .*notes.png"):
        read_picture(str(path), SHAPE)
