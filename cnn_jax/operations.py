"""The operations of the layers on images of the reader's own: padding, pooling, convolution, augmentation.

They are the layers that the networks are made of, called with images in place of a network's maps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import config
from cnn_jax.config.rules import broken_rules
from cnn_jax.config.sizes import Pads
from cnn_jax.data.augment.transforms import centre_crop, move, recolour, to_canvas
from cnn_jax.errors import UsageError
from cnn_jax.layers import convolution
from cnn_jax.layers.pooling import make_pool
from cnn_jax.layers.windows import geometry


def pad(images, padding: str | int | Pads, fill: str = "zero", window: int = 1, stride: int = 1) -> np.ndarray:
    """Pads images as a layer would.

    Args:
      images: numbers [height, width], [height, width, channels] or [N, height, width, channels].
      padding: "valid" (none), "same", "full", or pixels: 2, "rows,columns" or "top,bottom,left,right".
      fill: what lies beyond the edge: "zero", "reflect", "replicate", "circular", "symmetric" or "mean".
      window: side of the window of the layer, which "same" and "full" go by.
      stride: of the layer, which "same" goes by.

    Returns:
      The padded images, float32, with as many axes.

    Raises:
      UsageError: there is no such padding or fill, or the images have too few pixels to copy from.
    """
    maps, like = _maps(images)
    if fill in ("partial", "random"):
        raise UsageError(f'fill = {fill!r} pads with zeros, and is more only in a layer; use fill = "zero"')
    return like(geometry("images", maps.shape[1:], window, stride, padding, fill=fill).pad(maps, fill))


def pool(images, kind: str = "max", window: int = 2, stride: int | None = None, padding="valid", **rest) -> np.ndarray:
    """Pools images.

    Args:
      images: numbers [height, width], [height, width, channels] or [N, height, width, channels].
      kind: "max", "average", "min" or another of `model.pool.kind`, see docs/settings.md; without chance, and with
        weights as they begin.
      window: side of the windows, pixels; 0: the whole image.
      stride: step between them; None: as wide as they are.
      padding: as of `pad`.
      rest: settings that the kind alone has, such as p=2.0 of "lp".

    Returns:
      The pooled images, float32, with as many axes.

    Raises:
      UsageError: there is no such kind or setting, or no window fits.
    """
    maps, like = _maps(images)
    stride = stride or window or 1
    try:
        settings = config.Pool.of(kind=kind, window=window, stride=stride, padding=str(padding), **rest)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if broken := broken_rules(settings):
        raise UsageError("\n".join(broken))
    if settings.kind.stride_before:
        raise UsageError(f"kind = {kind!r} is no pooling: in a network the convolution before it has the stride")
    layer = make_pool("images", maps.shape[1:], settings, key=jax.random.key(0), init="he_normal")
    return like(layer(maps))


def convolve(images, kernel, stride: int = 1, padding: str | int | Pads = "valid", fill: str = "zero") -> np.ndarray:
    """Convolves images with one kernel, each channel by itself (a cross-correlation, as everywhere in deep learning).

    Args:
      images: numbers [height, width], [height, width, channels] or [N, height, width, channels].
      kernel: numbers [height, width].
      stride: step between windows.
      padding: as of `pad`.
      fill: likewise, or "partial".

    Returns:
      The images, float32, with as many axes.

    Raises:
      UsageError: the kernel is no matrix, or does not fit.
    """
    maps, like = _maps(images)
    weights = jnp.asarray(kernel, jnp.float32)
    if weights.ndim != 2:
        raise UsageError(f"kernel has the shape {weights.shape}, and must be [height, width]")
    if fill == "random":
        raise UsageError('fill = "random" draws in training, and is zero otherwise; use fill = "zero"')
    channels = maps.shape[3]
    placed = geometry("kernel", maps.shape[1:], weights.shape, stride, padding, fill=fill)
    each = jnp.repeat(weights[:, :, None, None], channels, axis=3)
    return like(convolution.convolve(maps, each, placed, fill, groups=channels))


def augment(images, settings: config.Config, seed: int = 0) -> np.ndarray:
    """Changes images as training changes them: crop, mirror image, rotation, scale, colour; before normalisation.

    Args:
      images: uint8 [N, height, width, channels], as stored.
      settings: of an experiment; `augment`, `data.size` and `data.crop` are read.
      seed: of the draws; each image has its own.

    Returns:
      uint8 [N, side, side, channels].

    Raises:
      UsageError: the images are no bytes, or smaller than the crop.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise UsageError(f"images must be uint8 [N, height, width, channels], not {images.dtype} {list(images.shape)}")
    stored = to_canvas(images, settings.data.size)
    if settings.data.crop > min(stored.shape[1:3]):
        raise UsageError(f"data.crop = {settings.data.crop} is larger than the images, {stored.shape[1:3]}")
    keys = jax.random.split(jax.random.key(seed), len(images))
    if settings.augment == config.Augment() and not settings.data.crop:
        changed = centre_crop(stored, 0)
    else:
        changed = recolour(move(stored, keys, settings.augment, settings.data.crop), keys, settings.augment)
    return np.asarray(jnp.clip(jnp.round(changed), 0, 255).astype(jnp.uint8))


def _maps(images):
    """Images as float32 maps [N, height, width, channels], and what gives a result the axes that they had."""
    given = np.asarray(images)
    if given.ndim not in (2, 3, 4) or given.size == 0 or given.dtype.kind not in "biuf":
        raise UsageError(
            "images must be numbers [height, width], [height, width, channels] or [N, height, width, channels], not "
            f"{given.dtype} {list(given.shape)}"
        )
    maps = given.astype(np.float32)
    maps = maps[None, :, :, None] if given.ndim == 2 else maps[None] if given.ndim == 3 else maps

    def like(result):
        found = np.asarray(result)
        if found.ndim != 4:
            return found if given.ndim == 4 else found[0]
        return found[0, :, :, 0] if given.ndim == 2 else found[0] if given.ndim == 3 else found

    return jnp.asarray(maps), like
