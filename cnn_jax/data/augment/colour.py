"""Random changes of an image's colours, on the device. Every operation is torchvision's of the same name, on floats.

Planes are float32 [3, H, W], red, green and blue in stored units 0..255.
"""

import jax
import jax.numpy as jnp

from cnn_jax import config, randomness

GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue, as torchvision rounds them (ITU-R BT.601)

# Principal components of ImageNet's RGB values, scaled to 0..1, and the variance along each, the eigenvalue of their
# covariance: the constants of fb.resnet.torch, used ever since for the colour noise of Krizhevsky 2012, section 4.1.
# One component per column. (200 images of ImageNet give 0.1917, 0.0168 and 0.0043.)
COMPONENTS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
EIGENVALUES = (0.2175, 0.0188, 0.0045)


def active(settings: config.Augment) -> bool:
    """Tells whether any change of colours is switched on; such settings need images of three channels."""
    return any((settings.pca, settings.brightness, settings.contrast, settings.saturation, settings.hue))


def jitter(image, draws, key, settings: config.Augment):
    """Changes brightness, contrast, saturation and hue, in this order, then adds the colour noise.

    Each of the four ends within 0..255; the noise is not clipped, as in 2012.

    Args:
      image: float32 [H, W, 3], 0..255.
      draws: numbers in [0, 1) under "brightness", "contrast", "saturation" and "hue".
      key: the example's PRNG key, for the noise.
      settings: which changes, and their ranges.

    Returns:
      float32 [H, W, 3].

    Raises:
      ValueError: the image does not have three channels.
    """
    if image.shape[-1] != 3:
        raise ValueError(f"colours can only be changed in images of 3 channels, not {image.shape[-1]}")
    planes = jnp.moveaxis(image, -1, 0)  # XLA on CPU computes a chain of changes six times as fast on whole planes
    around = lambda name, reach: (2 * draws[name] - 1) * reach
    if settings.brightness:
        planes = blend(planes, 0.0, 1 + around("brightness", settings.brightness))
    if settings.contrast:
        planes = blend(planes, jnp.mean(grey(planes)), 1 + around("contrast", settings.contrast))
    if settings.saturation:
        planes = blend(planes, grey(planes), 1 + around("saturation", settings.saturation))
    if settings.hue:
        planes = turn_hue(planes, around("hue", settings.hue))
    if settings.pca:
        normals = jax.random.normal(jax.random.fold_in(key, randomness.COLOUR_NOISE), (3,))
        planes = planes + colour_noise(settings.pca * normals, settings.pca_reading)[:, None, None]
    return jnp.moveaxis(planes, 0, -1)


def blend(planes, other, factor):
    """Mixes `factor` parts of the planes with 1 - factor of the other, clipped to 0..255; above 1 it leads away."""
    return jnp.clip(factor * planes + (1 - factor) * other, 0, 255)


def grey(planes):
    """Returns the greyscale image, [H, W]."""
    red, green, blue = planes
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def turn_hue(planes, turn):
    """Returns every hue moved on round the circle of HSV, saturation and value kept.

    Args:
      planes: float32 [3, H, W], 0..255.
      turn: part of a full turn; positive from red to green.

    Returns:
      float32 [3, H, W], 0..255.
    """
    red, green, blue = planes
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    first, second = value == red, value == green
    slope = jnp.where(first, green - blue, jnp.where(second, blue - red, red - green))
    start = jnp.where(first, 0.0, jnp.where(second, 2.0, 4.0))
    sixths = start + slope / jnp.where(chroma > 0, chroma, 1.0) + 6 * turn
    # Seen from where a channel begins to fall: down in the first sixth of the circle, low for two, up in the fourth.
    along = sixths + jnp.asarray([5.0, 3.0, 1.0])[:, None, None]
    along = along - 6 * jnp.floor(along / 6)  # many times as fast as % on CPU
    return value - chroma * jnp.clip(jnp.minimum(along, 4 - along), 0, 1)


def colour_noise(amounts, reading: str):
    """Computes what is added to every pixel, in units of 0..255: the sum of components times their factors and amounts.

    The paper's formula multiplies by the eigenvalues, and the code of its authors by their square roots: 2.1, 7.3 and
    15 times as much along the three components.

    Args:
      amounts: [3], one normal number for each component; their standard deviation was 0.1 in 2012.
      reading: "community": the factors are the eigenvalues; "2012": their square roots.

    Returns:
      float32 [3], for red, green and blue.
    """
    eigenvalues = jnp.asarray(EIGENVALUES)
    factors = jnp.sqrt(eigenvalues) if reading == "2012" else eigenvalues
    return 255 * jnp.asarray(COMPONENTS) @ (factors * amounts)


def shrink(images, settings: config.Augment):
    """Divides normalised images as the code of 2012 does after its noise, which has widened their range."""
    return images / (1 + settings.pca) if settings.pca and settings.pca_reading == "2012" else images
