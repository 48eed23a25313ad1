"""Mixup and CutMix: each example of a batch mixed with a partner, images and targets alike, on the device."""

import jax
import jax.numpy as jnp

from cnn_jax import config, randomness

PURPOSES = ("radius", "angle", "row", "column", "choice")  # one number in [0, 1) each, all always drawn


def mix(images, targets, keys, settings: config.Augment):
    """Mixes each example with its partner by mixup (Zhang 2018) or CutMix (Yun 2019), whichever is switched on.

    The partner is the neighbour, 1 of 0 and 0 of 1, 3 of 2 and so on: the devices that share a batch then need
    nothing from one another. With both switched on, each example takes one of the two, with probability 1/2. An
    example's result depends on its own key and on the two of the pair only.

    Args:
      images: float32 [N, H, W, C], prepared as the network sees them; N even.
      targets: float32 [N, classes], the probabilities that the network is to learn.
      keys: [N] typed PRNG keys, one per example.
      settings: mixup and cutmix, the parameter a of the Beta(a, a) that an example's own share is drawn from.

    Returns:
      images and targets, of the same shapes; as they are when both are switched off.

    Raises:
      ValueError: N is odd.
    """
    if not (settings.mixup or settings.cutmix):
        return images, targets
    if len(images) % 2:
        raise ValueError(f"mixup and cutmix mix pairs: a batch of {len(images)} examples is odd")
    weights, shares = jax.vmap(lambda key: _own_part(key, images.shape[1:3], settings))(keys)
    return _with_partners(images, weights[..., None]), _with_partners(targets, shares[:, None])


def _with_partners(values, weights):
    """`weights` parts of each value, the rest of its partner's."""
    partners = values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)
    return weights * values + (1 - weights) * partners


def _own_part(key, shape, settings):
    """Returns the weights that an example keeps: of its pixels, [H, W] (mixup: [1, 1]), and of its target."""
    draws = dict(
        zip(PURPOSES, jax.random.uniform(jax.random.fold_in(key, randomness.MIXING), (len(PURPOSES),)), strict=True)
    )
    if not settings.cutmix:
        return _blended(_share(draws, settings.mixup))
    cut = _cut(_share(draws, settings.cutmix), draws, shape)
    if not settings.mixup:
        return cut
    blended = _blended(_share(draws, settings.mixup))
    return tuple(jnp.where(draws["choice"] < 0.5, *pair) for pair in zip(blended, cut, strict=True))


def _share(draws, a):
    """Two draws from [0, 1) as one from Beta(a, a), with no rejection: half of 1 + t / sqrt(2a + t^2).

    Here t is Student's with 2a degrees of freedom, made by Bailey's polar method (1994); Devroye 1996 has both.
    """
    cosine = jnp.cos(2 * jnp.pi * draws["angle"])
    square = jnp.expm1(-jnp.log(draws["radius"]) / a) * cosine**2  # t^2 / 2a; infinite for small a, which is right
    return 0.5 + 0.5 * jnp.sign(cosine) / jnp.sqrt(1 + 1 / square)


def _blended(share):
    return jnp.full((1, 1), share), share


def _cut(share, draws, shape):
    """CutMix: what is left of an example beside the partner's box.

    The box has the sides of the image times sqrt(1 - share), rounded down to an even number of pixels, and a centre
    that is uniform over the image's pixels; what juts out is cut off, and the target's share follows the real area.
    """
    sides = jnp.asarray(shape)
    centre = jnp.floor(jnp.stack([draws["row"], draws["column"]]) * sides)
    half = jnp.floor(sides * jnp.sqrt(1 - share)) // 2
    (top, left), (bottom, right) = jnp.clip(centre - half, 0, sides), jnp.clip(centre + half, 0, sides)
    y, x = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])[None, :]
    box = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return jnp.where(box, 0.0, 1.0), 1 - (bottom - top) * (right - left) / (shape[0] * shape[1])
