"""From stored pixels to what the network sees, on the device: canvas, random changes, range.

The order is to_canvas -> float32 -> augment -> normalise, so that black is 0 wherever `augment` fills.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from cnn_jax import config

# One number in [0, 1) per purpose and example. All are always drawn, and each purpose keeps its place: switching
# one change on or off leaves the draws of the others as they were.
PURPOSES = ("rows", "columns", "flip", "rotation", "scale", "shear")


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


def normalise(images, low: float, high: float):
    """Maps 0..255 linearly to low..high.

    Args:
      images: any shape and type, stored units 0..255.
      low: what 0 becomes.
      high: what 255 becomes.

    Returns:
      float32 of the same shape.
    """
    return images.astype(jnp.float32) / 255 * (high - low) + low


def augment(images, keys, settings: config.Augment):
    """Changes each image at random: mirrored, then rotated, scaled and sheared about its centre, then shifted.

    Shifts and mirror images alone move whole pixels and change no value; the rest samples bilinearly. What comes
    from beyond the edge is 0. An example's result depends on its own pixels and key only.

    Args:
      images: float32 [N, H, W, C], stored units 0..255.
      keys: [N] typed PRNG keys, one per example.
      settings: which changes, and their ranges; with all of them off the images are returned as they are.

    Returns:
      float32 [N, H, W, C], stored units 0..255.
    """
    if not any(dataclasses.astuple(settings)):
        return images
    return jax.vmap(lambda image, key: _augment_one(image, key, settings))(images, keys)


def _augment_one(image, key, settings):
    """Follows every output pixel back to where it comes from: shift, warp, mirror, undone in this order."""
    draws = dict(zip(PURPOSES, jax.random.uniform(key, (len(PURPOSES),)), strict=True))
    y, x = jnp.arange(image.shape[0])[:, None], jnp.arange(image.shape[1])[None, :]
    y, x = y - _whole(draws["rows"], settings.shift), x - _whole(draws["columns"], settings.shift)
    warp = settings.rotation or settings.scale or settings.shear
    if warp:
        y, x = _before_warp(y, x, image.shape, draws, settings)
    if settings.flip:
        x = jnp.where(draws["flip"] < 0.5, image.shape[1] - 1 - x, x)
    return _bilinear(image, y, x) if warp else _pixels(image, y, x)


def _whole(draw, reach):
    """A draw from [0, 1) as a whole number, uniform in [-reach, reach]."""
    return jnp.floor(draw * (2 * reach + 1)).astype(jnp.int32) - reach


def _spread(draw, reach):
    """A draw from [0, 1) as a number uniform in [-reach, reach)."""
    return (2 * draw - 1) * reach


def _before_warp(y, x, shape, draws, settings):
    """Where the pixels at (y, x) lay before shear, rotation and scale (in this order) about the centre.

    Forwards, with x to the right and y down from the centre: x += shear y; anticlockwise rotation as seen on the
    screen; times the factor. Here backwards.
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
    """The image at whole coordinates, times the weight; 0 beyond the edge.

    Clipped indices and masked weights, because XLA on CPU fuses them into one loop; dynamic_slice, one-hot matmuls
    and padded images were all slower there.
    """
    height, width = image.shape[:2]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    nearest = image[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)]
    return jnp.where(inside, weight, 0.0)[..., None] * nearest
