"""From an encoded image to its pixels, by one road: training, evaluation, preparation and prediction all take it.

What is opened, and what is made of it, is in the table of docs/data.md.
"""

import functools
import importlib.util
import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from cnn_jax.data.images.reader import PUBLISHED, Reading, Unreadable

# Pillow's names of the formats that are opened. No other is even tried: for an EPS, whatever it is called, Pillow would
# start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF")
NAMED = "JPEG, PNG, WebP, TIFF, BMP, GIF, PPM, PGM or AVIF"
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**30 // 12)  # above it Pillow suspects an attack: 178,956,970
# What Pillow raises over files that are no images, cut short or damaged: its readers let through whatever meets them,
# of which RuntimeError, NotImplementedError, ZeroDivisionError, AttributeError and TypeError were seen.
DAMAGED = (Exception,)
FORMAT = 2  # raise it when `square` changes its result
RANGES = (1, 8, 10, 12, 14, 16, 24, 32)  # bits of grey; files of more than 8 do not say how many of theirs are used
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")  # modes
# An image of many pixels is large, as those of some phones are, and no attack; above `MOST_PIXELS` it is refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read(encoded: bytes, name: str, reading: Reading, least: int = 0) -> tuple[Image.Image, list[str]]:
    """Returns an image as RGB or as shades of grey, and what was done to it, in words.

    The first frame counts. More than 8 bits of grey are scaled from the smallest range of so many bits that holds them;
    numbers with a fraction from 0 to 1 where they lie there, or 0 to 255, else from the smallest to the largest.

    Args:
      encoded: a file.
      name: for the message.
      reading: what is made of it.
      least: a JPEG may be decoded at a fraction of its size, if no side gets shorter than this; 0: at its own.

    Raises:
      Unreadable: the bytes are no image of a format that is opened, a damaged one, or too large.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=formats()) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"{name} ({image.width * image.height:,} pixels; at most {MOST_PIXELS:,} are decoded)")
            done = []
            frames = _frames(image)
            if frames > 1:
                done.append(f"the first of {frames} frames")
            if least:
                image.draft("RGB", (least, least))
            turn = TURNS.get(_orientation(image)) if reading.exif else None
            image.load()
            found = image
            if turn is not None:
                found = image.transpose(turn)
                done.append("turned as its EXIF data say")
            return _coloured(found, reading, done), done
    except Unreadable:
        raise
    except Image.UnidentifiedImageError:
        raise Unreadable(f"{name} (it is no {NAMED}{_heif_hint(encoded)}, or damaged)") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"{name} (too many pixels; at most {MOST_PIXELS:,} are decoded)") from None
    except DAMAGED as error:
        raise Unreadable(f"{name} ({' '.join(str(error).split())[:200] or type(error).__name__})") from error


@functools.cache
def formats() -> tuple[str, ...]:
    """Returns the formats that are opened, in Pillow's words: with HEIC where the extra is installed."""
    if not importlib.util.find_spec("pillow_heif"):
        return FORMATS
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _heif_hint(encoded):
    is_heif = encoded[4:8] == b"ftyp" and encoded[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc")
    return ", but HEIC, which `pip install 'cnn_jax[heic]'` lets it read" if is_heif and "HEIF" not in formats() else ""


# What undoes each orientation of EXIF 2.32, section 4.6.4.A.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image):
    """The orientation that EXIF data note; damaged ones note none, and cost no image."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED:
        return None


class Head(NamedTuple):
    """What an image says of itself: its mode in Pillow's words, width and height, and frames."""

    mode: str
    size: tuple[int, int]
    frames: int


def head(encoded: bytes | None) -> Head | None:
    """Returns what an image says of itself; None of what is none."""
    try:
        with Image.open(io.BytesIO(encoded or b""), formats=formats()) as image:
            return Head(image.mode, image.size, _frames(image))
    except DAMAGED:
        return None


def _frames(image):
    """The number of frames of an image; previews, as in the JPEG of some cameras (MPO), are none."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _coloured(image, reading, done):
    """The image in the mode that is wanted."""
    mode = "L" if reading.channels == 1 else "RGB"
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_eight_bits(np.asarray(image), done)).convert(mode)
    if reading.ground != "none" and (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        return _in_mode(_laid(image.convert("RGBA"), reading.ground, done), mode, done)
    if mode == "RGB" and image.mode not in (*GREY, "P", "RGB"):
        done.append(f"made of {image.mode}")
    return _in_mode(image, mode, done)


def _in_mode(image, mode, done):
    if mode == "L" and image.mode not in GREY:
        done.append("made greyscale")
    return image.convert(mode)


def _laid(image, ground, done):
    other = {"white": "black", "black": "white"}[ground]
    for colour in (ground, other):
        laid = Image.alpha_composite(Image.new("RGBA", image.size, colour), image).convert("RGB")
        if any(low != high for low, high in laid.getextrema()):
            break
    else:
        return laid
    done.append(f"laid on {colour}")
    return laid


def _to_eight_bits(values, done):
    """Numbers of more than 8 bits, as uint8."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds numbers that are not finite")
    low, high = float(values.min()), float(values.max())
    whole = bool((values == np.round(values)).all())
    ranges = [2.0**bits - 1 for bits in RANGES] if whole else [1.0, 255.0]
    if low < 0 or high > ranges[-1]:
        start, end = low, max(high, low + 1)
    else:
        start, end = 0.0, next(top for top in ranges if high <= top)
    if (start, end) != (0, 255):
        done.append(f"{start:,.6g} to {end:,.6g} scaled to 8 bits")
    return np.round((values - start) * (255 / (end - start))).clip(0, 255).astype(np.uint8)


def square(encoded: bytes, side: int, name: str, reading: Reading = PUBLISHED) -> np.ndarray:
    """Returns the central square of an image, its short side scaled to `side`: how AlexNet's authors stored ImageNet
    (Krizhevsky et al. 2012, section 2). Cut and scaled in one operation.

    The filter is bilinear, widened when scaling down (Pillow's, as in torchvision). A JPEG at least 4 times too large
    is decoded at half, a quarter or an eighth of its size first, but never below 2 * side: measured on ImageNet, this
    changes no pixel of 199 of 200 images, and those of the other by 0.5 of 255 on average.

    Args:
      encoded: a file.
      side: of the result, pixels.
      name: for the message.
      reading: what is made of it.

    Returns:
      uint8 [side, side, channels].

    Raises:
      Unreadable: see `read`.
    """
    return square_of(read(encoded, name, reading, 2 * side)[0], side)


def square_of(image: Image.Image, side: int) -> np.ndarray:
    """Returns the central square of an image that was read, scaled to `side`; uint8 [side, side, channels]."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def exact(encoded: bytes, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """Returns an image that is stored at its final size, uint8 of the given shape (height, width, channels).

    Raises:
      Unreadable: the bytes are no image, a damaged one, or one of another size.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=formats()) as image:
            pixels = np.asarray(image)
    except DAMAGED as error:
        raise Unreadable(f"{name} ({error})") from error
    if pixels.dtype != np.uint8 or pixels.shape[:2] != shape[:2] or pixels.size != np.prod(shape):
        raise Unreadable(f"{name} ({pixels.dtype} {pixels.shape}, expected uint8 {shape})")
    return pixels.reshape(shape)
