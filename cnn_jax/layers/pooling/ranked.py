"""Pooling that ranks the elements of each window: means of the largest, thresholds on them, weights by rank.

Every element is compared with every other: a sorting network would take fewer comparisons, but XLA on CPU computes each
of its results anew from the beginning. What lies beyond the edge ranks last and counts for nothing.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from cnn_jax.layers.pooling.base import PoolContext, Pooling
from cnn_jax.layers.pooling.reductions import elements, wide
from cnn_jax.layers.windows import per_pixel


def largest(x, geometry, count: int) -> list:
    """Returns the `count` largest elements of each window, falling, -inf where it has fewer inside the map; float32.

    The gradient goes to the element at the place; of equals the first, row by row, ranks higher.
    """
    found = elements(geometry.pad(wide(x), value=-jnp.inf), geometry)
    above = lambda i, j: found[j] >= found[i] if j < i else found[j] > found[i]
    others = lambda i: [above(i, j).astype(jnp.int32) for j in range(len(found)) if j != i]
    ranks = [sum(others(i), jnp.zeros(found[i].shape, jnp.int32)) for i in range(len(found))]
    at = lambda place: sum(jnp.where(rank == place, element, 0) for rank, element in zip(ranks, found))
    return [at(place) for place in range(min(count, len(found)))]


class _Largest(Pooling):
    """Base class of what looks at the k largest elements of each window; no pooling by itself."""

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.k = site.kind.k

    def ranked(self, x):
        """Returns the largest elements and how many of them there are, at most k."""
        inside = per_pixel(self.geometry.inside, self.geometry.layout)
        return largest(x, self.geometry, self.k), jnp.clip(inside, 1, self.k)

    def mean(self, ranked, count):
        """Returns their mean."""
        return sum(jnp.where(jnp.isfinite(element), element, 0) for element in ranked) / count


class AverageTopK(_Largest):
    """The mean of the k largest elements of each window: Avg-TopK (Özdemir 2023)."""

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.title = f"average pooling of the {self.k} largest"

    def pool(self, x):
        return self.mean(*self.ranked(x)).astype(x.dtype)


class _Threshold(_Largest):
    """Base class of what takes the maximum from a threshold on, and else the mean of the k largest."""

    words_before: str

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.threshold = site.kind.threshold
        self.title = f"{self.words_before} pooling, k = {self.k}, T = {self.threshold:g},"

    def pool(self, x):
        ranked, count = self.ranked(x)
        mean = self.mean(ranked, count)
        return jnp.where(self.compared(ranked, mean) >= self.threshold, ranked[0], mean).astype(x.dtype)

    def compared(self, ranked, mean):
        """Returns what is compared with the threshold."""
        raise NotImplementedError


class ThresholdMaxAverage(_Threshold):
    """The maximum where all of the k largest elements reach a threshold, else their mean: T-Max-Avg.

    Our reading of the abstract of Zhao and Zhang 2024, "A improved pooling method for convolutional neural networks",
    and of what Aprilio and Wan Sen 2026 say of it, that it compares several elements with the threshold.
    """

    words_before = "T-Max-Avg"

    def compared(self, ranked, mean):
        return functools.reduce(jnp.minimum, [jnp.where(jnp.isfinite(each), each, jnp.inf) for each in ranked])


class AverageThreshold(_Threshold):
    """The maximum where the mean of the k largest elements reaches a threshold, else that mean: ATP.

    Our reading of the abstract of Aprilio and Wan Sen 2026: one comparison, of the mean, in place of k.
    """

    words_before = "average-thresholding"

    def compared(self, ranked, mean):
        return mean


class OrdinalPool(Pooling):
    """The mean of each window weighted by rank, with learned weights: ordinal pooling (Deliège et al. 2021).

    The weights are the softmax of what is trained, one vector a channel, so that they stay positive and sum to 1.
    They begin equal, as average pooling. At the edge they are those of the elements inside, scaled to sum to 1.

    Parameters: ranks [elements of a window, channels].
    """

    title = "ordinal pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        height, width = self.geometry.window
        self.ranks = nnx.Param(jnp.zeros((height * width, self.input_shape[2]), jnp.float32))

    def pool(self, x):
        weights = jax.nn.softmax(self.ranks[...].astype(jnp.float32), axis=0)
        if self.geometry.layout == "CHWN":
            weights = weights[:, :, None, None, None]
        ranked = largest(x, self.geometry, len(weights))
        shares = [jnp.where(jnp.isfinite(each), weight, 0) for weight, each in zip(weights, ranked)]
        total = sum(share * jnp.where(jnp.isfinite(each), each, 0) for share, each in zip(shares, ranked))
        return (total / sum(shares)).astype(x.dtype)
