"""Anti-aliased pooling: blurred before it is sampled (Zhang 2019), or sampled where the content is (APS)."""

import math

import jax.numpy as jnp

from cnn_jax.layers.pooling_base import Pooling, Site
from cnn_jax.layers.reductions import blur, max_pool, sum_pool
from cnn_jax.layers.windows import geometry, per_image


class Blurred(Pooling):
    """What blurred pooling has in common; no pooling by itself.

    Windows lie at every pixel. What is found there is filtered with a binomial filter, and the stride is that of the
    filter. Output sizes are those of the same pooling without blur.
    """

    dense = True
    reads = ("filter", "fill")

    def __init__(self, site: Site):
        super().__init__(site)
        self.fill = site.settings.fill
        size = site.settings.filter
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


class AdaptivePolyphase(Blurred):
    """Max pooling at every pixel, blurred, and of its stride x stride polyphase components the largest one.

    Adaptive polyphase sampling (Chaman and Dokmanic 2021): the component of the largest norm, chosen for each image.
    With circular padding throughout, and a map that the stride divides, a shift of the input shifts the output:
    global pooling of it does not change at all. Of equal norms the first wins.
    """

    title = "adaptive polyphase max pooling"
    reads = ("filter", "fill", "norm")

    def __init__(self, site: Site):
        super().__init__(site)
        self.norm = site.settings.norm
        step = site.settings.stride
        beyond = tuple((0, -side % step) for side in self.blurred.output_size)
        self.phases = geometry(self.name, self.output_shape, step, step, beyond, self.geometry.layout, self.fill)
        self.output_shape = (*self.phases.output_size, self.input_shape[2])

    def stride(self, site):
        return 1

    def find(self, x):
        return max_pool(x, self.geometry, self.fill)

    def describe(self) -> str:
        return f"{super().describe()}, stride {self.phases.stride[0]} by {self.norm} norm"

    def pool(self, x):
        phases = self.phases.windows(self.phases.pad(super().pool(x), self.fill))
        layout = self.geometry.layout
        best = jnp.argmax(jnp.stack([self._size(phase) for phase in phases]), axis=0)
        y = phases[0]
        for number, phase in enumerate(phases[1:], 1):
            y = jnp.where(per_image(best == number, layout), phase, y)
        return y

    def _size(self, x):
        """Of each image [N], a number that grows with the norm."""
        x = jnp.abs(x.astype(jnp.float32))
        rest = tuple(axis for axis, name in enumerate(self.geometry.layout) if name != "N")
        return {"l1": jnp.sum(x, rest), "l2": jnp.sum(x**2, rest), "linf": jnp.max(x, rest)}[self.norm]
