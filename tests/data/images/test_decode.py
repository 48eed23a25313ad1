import io
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image
from tiny_images import encoded, photo

from cnn_jax import config
from cnn_jax.data.datasets import source
from cnn_jax.data.images import decode
from cnn_jax.data.images.pictures import read_picture
from cnn_jax.data.images.reader import PUBLISHED, Reading, Unreadable


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


GREY = np.tile(np.array([[0, 255]], np.uint8).repeat(8, 1), (16, 1))  # half black, half white


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "RGBA", "1", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_modes_become_rgb_or_grey(mode, channels):
    kind = "tiff" if mode in ("CMYK", "YCbCr") else "png"
    image = Image.fromarray(GREY).convert("RGB").convert(mode)
    out = decode.square(encoded(image, kind), 16, "x", Reading(channels=channels))
    np.testing.assert_allclose(out, GREY[..., None].repeat(channels, 2), atol=1)


LOSSLESS = {
    "png": [".png"], "bmp": [".bmp", ".dib"], "tiff": [".tif", ".tiff"], "ppm": [".ppm", ".pnm"], "gif": [".gif"]
}  # fmt: skip
LOSSY = {"jpeg": [".jpg", ".jpeg", ".jpe", ".jfif", ".JPG"], "webp": [".webp"], "avif": [".avif"]}


@pytest.mark.parametrize(
    "kind, suffix", [(kind, each) for kind in LOSSLESS | LOSSY for each in (LOSSLESS | LOSSY)[kind]]
)
def test_every_format_is_read_under_every_suffix(tmp_path, kind, suffix):
    image = photo(2)
    for name, number in (("a", 0), ("a", 1), ("b", 0), ("b", 1)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"{number}{suffix}").write_bytes(encoded(image, kind))
    data = config.Data.of(name="folder", path=str(tmp_path), side=33, placement="stream")
    images = source.load(data, "train").images[:]
    tolerance = {"gif": 20, "jpeg": 6, "webp": 6, "avif": 8}.get(kind, 0)
    assert images.shape == (2, 33, 33, 3)
    assert np.abs(images.astype(int) - np.asarray(image)).mean() <= tolerance


