"""From an encoded image to the pixels that are stored: always the same ones."""

import io

import numpy as np
from PIL import Image

from cnn_jax.data.images.reader import Unreadable

# What Pillow raises over files that are no images, cut short or damaged: its readers let through whatever meets them,
# of which RuntimeError, NotImplementedError, ZeroDivisionError, AttributeError and TypeError were seen. A warning, of
# an image of so many pixels that it may be an attack, is one where warnings are errors.
DAMAGED = (Exception,)
FORMAT = 1  # raise it when `square` changes its result


def square(encoded: bytes, side: int, name: str) -> np.ndarray:
    """The central square of an image, its short side scaled to `side`: how AlexNet's authors stored ImageNet
    (Krizhevsky et al. 2012, section 2). Cut and scaled in one operation.

    The filter is bilinear, widened when scaling down (Pillow's, as in torchvision). A JPEG at least 4 times too large
    is decoded at half, a quarter or an eighth of its size first, but never below 2 * side: measured on ImageNet, this
    changes no pixel of 199 of 200 images, and those of the other by 0.5 of 255 on average. Greyscale, palette and CMYK
    images become RGB; transparency is dropped; the orientation noted in EXIF data is not applied, as usual for
    ImageNet.

    Args:
      encoded: a file of any format that Pillow reads.
      side: of the result, pixels.
      name: for the message.

    Returns:
      uint8 [side, side, 3].

    Raises:
      Unreadable: the bytes are no image, or a damaged one.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.draft("RGB", (2 * side, 2 * side))
            if image.mode.startswith("I"):  # 16 bits of grey, which `convert` would clip instead of scaling
                image = Image.fromarray((np.asarray(image, np.int64) // 256).clip(0, 255).astype(np.uint8))
            image = image.convert("RGB")
            width, height = image.size
            short = min(width, height)
            left, top = (width - short) / 2, (height - short) / 2
            box = (left, top, left + short, top + short)
            return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
    except DAMAGED as error:
        raise Unreadable(f"{name} ({error})") from error


def exact(encoded: bytes, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """An image that is stored at its final size, uint8 of the given shape (height, width, channels).

    Raises:
      Unreadable: the bytes are no image, a damaged one, or one of another size.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image)
    except DAMAGED as error:
        raise Unreadable(f"{name} ({error})") from error
    if pixels.dtype != np.uint8 or pixels.shape[:2] != shape[:2] or pixels.size != np.prod(shape):
        raise Unreadable(f"{name} ({pixels.dtype} {pixels.shape}, expected uint8 {shape})")
    return pixels.reshape(shape)
