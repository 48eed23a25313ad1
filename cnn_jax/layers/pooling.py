"""Pooling: every kind is a reduction over the same windows, behind one constructor, `make_pool`."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from cnn_jax import config
from cnn_jax.config import poolings
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

    def __init__(self, site: Site):
        super().__init__(site)
        self.count_padding = site.kind.count_padding

    def pool(self, x):
        return average_pool(x, self.geometry, self.count_padding)


class Subsample(Pooling):
    """The 1998 subsampling: the sum of each window times a trainable coefficient, plus a trainable bias, per map.

    Parameters: coefficient [channels], started so that the layer averages; bias [channels], started at 0.
    """

    squashed = True
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

    def __init__(self, site: Site):
        super().__init__(site)
        levels = site.kind.levels
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
    poolings.Max: MaxPool,
    poolings.Average: AveragePool,
    poolings.Min: MinPool,
    poolings.Subsample: Subsample,
    poolings.Lp: PowerMean,
    poolings.LogSumExp: LogSumExp,
    poolings.Soft: SoftPool,
    poolings.Lip: LocalImportance,
    poolings.Stochastic: StochasticPool,
    poolings.MaxAverage: MaxPlusAverage,
    poolings.Mixed: MixedPool,
    poolings.Gated: GatedPool,
    poolings.Tree: TreePool,
    poolings.Fractional: FractionalPool,
    poolings.S3: S3Pool,
    poolings.Conv: ConvolutionPool,
    poolings.ConvMax: ConvolutionMax,
    poolings.Strided: NoPool,
    poolings.MaxBlur: MaxBlur,
    poolings.AverageBlur: AverageBlur,
    poolings.ConvBlur: ConvolutionBlur,
    poolings.Aps: AdaptivePolyphase,
    poolings.Lps: LearnedPolyphase,
    poolings.Pyramid: PyramidPool,
}


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
      UsageError: no window fits, or the padding is as large as the window.
    """
    ends = last and settings.last is not None
    kind = settings.last if ends else settings.kind
    pool = POOLS[type(kind)]
    whole = settings.window == 0 or ends
    window = tuple(input_shape[:2]) if whole else settings.window
    stride = 1 if whole or pool.dense else settings.stride
    padding = "valid" if whole else settings.padding
    if pool is NoPool:
        window, stride, padding = 1, 1, "valid"
    fill = getattr(kind, "fill", "zero")
    placed = geometry(name, input_shape, window, stride, padding, layout, fill)
    for sides, side in zip(placed.pads, placed.window):
        if max(sides) >= side:
            raise UsageError(f"{name}: {placed.describe()}: the padding must be smaller than the window")
    return pool(Site(name, placed, settings, kind, key, init, activation))


def stride_before(settings: config.Pool, last: bool = False) -> int:
    """The factor by which a pooling raises the stride of the convolution before it: above 1 where it is left out.

    Args:
      settings: of the pooling.
      last: as for `make_pool`.
    """
    left_out = isinstance(settings.kind, poolings.Strided) and not (last and settings.last)
    return settings.stride if left_out else 1