def test_greyscale_netpbm_files_are_read():
    np.testing.assert_array_equal(decode.square(b"P5 16 16 255\n" + GREY.tobytes(), 16, "x")[..., 0], GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_data_say(orientation):
    """Each is stored as a camera held so would store it; the tag undoes it."""
    upright = np.asarray(photo(2))[:20]  # 20 high, 33 wide
    ways = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright, 1), 7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }  # fmt: skip
    stored = Image.fromarray(np.ascontiguousarray(ways[orientation]))
    exif = stored.getexif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, "png", exif=exif)
    image, done = decode.read(file.getvalue(), "x", Reading())
    np.testing.assert_array_equal(np.asarray(image), upright)
    assert done == ["turned as its EXIF data say"] * (orientation > 1)
    image, done = decode.read(file.getvalue(), "x", PUBLISHED)
    np.testing.assert_array_equal(np.asarray(image), ways[orientation])
    assert done == []


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's, which says so
def test_damaged_exif_data_cost_no_image():
    file = io.BytesIO()
    photo(2).save(file, "jpeg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert decode.read(file.getvalue(), "x", Reading())[0].size == photo(2).size


def drawing(ink):
    """A drawing of one colour on a transparent ground; the colour below what is transparent is black."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[4:12, 6:9] = ink
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "ink, ground, expected, said",
    [
        ((0, 0, 0, 255), "white", (0, 255), ["laid on white"]),  # all black, where transparency is dropped
        ((255, 255, 255, 255), "white", (255, 0), ["laid on black"]),  # nothing would show on white
        ((255, 255, 255, 255), "black", (255, 0), ["laid on black"]),
        ((0, 0, 0, 255), "black", (0, 255), ["laid on white"]),
        ((200, 200, 200, 255), "black", (200, 0), ["laid on black"]),
        ((255, 255, 255, 255), "none", (255, 0), ["made of RGBA"]),
    ],
)
def test_what_is_transparent_is_laid_on_a_ground(ink, ground, expected, said):
    image, done = decode.read(encoded(drawing(ink), "png"), "x", Reading(ground=ground))
    pixels = np.asarray(image)
    assert pixels[8, 7].tolist() == [expected[0]] * 3 and pixels[0, 0].tolist() == [expected[1]] * 3 and done == said


def test_a_transparent_colour_of_a_palette_is_ground():
    image = Image.fromarray(GREY).convert("P")
    file = io.BytesIO()
    image.save(file, "gif", transparency=0)
    out = decode.square(file.getvalue(), 16, "x", Reading(ground="white"))
    assert out.min() == out.max() or np.abs(out[..., 0].astype(int) - GREY).max() <= 1


DEEP = {
    "16 bits": (np.arange(0, 65536, 4096).astype(np.uint16), np.arange(0, 65536, 4096) / 257, ["0 to 65,535"]),
    "12 of 16 bits": (np.arange(0, 4096, 256).astype(np.uint16), np.arange(0, 4096, 256) / 4095 * 255, ["0 to 4,095"]),
    "8 of 16 bits": (np.arange(0, 256, 16).astype(np.uint16), np.arange(0, 256, 16), []),
    "a mask": (np.array([0, 1] * 8, np.uint16), np.array([0, 255] * 8), ["0 to 1"]),
    "32 bits": (
        np.arange(0, 2**24, 2**20).astype(np.int32),
        np.arange(0, 2**24, 2**20) / (2**24 - 1) * 255,
        ["0 to 1"],
    ),
    "fractions": (np.linspace(0, 1, 16, dtype=np.float32), np.linspace(0, 255, 16), ["0 to 1"]),
    "fractions to 255": (np.linspace(0.5, 250, 16, dtype=np.float32), np.linspace(0.5, 250, 16), []),
    "both signs": (np.linspace(-2, 3, 16, dtype=np.float32), np.linspace(0, 255, 16), ["-2 to 3"]),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_eight_bits_are_scaled_from_their_range(name):
    row, expected, said = DEEP[name]
    file = encoded(Image.fromarray(np.tile(row, (16, 1))), "tiff")
    image, done = decode.read(file, "x", Reading(channels=1))
    assert np.abs(np.asarray(image)[0] - expected).max() <= 0.51
    assert [line.startswith(start) for line, start in zip(done, said, strict=True)] == [True] * len(said)


def test_numbers_that_are_not_finite_are_no_image():
    file = encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "tiff")
    with pytest.raises(Unreadable, match="x .it holds numbers that are not finite"):
        decode.read(file, "x", Reading())


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_of_several_frames_the_first_counts(kind):
    file = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    image, done = decode.read(file.getvalue(), "x", Reading())
    assert done == ["the first of 3 frames"] and np.abs(np.subtract(image.getpixel((8, 8)), (255, 0, 0))).max() < 8


def test_no_other_format_is_opened_whatever_it_is_called(monkeypatch):
    """Pillow hands an EPS to Ghostscript."""
    monkeypatch.setattr(subprocess, "check_call", lambda *words, **rest: pytest.fail("a program was started"))
    for kind in ("eps", "pcx", "tga", "ico", "pdf"):
        with pytest.raises(Unreadable, match="a.jpg .it is no JPEG, PNG, WebP, TIFF, BMP, GIF, PPM, PGM or AVIF"):
            decode.read(encoded(photo(0), kind), "a.jpg", Reading())


def test_too_many_pixels_are_refused_by_their_number():
    head = Image.new("1", (1, 1))
    file = bytearray(encoded(head, "png"))
    file[16:24] = (20_000).to_bytes(4, "big") * 2
    file[29:33] = zlib.crc32(file[12:29]).to_bytes(4, "big")
    with pytest.raises(Unreadable, match="too many pixels; at most 178,956,970 are decoded"):
        decode.read(bytes(file), "x", Reading())


def test_heic_is_read_with_an_extra():
    content = b"\0\0\0\x18ftypheic" + bytes(200)
    hint = "or damaged" if "HEIF" in decode.formats() else r"but HEIC, which `pip install 'cnn_jax.heic.'` lets it read"
    with pytest.raises(Unreadable, match=hint):
        decode.read(content, "x", Reading())


def test_heic_is_read_where_the_extra_is_installed():
    heif = pytest.importorskip("pillow_heif", reason="needs `pip install pillow-heif`")
    heif.register_heif_opener()
    image = photo(3).resize((64, 64))
    found, done = decode.read(encoded(image, "heif"), "x", Reading())
    assert np.abs(np.asarray(found).astype(int) - np.asarray(image)).mean() < 8 and done == []


def test_prediction_sees_what_training_saw(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number, image in enumerate((drawing((0, 0, 0, 255)), photo(1), photo(2))):
            image.save(tmp_path / name / f"{number}.png")
    data = config.Data.of(name="folder", path=str(tmp_path), side=20, placement="stream")
    train, names = source.load(data, "train"), source.identity(data).splits["train"]
    for image, name in zip(train.images[:], names, strict=True):
        found = read_picture(str(tmp_path / name), (20, 20, 3), Reading(), drawn=False)
        np.testing.assert_array_equal(found.pixels, image)


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
