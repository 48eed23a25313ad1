"""The plain kinds of pooling: maximum, minimum, average, the subsampling of 1998, and the pyramid."""

import functools
import math

import jax.numpy as jnp
from flax import nnx
from jax import lax

from cnn_jax.layers.pooling.base import PoolContext, Pooling
from cnn_jax.layers.pooling.reductions import average_pool, larger, max_pool, sum_pool
from cnn_jax.layers.windows import flatten, per_channel


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

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.count_padding = site.kind.count_padding

    def pool(self, x):
        return average_pool(x, self.geometry, self.count_padding)


class Subsample(Pooling):
    """The 1998 subsampling: the sum of each window times a trainable coefficient, plus a trainable bias, per map.

    Parameters: coefficient [channels], started so that the layer averages; bias [channels], started at 0.
    """

    activation_follows = True
    title = "subsampling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        channels = self.input_shape[2]
        self.coefficient = nnx.Param(jnp.full(channels, 1 / math.prod(self.geometry.window)))
        self.bias = nnx.Param(jnp.zeros(channels))

    def pool(self, x):
        layout = self.geometry.layout
        coefficient, bias = (per_channel(values[...], layout) for values in (self.coefficient, self.bias))
        return (sum_pool(x, self.geometry) * coefficient + bias).astype(x.dtype)


class PyramidPool(Pooling):
    """Spatial pyramid pooling (He et al. 2014): the largest value of each cell of grids of 1x1, 2x2, ... over the map.

    The output is a vector [N, features], for a dense layer. Cells are as even as whole pixels allow, and share a row
    or column where the grid does not divide the map.
    """

    title = "pyramid max pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.grids = tuple(range(1, site.kind.levels + 1))

    def words(self) -> str:
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
