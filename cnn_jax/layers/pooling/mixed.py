"""Pooling that mixes the maximum and the average, or learned filters, of each window."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from cnn_jax.layers.initializers import layer_key
from cnn_jax.layers.pooling.base import PoolContext, Pooling
from cnn_jax.layers.pooling.reductions import average_pool, elements, max_pool, wide
from cnn_jax.layers.windows import from_images, per_image


class _Mixing(Pooling):
    """Base class of mixtures of the maximum and the average; no pooling by itself."""

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.count_padding = site.kind.count_padding

    def both(self, x):
        """Returns the maximum and the average of each window."""
        return max_pool(x, self.geometry), average_pool(x, self.geometry, self.count_padding)


class MaxPlusAverage(_Mixing):
    """The sum of the maximum and the average (Mishkin et al. 2017, where it is the best of all for CaffeNet)."""

    title = "max + average pooling"

    def pool(self, x):
        return sum(self.both(x))


class AlphaPool(_Mixing):
    """alpha max + (1 - alpha) average, alpha fixed: "alpha pooling" of several papers; at 1/2 half of max + average."""

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.alpha = site.kind.alpha
        self.title = f"alpha pooling, {self.alpha:g} max,"

    def pool(self, x):
        largest, average = self.both(x)
        return self.alpha * largest + (1 - self.alpha) * average


class MixedPool(_Mixing):
    """The maximum or the average at random (Yu et al. 2014), or a learned mixture of them (Lee et al. 2016).

    Random: in training one of them, the maximum with probability `share`; drawn once for each image or for each window
    of each map. In evaluation their mean with those probabilities as weights.

    Learned: share max + (1 - share) average, with one trainable share for the layer. Parameters: share, a number.
    """

    def __init__(self, site: PoolContext):
        super().__init__(site)
        share, learned = site.kind.share, site.kind.learned
        self.per_region = site.kind.per_region
        self.title = "mixed pooling, " + ("learned," if learned else f"{share:g} max,")
        self.share = nnx.Param(jnp.float32(share)) if learned else share

    def pool(self, x):
        largest, average = self.both(x)
        share = self.share[...] if isinstance(self.share, nnx.Param) else self.share
        return share * largest + (1 - share) * average

    def sample(self, x, keys):
        if isinstance(self.share, nnx.Param):
            return self.pool(x)
        shape = self.output_shape if self.per_region else ()
        chosen = jax.vmap(lambda key: jax.random.bernoulli(key, self.share, shape))(keys)
        layout = self.geometry.layout
        chosen = from_images(chosen, layout) if self.per_region else per_image(chosen, layout)
        return jnp.where(chosen, *self.both(x))


class GatedPool(_Mixing):
    """gate max + (1 - gate) average, gate = sigmoid of a filter's response to the window (Lee et al. 2016).

    Parameters: gate [height, width] of the window, one for the layer; started at 0, so at equal shares.
    """

    title = "gated pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.gate = nnx.Param(jnp.zeros(self.geometry.window))

    def pool(self, x):
        gate = jax.nn.sigmoid(_filter(elements(self.geometry.pad(x), self.geometry), self.gate[...]))
        largest, average = self.both(x)
        return gate * largest + (1 - gate) * average


class TreePool(Pooling):
    """A binary tree (Lee et al. 2016): leaves are learned filters, and each inner node a gated mixture of two nodes.

    One tree for the layer, of 2 ** (depth - 1) leaves. A gate is the sigmoid of a learned filter's response to the
    window, and the share of the first of two nodes.

    Parameters: leaves [leaves, height, width], started as averages, each weight times 1 + N(0, 0.1^2), so that they
    differ; gates [leaves - 1, height, width], root first, level by level, started at 0.
    """

    title = "tree pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        leaves, window = 2 ** (site.kind.depth - 1), self.geometry.window
        noise = 0.1 * jax.random.normal(layer_key(site.key, self.name), (leaves, *window))
        self.leaves = nnx.Param((1 + noise) / math.prod(window))
        self.gates = nnx.Param(jnp.zeros((leaves - 1, *window)))

    def pool(self, x):
        parts = elements(self.geometry.pad(x), self.geometry)
        leaves, gates = self.leaves[...], self.gates[...]
        nodes = [_filter(parts, leaf) for leaf in leaves]
        while len(nodes) > 1:
            count = len(nodes) // 2  # gates of this level: count - 1, ..., 2 count - 2
            shares = [jax.nn.sigmoid(_filter(parts, gate)) for gate in gates[count - 1 : 2 * count - 1]]
            pairs = zip(shares, nodes[::2], nodes[1::2])
            nodes = [share * first + (1 - share) * second for share, first, second in pairs]
        return nodes[0]


def _filter(parts, weights):
    """The sum of a window's elements times the filter's weights [height, width]."""
    terms = [wide(part) * weight for part, weight in zip(parts, weights.ravel(), strict=True)]
    return functools.reduce(jnp.add, terms).astype(parts[0].dtype)
