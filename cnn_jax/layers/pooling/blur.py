"""Anti-aliased pooling: blurred before it is sampled (Zhang 2019)."""

import math

from cnn_jax.layers.pooling.base import PoolContext, Pooling
from cnn_jax.layers.pooling.reductions import blur, max_pool, sum_pool
from cnn_jax.layers.windows import on_layout


class Blurred(Pooling):
    """Base class of blurred pooling; no pooling by itself.

    Windows lie at every pixel. What is found there is filtered with a binomial filter, and the stride is that of the
    filter. Output sizes are those of the same pooling without blur.
    """

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.fill = site.kind.fill
        self.blurred = on_layout(site.kind.blurred(self.name, self.geometry, self.stride(site)), self.geometry.layout)

    def stride(self, site):
        """Returns the stride of the filter."""
        return site.settings.stride

    def words(self) -> str:
        return f"{super().words()}, blurred {self.blurred.describe()}, {self.fill} fill"

    def find(self, x):
        """Computes the value of each window, one at every pixel, before the blur."""
        raise NotImplementedError

    def pool(self, x):
        return blur(self.find(x), self.blurred, self.fill)


class MaxBlur(Blurred):
    """Max pooling, blurred."""

    title = "max pooling"

    def find(self, x):
        return max_pool(x, self.geometry, self.fill)


class AverageBlur(Blurred):
    """Average pooling, blurred. With a window of 1, the published replacement of average pooling: the blur alone."""

    title = "average pooling"

    def find(self, x):
        return (sum_pool(x, self.geometry, self.fill) / math.prod(self.geometry.window)).astype(x.dtype)
