"""Anti-aliased pooling: blurred before it is sampled (Zhang 2019)."""

import math

from cnn_jax.layers.pooling.base import PoolContext, Pooling
from cnn_jax.layers.pooling.reductions import blur, max_pool, sum_pool
from cnn_jax.layers.windows import geometry


class Blurred(Pooling):
    """What blurred pooling has in common; no pooling by itself.

    Windows lie at every pixel. What is found there is filtered with a binomial filter, and the stride is that of the
    filter. Output sizes are those of the same pooling without blur.
    """

    stride_1_windows = True

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.fill = site.kind.fill
        size = site.kind.filter
        found = (*self.geometry.output_size, self.input_shape[2])
        pads = ((size - 1) // 2, size // 2)  # centred; an even filter reaches one pixel further at the high end
        self.blurred = geometry(
            self.name, found, size, self.stride(site), (pads, pads), self.geometry.layout, self.fill
        )
        self.output_shape = (*self.blurred.output_size, self.input_shape[2])

    def stride(self, site):
        """The stride of the filter."""
        return site.settings.stride

    def describe(self) -> str:
        return f"{super().describe()}, blurred {self.blurred.describe()}, {self.fill} fill"

    def find(self, x):
        """What the windows find, at every pixel."""
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
        return sum_pool(x, self.geometry, self.fill) / math.prod(self.geometry.window)
