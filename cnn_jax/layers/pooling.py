"""Pooling: every kind is a reduction over the same windows, behind one constructor, `make_pool`."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.layers.windows import Geometry, geometry, per_channel


def make_pool(name: str, input_shape: tuple[int, int, int], settings: config.Pool, layout: str = "NHWC") -> nnx.Module:
    """The pooling layer that the settings ask for.

    Every kind has `name`, `input_shape`, `output_shape` (height, width, channels), `multiply_adds`, and says what
    surrounds it: `before_activation`, whether pooling first and then applying a monotone activation gives the same
    result, and `squashed`, whether an activation follows it as one does in 1998.

    Raises:
      UsageError: the kind is unknown or no window fits.
    """
    if settings.kind not in POOLS:
        raise UsageError(f"{name}: pool.kind = {settings.kind!r} must be one of {', '.join(POOLS)}")
    whole = settings.window == 0
    placed = geometry(
        name,
        input_shape,
        tuple(input_shape[:2]) if whole else settings.window,
        1 if whole else settings.stride,
        "valid" if whole else settings.padding,
        layout,
    )
    for sides, window in zip(placed.pads, placed.window):
        if max(sides) >= window:
            raise UsageError(f"{name}: {placed.describe()}: the padding must be smaller than the window")
    return POOLS[settings.kind](name, placed, settings)


class _Common:
    """What every kind of pooling has; no pooling by itself."""

    multiply_adds = 0  # only sums and comparisons, as the literature counts
    before_activation = False
    squashed = False

    def _place(self, name: str, placed: Geometry):
        self.name = name
        self.geometry = placed
        self.input_shape = placed.input_shape
        self.output_shape = (*placed.output_size, placed.input_shape[2])

    def describe(self) -> str:
        """What the layer does, in words."""
        return f"{self.title} {self.geometry.describe()}"


class MaxPool(_Common, nnx.Module):
    """The largest value of each window; padding never wins."""

    before_activation = True
    title = "max pooling"

    def __init__(self, name: str, placed: Geometry, settings: config.Pool):
        del settings
        self._place(name, placed)

    def __call__(self, x):
        return max_pool(x, self.geometry)


class MinPool(_Common, nnx.Module):
    """The smallest value of each window; padding never wins."""

    before_activation = True
    title = "min pooling"

    def __init__(self, name: str, placed: Geometry, settings: config.Pool):
        del settings
        self._place(name, placed)

    def __call__(self, x):
        return -max_pool(-x, self.geometry)


class AveragePool(_Common, nnx.Module):
    """The mean of each window, over all its pixels or only over those inside the map."""

    title = "average pooling"

    def __init__(self, name: str, placed: Geometry, settings: config.Pool):
        self._place(name, placed)
        self.count_padding = settings.count_padding

    def __call__(self, x):
        return average_pool(x, self.geometry, self.count_padding)


class Subsample(_Common, nnx.Module):
    """The 1998 subsampling: the sum of each window times a trainable coefficient, plus a trainable bias, per map.

    Parameters: coefficient [channels], started so that the layer averages; bias [channels], started at 0.
    """

    squashed = True
    title = "subsampling"

    def __init__(self, name: str, placed: Geometry, settings: config.Pool):
        del settings
        self._place(name, placed)
        channels = placed.input_shape[2]
        self.coefficient = nnx.Param(jnp.full(channels, 1 / (placed.window[0] * placed.window[1])))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x):
        layout = self.geometry.layout
        coefficient, bias = (per_channel(values[...], layout) for values in (self.coefficient, self.bias))
        return sum_pool(x, self.geometry) * coefficient + bias


POOLS = {"max": MaxPool, "average": AveragePool, "min": MinPool, "subsample": Subsample}


def sum_pool(x, geometry: Geometry):
    """The sum of each window; padding counts as 0."""
    return _reduce_windows(jnp.add, geometry.pad(x), geometry)


def average_pool(x, geometry: Geometry, count_padding: bool = False):
    """The mean of each window.

    Args:
      x: maps.
      geometry: the windows.
      count_padding: divide by the whole window, padding included (True), or by its pixels inside the map (False).
    """
    height, width = geometry.window
    if count_padding or not geometry.is_padded:
        return sum_pool(x, geometry) / (height * width)
    ones = jnp.ones([size if axis in "HW" else 1 for axis, size in zip(geometry.layout, x.shape)], x.dtype)
    return sum_pool(x, geometry) / jnp.maximum(sum_pool(ones, geometry), 1)


def max_pool(x, geometry: Geometry):
    """The largest value of each window. NaN wins over everything.

    The gradient goes to the first largest element of each window, row by row, as in lax.reduce_window; that one's
    own gradient is slow on CPU and, on GPU, adds in no fixed order (benchmarks/max_pool_gradient.py).
    """
    return _reduce_windows(_larger, geometry.pad(x, value=-jnp.inf), geometry)


def _reduce_windows(operation, padded, geometry):
    for span in reversed(geometry.spans):  # along each row, then down: of equals the first is kept, row by row
        padded = functools.reduce(operation, span.windows(padded))
    return padded


@jax.custom_jvp
def _larger(first, second):
    return jnp.maximum(first, second)


@_larger.defjvp
def _larger_jvp(values, tangents):
    first, second = values
    return jnp.maximum(first, second), lax.select(second > first, tangents[1], tangents[0])  # first wins a tie
