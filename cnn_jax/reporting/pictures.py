"""Image files as a network was trained to see them."""

import dataclasses

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

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
    """Reads a picture as a greyscale image with bright ink on black, as the digits are stored.

    Dark ink on a bright ground is inverted. A picture of another size is cut to what is drawn on it, resized to 20/28
    of the target and centred by its centre of mass, as MNIST was made; one of the right size is taken as it is.

    Args:
      path: an image file of any format that Pillow reads.
      shape: height, width and channels of the result; one channel.

    Raises:
      UserError: the file is no image, or blank.
    """
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(f"--images: {path} cannot be read as an image: {error}") from error
    changes = []
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture.convert("RGBA"))
        changes.append("laid on white")
    if picture.mode != "L":
        changes.append("made greyscale")
    pixels = np.asarray(picture.convert("L"), np.uint8)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.median(border) > 127:
        pixels = 255 - pixels
        changes.append("dark on bright: inverted")
    else:
        changes.append("bright on dark: as it is")
    if pixels.max() == pixels.min():
        raise UserError(f"--images: {path} is blank: all its pixels are {picture.convert('L').getpixel((0, 0))}")
    if pixels.shape != shape[:2]:
        changes.append(f"{pixels.shape[1]}x{pixels.shape[0]} resized to {shape[1]}x{shape[0]}")
        pixels = _centred(pixels, shape[:2])
    return Picture(pixels[..., None], ", ".join(changes))


def _centred(pixels, size):
    """What is drawn, resized to 20/28 of the size and centred by its centre of mass."""
    ground = np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]))
    ink = np.clip(pixels.astype(np.float32) - ground, 0, None)
    drawn = ink > 0.25 * ink.max()
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] * (255 / ink.max())
    factor = DIGIT * min(size[0] / ink.shape[0], size[1] / ink.shape[1])
    target = [max(1, round(side * factor)) for side in ink.shape]
    small = Image.fromarray(ink.astype(np.uint8)).resize((target[1], target[0]), Image.Resampling.LANCZOS)
    small = np.asarray(small, np.uint8)
    weight = small.astype(np.float64) / small.sum()
    canvas = np.zeros(size, np.uint8)
    place = []
    for axis, (side, part) in enumerate(zip(size, small.shape)):
        mass = float((weight.sum(1 - axis) * np.arange(part)).sum())
        place.append(int(np.clip(round((side - 1) / 2 - mass), 0, side - part)))
    canvas[place[0] : place[0] + small.shape[0], place[1] : place[1] + small.shape[1]] = small
    return canvas
