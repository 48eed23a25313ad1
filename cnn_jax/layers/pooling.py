"""Pooling: every kind is a reduction over the same windows, behind one constructor, `make_pool`."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.layers.initializers import Normal
from cnn_jax.layers.pooling_base import Pooling, Site
from cnn_jax.layers.pooling_blur import AverageBlur, MaxBlur
from cnn_jax.layers.pooling_convolution import ConvolutionBlur, ConvolutionMax, ConvolutionPool, NoPool
from cnn_jax.layers.pooling_means import LocalImportance, LogSumExp, PowerMean, SoftPool
from cnn_jax.layers.pooling_mixed import GatedPool, MaxPlusAverage, MixedPool, TreePool
from cnn_jax.layers.pooling_polyphase import AdaptivePolyphase, LearnedPolyphase
from cnn_jax.layers.pooling_random import FractionalPool, S3Pool, StochasticPool
from cnn_jax.layers.reductions import average_pool, larger, max_pool, sum_pool
from cnn_jax.layers.windows import flatten, geometry, per_channel


class MaxPool(Pooling):
    """The largest value of each window; padding never wins."""

    before_activation = True
    title = "max pooling"

    def pool(self, x):
        return max_pool(x, self.geometry)


class MinPool(Pooling):
    """The smallest value of each window; padding never wins."""

    before_activation = True
    title = "min pooling"

    def pool(self, x):
        return -max_pool(-x, self.geometry)


class AveragePool(Pooling):
    """The mean of each window, over all its pixels or only over those inside the map."""

    title = "average pooling"
    reads = ("count_padding",)

    def __init__(self, site: Site):
        super().__init__(site)
        self.count_padding = site.settings.count_padding

    def pool(self, x):
        return average_pool(x, self.geometry, self.count_padding)


class Subsample(Pooling):
    """The 1998 subsampling: the sum of each window times a trainable coefficient, plus a trainable bias, per map.

    Parameters: coefficient [channels], started so that the layer averages; bias [channels], started at 0.
    """

    activation_follows = True
    title = "subsampling"

    def __init__(self, site: Site):
        super().__init__(site)
        channels = self.input_shape[2]
        self.coefficient = nnx.Param(jnp.full(channels, 1 / math.prod(self.geometry.window)))
        self.bias = nnx.Param(jnp.zeros(channels))

    def pool(self, x):
        layout = self.geometry.layout
        coefficient, bias = (per_channel(values[...], layout) for values in (self.coefficient, self.bias))
        return sum_pool(x, self.geometry) * coefficient + bias


class PyramidPool(Pooling):
    """Spatial pyramid pooling (He et al. 2014): the largest value of each cell of grids of 1x1, 2x2, ... over the map.

    The output is a vector [N, features], for a dense layer. Cells are as even as whole pixels allow, and share a row
    or column where the grid does not divide the map.
    """

    title = "pyramid max pooling"
    reads = ("levels",)

    def __init__(self, site: Site):
        super().__init__(site)
        levels = site.settings.levels
        height, width, channels = self.input_shape
        if levels > min(height, width):
            raise UsageError(f"{self.name}: pool.levels = {levels} is too fine a grid for maps of {height}x{width}")
        self.grids = tuple(range(1, levels + 1))
        self.output_shape = (channels * sum(side**2 for side in self.grids),)

    def describe(self) -> str:
        return f"{self.title} on grids of {', '.join(f'{side}x{side}' for side in self.grids)}"

    def pool(self, x):
        down, across = self.geometry.axes
        grids = [_cells(_cells(x, across, side), down, side) for side in self.grids]
        return jnp.concatenate([flatten(grid, self.geometry.layout) for grid in grids], axis=1)


def _cells(x, axis, count):
    """The largest value of each of `count` cells along an axis: cell i spans the i-th of `count` equal parts."""
    size = x.shape[axis]
    lines = [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in range(size)]
    cells = [lines[i * size // count : -(-(i + 1) * size // count)] for i in range(count)]
    return jnp.concatenate([functools.reduce(larger, cell) for cell in cells], axis)


POOLS = {
    "max": MaxPool,
    "average": AveragePool,
    "min": MinPool,
    "subsample": Subsample,
    "lp": PowerMean,
    "log_sum_exp": LogSumExp,
    "soft": SoftPool,
    "lip": LocalImportance,
    "stochastic": StochasticPool,
    "max_average": MaxPlusAverage,
    "mixed": MixedPool,
    "gated": GatedPool,
    "tree": TreePool,
    "fractional": FractionalPool,
    "s3": S3Pool,
    "conv": ConvolutionPool,
    "conv_max": ConvolutionMax,
    "strided": NoPool,
    "max_blur": MaxBlur,
    "average_blur": AverageBlur,
    "conv_blur": ConvolutionBlur,
    "aps": AdaptivePolyphase,
    "lps": LearnedPolyphase,
    "pyramid": PyramidPool,
}
PLACE = ("kind", "last", "window", "stride", "padding")  # settings that every network has its own defaults for


def make_pool(
    name: str,
    input_shape: tuple[int, int, int],
    settings: config.Pool,
    layout: str = "NHWC",
    *,
    last: bool = False,
    key: jax.Array | None = None,
    init: str | Normal = "glorot_uniform",
    activation: str = "relu",
) -> Pooling:
    """The pooling layer that the settings ask for.

    Args:
      name: for messages, tables, initial weights and random draws.
      input_shape: height, width, channels.
      settings: of the pooling.
      layout: "NHWC" or "CHWN".
      last: whether a dense layer comes next, and `settings.last` applies.
      key: PRNG key of the model's initial weights; None does for kinds without any.
      init: of convolutions in place of pooling, as `initializers.weights_and_bias`.
      activation: of the network.

    Raises:
      UsageError: the kind is unknown, no window fits, or a setting does not apply.
    """
    pool = pool_class(name, settings, last)
    if pool is PyramidPool and not last:
        raise UsageError(f"{name}: a pyramid makes vectors, and a convolution comes next; use it as pool.last")
    _check_that_settings_apply(name, settings)
    whole = settings.window == 0 or (last and settings.last != "")
    window = tuple(input_shape[:2]) if whole else settings.window
    stride = 1 if whole or pool.stride_1_windows else settings.stride
    padding = "valid" if whole else settings.padding
    if pool.stride_before:
        window, stride, padding = 1, 1, "valid"
    fill = settings.fill if "fill" in pool.reads else "zero"
    placed = geometry(name, input_shape, window, stride, padding, layout, fill)
    for sides, side in zip(placed.pads, placed.window):
        if max(sides) >= side:
            raise UsageError(f"{name}: {placed.describe()}: the padding must be smaller than the window")
    return pool(Site(name, placed, settings, key, init, activation))


def pool_class(name: str, settings: config.Pool, last: bool) -> type[Pooling]:
    """The kind of pooling that the settings ask for at this place; arguments as for `make_pool`.

    Raises:
      UsageError: the kind is unknown.
    """
    kind = settings.last if last and settings.last else settings.kind
    if kind not in POOLS:
        raise UsageError(f"{name}: pool.kind = {kind!r} must be one of {', '.join(POOLS)}")
    return POOLS[kind]


def _check_that_settings_apply(name, settings):
    kinds = [kind for kind in (settings.kind, settings.last) if kind]
    read = {field for kind in kinds for field in (*PLACE, *POOLS[kind].reads)}
    default = config.Pool()
    for field, value in vars(settings).items():
        if field not in read and value != getattr(default, field):
            users = ", ".join(kind for kind, pool in POOLS.items() if field in pool.reads)
            raise UsageError(
                f"{name}: pool.{field} = {value!r} does not apply to pool.kind = {settings.kind!r}; "
                f"it is read by {users}"
            )
