"""Image files as a network was trained to see them."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cnn_jax.data.images import decode
from cnn_jax.data.images.reader import Unreadable
from cnn_jax.errors import UserError

DIGIT = 20 / 28  # MNIST: a digit fills 20 of 28 pixels; LeCun et al. 1998, section III-A


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture made ready.

    Attributes:
      pixels: uint8 [height, width, channels].
      changes: what was done to it, in words.
    """

    pixels: np.ndarray
    changes: str


def read_picture(path: str, shape: tuple[int, int, int]) -> Picture:
    """Reads a picture as the network's images are stored: a photograph in colour, or a drawing in greyscale.

    Args:
      path: an image file of any format that Pillow reads.
      shape: height, width and channels of the result; one channel means a drawing.

    Raises:
      UserError: the file is no image or, where a drawing is wanted, blank.
    """
    return _drawing(path, shape) if shape[2] == 1 else _photograph(path, shape)


def _photograph(path, shape):
    try:
        pixels = decode.square(Path(path).expanduser().read_bytes(), shape[0], path)
    except (OSError, Unreadable) as error:
        raise UserError(f"--images: {path} cannot be read as an image: {error}") from error
    return Picture(pixels, f"centre square, scaled to {shape[1]}x{shape[0]}")


def _drawing(path, shape):
    """Bright ink on black, as the digits are stored.

    Ink darker than its ground, which the border shows, is inverted. A picture of another size is cut to what is drawn
    on it, resized to 20/28 of the target and centred by its centre of mass, as MNIST was made; one of the right size
    is taken as it is.
    """
    try:
        with Image.open(Path(path).expanduser()) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except decode.DAMAGED as error:
        raise UserError(f"--images: {path} cannot be read as an image: {error}") from error
    pixels, changes = _greyscale(picture)
    if pixels.size == 0 or pixels.max() == pixels.min():
        raise UserError(f"--images: {path} is blank: there is nothing drawn on it")
    ground = np.median(_border(pixels))
    if ground - pixels.min() > pixels.max() - ground:
        pixels = 255 - pixels
        changes.append("dark on bright: inverted")
    else:
        changes.append("bright on dark: as it is")
    if pixels.shape != shape[:2]:
        changes.append(f"{pixels.shape[1]}x{pixels.shape[0]} resized to {shape[1]}x{shape[0]}")
        pixels = _centred(pixels, shape[:2])
    return Picture(pixels[..., None], ", ".join(changes))


def _greyscale(picture):
    """uint8 [height, width], and what was done for it."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layers = picture.convert("RGBA")
        for ground in ("white", "black"):  # white ink shows on black only
            laid = Image.alpha_composite(Image.new("RGBA", layers.size, ground), layers).convert("L")
            if laid.getextrema() != (255, 255):
                break
        return np.asarray(laid, np.uint8), [f"laid on {ground}", "made greyscale"]
    if picture.mode.startswith(("I", "F")):
        # 16 or 32 bits to a pixel, of which Pillow's conversion would keep no more than the first 255 levels.
        values = np.asarray(picture, np.float64)
        stretched = (values - values.min()) * (255 / max(np.ptp(values), 1e-9))
        return stretched.astype(np.uint8), [f"{picture.mode} stretched to 8 bits"]
    return np.asarray(picture.convert("L"), np.uint8), [] if picture.mode == "L" else ["made greyscale"]


def _border(pixels):
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _centred(pixels, size):
    """Returns the drawing resized to fit 20/28 of the size and centred by its centre of mass."""
    ink = np.clip(pixels.astype(np.float32) - np.median(_border(pixels)), 0, None)
    drawn = ink > 0.25 * ink.max()
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = DIGIT * min(size[0] / ink.shape[0], size[1] / ink.shape[1])
    target = [max(1, round(side * factor)) for side in ink.shape]
    small = np.asarray(Image.fromarray(ink).resize((target[1], target[0]), Image.Resampling.LANCZOS))
    # Thin strokes fade when they shrink: the brightest ink of a stored digit is white.
    small = np.clip(small, 0, None) * (255 / small.max())
    weight = small.astype(np.float64) / small.sum()
    canvas = np.zeros(size, np.uint8)
    place = []
    for axis, (side, part) in enumerate(zip(size, small.shape)):
        mass = float((weight.sum(1 - axis) * np.arange(part)).sum())
        place.append(int(np.clip(round((side - 1) / 2 - mass), 0, side - part)))
    canvas[place[0] : place[0] + small.shape[0], place[1] : place[1] + small.shape[1]] = np.round(small)
    return canvas
