"""Reductions of pooling windows: sums, means, maxima, weighted means, in either layout and with fast gradients."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from cnn_jax.layers.windows import Geometry, per_pixel

NOTHING = -1e30  # as a logarithm: so little that it adds nothing, and yet a finite number


def wide(x):
    """Returns maps of fewer bits in float32: sums of bfloat16 go wrong from 256 terms on, or sooner."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def sum_pool(x, geometry: Geometry, fill: str = "zero"):
    """Returns the sum of each window, over what lies beyond the edge as well; float32."""
    return _reduce_windows(jnp.add, geometry.pad(wide(x), fill), geometry)


def average_pool(x, geometry: Geometry, count_padding: bool = False):
    """Returns the mean of each window.

    Args:
      x: maps.
      geometry: the windows.
      count_padding: divide by the whole window, padding included (True), or by its pixels inside the map (False).
    """
    height, width = geometry.window
    if count_padding or not geometry.is_padded:
        return (sum_pool(x, geometry) / (height * width)).astype(x.dtype)
    inside = per_pixel(geometry.inside, geometry.layout)  # pixels of each window
    return (sum_pool(x, geometry) / jnp.maximum(inside, 1)).astype(x.dtype)


def max_pool(x, geometry: Geometry, fill: str = "zero"):
    """Returns the largest value of each window. NaN wins over everything.

    The gradient goes to the first largest element of each window, row by row, as in lax.reduce_window; that one's
    own gradient is slow on CPU and, on GPU, adds in no fixed order (benchmarks/max_pool_gradient.py).

    Args:
      x: maps.
      geometry: the windows.
      fill: what lies beyond the edge; "zero": nothing, padding never wins.
    """
    return _reduce_windows(larger, geometry.pad(x, fill, value=-jnp.inf), geometry)


def _reduce_windows(operation, padded, geometry):
    for span in reversed(geometry.spans):  # along each row, then down: of equals the first is kept, row by row
        padded = functools.reduce(operation, span.windows(padded))
    return padded


@jax.custom_jvp
def larger(first, second):
    """Returns the larger of two; the gradient of equals goes to the first."""
    return jnp.maximum(first, second)


@larger.defjvp
def _larger_jvp(values, tangents):
    first, second = values
    return jnp.maximum(first, second), lax.select(second > first, tangents[1], tangents[0])  # first wins a tie


def elements(padded, geometry: Geometry) -> list:
    """Returns `Geometry.windows`, cut one axis at a time: where windows overlap, its gradient is the faster one."""
    down, across = geometry.spans
    return [element for row in down.windows(padded) for element in across.windows(row)]


def soft_pool(logits, geometry: Geometry, values=None):
    """Returns the log sum exp of the logits of each window and, of the values, the mean weighted by exp(logits).

    In float32, and no number is too large or too small for it. Padding has no weight.

    Args:
      logits: maps.
      geometry: the windows.
      values: maps of the same shape, or None.

    Returns:
      The logarithm of the sum, and the weighted mean (None without values); float32.
    """
    logits = geometry.pad(logits.astype(jnp.float32), value=NOTHING)
    values = None if values is None else geometry.pad(values.astype(jnp.float32))
    for span in reversed(geometry.spans):
        terms = span.windows(logits)
        top = lax.stop_gradient(functools.reduce(jnp.maximum, terms))
        weights = [jnp.exp(term - top) for term in terms]
        total = sum(weights)
        if values is not None:
            values = sum(weight * value for weight, value in zip(weights, span.windows(values))) / total
        logits = top + jnp.log(total)
    return logits, values


def log_mean_exp_pool(x, beta, geometry: Geometry):
    """Returns log(mean of exp(beta x)) / beta over the pixels of each window that lie inside the map; float32."""
    total, _ = soft_pool(beta * x.astype(jnp.float32), geometry)
    return (total - jnp.log(per_pixel(geometry.inside, geometry.layout))) / beta


def binomial(size: int) -> tuple[float, ...]:
    """Returns the binomial filter of a size, which sums to 1: (1), (1, 1) / 2, (1, 2, 1) / 4, ..."""
    return tuple(math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size))


def blur(x, geometry: Geometry, fill: str):
    """Returns each map filtered with the binomial filter of the window's size, along both axes."""
    padded = geometry.pad(wide(x), fill)
    for span in reversed(geometry.spans):
        padded = sum(weight * element for weight, element in zip(binomial(span.window), span.windows(padded)))
    return padded.astype(x.dtype)
