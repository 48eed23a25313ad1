"""From stored pixels to what the network sees, on the device: canvas, random changes, crops, range.

In training to_canvas -> augment -> normalise, else to_canvas -> centre_crop or ten_crops -> normalise: black is still 0
wherever `augment` fills. Pixels stay uint8 until they have been moved: a quarter of the memory traffic.
"""

import math

import jax
import jax.numpy as jnp

from cnn_jax import config
from cnn_jax.data.augment import colour

# One number in [0, 1) per purpose and example. All are always drawn, and each purpose keeps its place: switching
# one change on or off leaves the draws of the others as they were.
PURPOSES = (
    *("rows", "columns", "flip", "rotation", "scale", "shear"),
    *("top", "left", "area", "aspect"),
    *("brightness", "contrast", "saturation", "hue"),
)

MOVES = ("shift", "flip", "rotation", "scale", "shear", "area")  # the settings that change where pixels lie


def to_canvas(images, size: int):
    """Centres images on a black square canvas; the odd pixel of a surplus goes to the bottom or right.

    Args:
      images: [N, H, W, C] of any type, black = 0.
      size: side of the canvas, pixels, at least H and W; 0 leaves the images as they are.

    Returns:
      [N, size, size, C] of the same type.

    Raises:
      ValueError: the canvas is smaller than the images.
    """
    if not size:
        return images
    surplus = [size - side for side in images.shape[1:3]]
    if min(surplus) < 0:
        raise ValueError(f"a canvas of side {size} is smaller than the images, {images.shape[1]}x{images.shape[2]}")
    return jnp.pad(images, [(0, 0), *((each // 2, each - each // 2) for each in surplus), (0, 0)])


def centre_crop(images, side: int):
    """Cuts the central square; the odd pixel of what is left over stays at the bottom or right, as in `to_canvas`.

    Args:
      images: [N, H, W, C] of any type.
      side: of the square, pixels; 0 leaves the images as they are.

    Returns:
      [N, side, side, C] of the same type.

    Raises:
      ValueError: the square is larger than the images.
    """
    if not side:
        return images
    down, right = _surplus(images, side)
    return _square(images, down // 2, right // 2, side)


def ten_crops(images, side: int):
    """Returns the ten views of Krizhevsky 2012, section 4.1: four corners and centre, and their mirror images.

    Args:
      images: [N, H, W, C] of any type.
      side: of each view, pixels; 0: the shorter side of the images.

    Returns:
      [10, N, side, side, C] of the same type: top left, top right, bottom left, bottom right, centre, then the same
      five mirrored left-right.

    Raises:
      ValueError: the views are larger than the images.
    """
    side = side or min(images.shape[1:3])
    down, right = _surplus(images, side)
    places = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))
    five = jnp.stack([_square(images, top, left, side) for top, left in places])
    return jnp.concatenate([five, five[:, :, :, ::-1]])


def _surplus(images, side):
    """Returns by how many rows and columns the images exceed `side`."""
    height, width = images.shape[1:3]
    if side > min(height, width):
        raise ValueError(f"a crop of side {side} is larger than the images, {height}x{width}")
    return height - side, width - side


def _square(images, top, left, side):
    return images[:, top : top + side, left : left + side]


def normalise(images, low: float, high: float, mean=(), std=()):
    """Maps 0..255 linearly to low..high, then subtracts the mean and divides by the standard deviation.

    Args:
      images: [..., C] of any type, stored units 0..255.
      low: what 0 becomes.
      high: what 255 becomes.
      mean: one number for each channel, in units of low..high; empty: nothing is subtracted.
      std: likewise, what is divided by.

    Returns:
      float32 of the same shape.
    """
    images = images.astype(jnp.float32) / 255 * (high - low) + low
    if mean:
        images = images - jnp.asarray(mean, jnp.float32)
    if std:
        images = images / jnp.asarray(std, jnp.float32)
    return images


def augment(images, keys, settings: config.Augment, crop: int = 0):
    """Changes each image at random: `move`, then `recolour`. The result depends on its own pixels and key only.

    Args:
      images: [N, H, W, C], uint8 or float32, stored units 0..255.
      keys: [N] typed PRNG keys, one per example.
      settings: which changes, and their ranges; mixup and cutmix are data/mixing.py's.
      crop: side of the square to cut, pixels; 0: the whole image's height and width.

    Returns:
      float32 [N, crop, crop, C], stored units 0..255 (colour noise leads beyond them); the images as they are when
      nothing is switched on and `crop` is 0.

    Raises:
      ValueError: the crop is larger than the images, or colours are to change in images without three channels.
    """
    return recolour(move(images, keys, settings, crop), keys, settings)


def move(images, keys, settings: config.Augment, crop: int = 0):
    """Mirrors each image, then rotates, scales and shears it about its centre, shifts it, and crops it.

    The crop is a square of side `crop`, every place as likely; with settings.area a rectangle of random area and shape
    instead, resized to the square. Shifts, mirror images and crops alone move whole pixels and change no value; the
    rest samples bilinearly, without a filter against aliasing. What comes from beyond the edge is 0. Arguments,
    result and errors as in `augment`.
    """
    if crop:
        _surplus(images, crop)
    elif not any(getattr(settings, name) for name in MOVES):
        return images
    return jax.vmap(lambda image, key: _moved(image, _draws(key), settings, crop))(images, keys)


def recolour(images, keys, settings: config.Augment):
    """Changes the colours of each image, see data/colour.py. Arguments, result and errors as in `augment`."""
    if not colour.active(settings):
        return images
    change = lambda image, key: colour.jitter(image.astype(jnp.float32), _draws(key), key, settings)
    return jax.vmap(change)(images, keys)


def _draws(key):
    return dict(zip(PURPOSES, jax.random.uniform(key, (len(PURPOSES),)), strict=True))


def _moved(image, draws, settings, crop):
    """Follows every output pixel back to where it comes from: crop, shift, warp, mirror, undone in this order."""
    height, width = image.shape[:2]
    y, x = jnp.arange(crop or height)[:, None], jnp.arange(crop or width)[None, :]
    if settings.area:
        y, x = _before_resized_crop(y, x, image.shape, draws, settings)
    elif crop:
        y, x = y + _place(draws["top"], height - crop), x + _place(draws["left"], width - crop)
    y, x = y - _whole(draws["rows"], settings.shift), x - _whole(draws["columns"], settings.shift)
    warp = settings.rotation or settings.scale or settings.shear
    if warp:
        y, x = _before_warp(y, x, image.shape, draws, settings)
    if settings.flip:
        x = jnp.where(draws["flip"] < 0.5, width - 1 - x, x)
    return _bilinear(image, y, x) if warp or settings.area else _pixels(image, y, x)


def _place(draw, most):
    """A draw from [0, 1) as a whole number, uniform in [0, most]."""
    return jnp.floor(draw * (most + 1)).astype(jnp.int32)


def _whole(draw, reach):
    """A draw from [0, 1) as a whole number, uniform in [-reach, reach]."""
    return jnp.floor(draw * (2 * reach + 1)).astype(jnp.int32) - reach


def _spread(draw, reach):
    """A draw from [0, 1) as a number uniform in [-reach, reach)."""
    return (2 * draw - 1) * reach


def _before_resized_crop(y, x, shape, draws, settings):
    """Maps output pixels (y, x) to their places in the image from which a random rectangle is cut and resized.

    The area is uniform in [settings.area, 1] of the image. The aspect ratio, width / height, is log-uniform in the
    part of [1 / aspect, aspect] in which such a rectangle fits, or the nearest one that fits: torchvision draws both
    anew until they fit, which makes large areas rarer. Sides and place are whole pixels. Nothing is read from outside
    the rectangle.
    """
    height, width = shape[:2]
    area = (settings.area + draws["area"] * (1 - settings.area)) * height * width
    narrowest, widest = jnp.log(area / height**2), jnp.log(width**2 / area)
    reach = math.log(settings.aspect)
    low, high = jnp.clip(-reach, narrowest, widest), jnp.clip(reach, narrowest, widest)
    aspect = jnp.exp(low + draws["aspect"] * (high - low))
    rows = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, height)
    columns = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, width)
    inside = lambda pixel, ours, theirs: jnp.clip((pixel + 0.5) * (theirs / ours) - 0.5, 0, theirs - 1)
    y = _place(draws["top"], height - rows) + inside(y, y.shape[0], rows)
    return y, _place(draws["left"], width - columns) + inside(x, x.shape[1], columns)


def _before_warp(y, x, shape, draws, settings):
    """Maps pixels (y, x) back to where they lay before shear, rotation and scale (in this order) about the centre.

    Forwards, with x to the right and y down from the centre: x += shear y; anticlockwise rotation as seen on the
    screen; times the factor. This function computes the inverse.
    """
    angle = _spread(draws["rotation"], math.radians(settings.rotation))
    factor = 1 + _spread(draws["scale"], settings.scale)
    shear = _spread(draws["shear"], settings.shear)
    centre_y, centre_x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    y, x = (y - centre_y) / factor, (x - centre_x) / factor
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = cos * y + sin * x, cos * x - sin * y
    return y + centre_y, x - shear * y + centre_x


def _bilinear(image, y, x):
    """The image at real coordinates [H, W], 0 beyond the edge."""
    top, left = jnp.floor(y), jnp.floor(x)
    down, right = y - top, x - left
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    return (
        _pixels(image, top, left, (1 - down) * (1 - right))
        + _pixels(image, top, left + 1, (1 - down) * right)
        + _pixels(image, top + 1, left, down * (1 - right))
        + _pixels(image, top + 1, left + 1, down * right)
    )


def _pixels(image, y, x, weight=1.0):
    """The image at whole coordinates, times the weight, as float32; 0 beyond the edge.

    Clipped indices and masked weights, because XLA on CPU fuses them into one loop; dynamic_slice, one-hot matmuls
    and padded images were all slower there.
    """
    height, width = image.shape[:2]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    nearest = image[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)]
    return jnp.where(inside, weight, 0.0)[..., None] * nearest
