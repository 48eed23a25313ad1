"""Image files as a network was trained to see them."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_jax.data.images import decode, ink
from cnn_jax.data.images.reader import Reading, Unreadable
from cnn_jax.errors import UserError

DIGIT = 20 / 28  # MNIST: a digit fills 20 of 28 pixels; LeCun et al. 1998, section III-A
SHOWN = 320  # pixels of the longer side of a picture as it was given


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture made ready.

    Attributes:
      pixels: uint8 [height, width, channels].
      changes: what was done to it, in words.
      warnings: why the answer may be wrong, each a sentence's part.
      given: as it was given, at most `SHOWN` pixels wide and high; uint8 [height, width] or [height, width, 3].
    """

    pixels: np.ndarray
    changes: str
    warnings: tuple[str, ...]
    given: np.ndarray


def read_picture(path: str, shape: tuple[int, int, int], reading: Reading, drawn: bool) -> Picture:
    """Reads a picture as the network's images are stored.

    Args:
      path: an image file, see `decode.read`.
      shape: height, width and channels of the result.
      reading: what is made of a file.
      drawn: whether the images are drawings, bright ink on black, cut out and centred as MNIST's; else the square from
        the middle of a photograph.

    Raises:
      UserError: the file is no image or, where a drawing is wanted, blank.
    """
    try:
        encoded = Path(path).expanduser().read_bytes()
        # At its full size where ink is to be found in it.
        image, changes = decode.read(encoded, path, reading, 0 if drawn else 2 * shape[0])
    except OSError as error:
        raise UserError(f"--images: {path} cannot be read: {error.strerror}") from error
    except Unreadable as error:
        raise UserError(f"--images: cannot be read as an image: {error}") from error
    shown = image.copy()
    shown.thumbnail((SHOWN, SHOWN))
    if drawn:
        pixels, words, warnings = _drawing(path, image, shape)
    else:
        pixels, words = decode.square_of(image, shape[0]), ["centre square", f"scaled to {shape[1]}x{shape[0]}"]
        warnings = ()
    return Picture(pixels, ", ".join([*changes, *words]), warnings, np.asarray(shown))


def _drawing(path, image, shape):
    """Bright ink on black, as the digits are stored; what was done for it, and why it may be wrong.

    What looks like one of the dataset's own is taken as it is.
    """
    grey = np.asarray(image)
    if grey.size == 0 or grey.max() == grey.min():
        raise UserError(f"--images: {path} is blank: there is nothing drawn on it")
    for own, words in ((grey, "bright on black: as it is"), (255 - grey, "black on white: inverted")):
        if grey.shape == shape[:2] and _is_like_stored(own):
            return own[..., None], [words], ()
    found = ink.find(grey)
    if found is None:
        raise UserError(f"--images: {path} is blank: no ink stands out from its ground")
    resized = f"{grey.shape[1]}x{grey.shape[0]} resized to {shape[1]}x{shape[0]}"
    return _centred(found.strength, shape[:2])[..., None], [*found.changes, resized, "centred"], found.warnings


def _is_like_stored(pixels):
    """Tells whether a drawing looks like one of MNIST's: a black border, black for the most part, and white ink."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return (border == 0).mean() > 0.8 and (pixels == 0).mean() > 0.4 and pixels.max() >= 128


def _centred(strength, size):
    """Returns the ink resized to fit 20/28 of the size and centred by its centre of mass, uint8."""
    drawn = strength > 0.25 * strength.max()
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    strength = strength[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = DIGIT * min(size[0] / strength.shape[0], size[1] / strength.shape[1])
    target = [max(1, round(side * factor)) for side in strength.shape]
    small = np.asarray(Image.fromarray(strength).resize((target[1], target[0]), Image.Resampling.LANCZOS))
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
