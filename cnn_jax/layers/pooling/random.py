"""Pooling that draws in training: which element of a window, or where the windows lie. Each image has its own draws."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn_jax.layers.pooling.base import PoolContext, Pooling
from cnn_jax.layers.pooling.reductions import average_pool, elements, larger, max_pool, sum_pool
from cnn_jax.layers.windows import from_images, geometry, pick


class StochasticPool(Pooling):
    """An element of each window, drawn with probability a_i / sum a (Zeiler and Fergus 2013).

    In evaluation the mean weighted by those probabilities, sum a^2 / sum a. The gradient goes to the element drawn. For
    activations that are not negative: those below 0 have probability 0, and a window with nothing above 0 gives 0.
    """

    title = "stochastic pooling"

    def pool(self, x):
        positive = jnp.maximum(x.astype(jnp.float32), 0)
        total = sum_pool(positive, self.geometry)
        some = total > 0
        return jnp.where(some, sum_pool(positive**2, self.geometry) / jnp.where(some, total, 1), 0).astype(x.dtype)

    def sample(self, x, keys):
        uniform = jax.vmap(lambda key: jax.random.uniform(key, self.output_shape))(keys)
        parts = elements(self.geometry.pad(x), self.geometry)
        weights = [jnp.maximum(lax.stop_gradient(part).astype(jnp.float32), 0) for part in parts]
        threshold = from_images(uniform, self.geometry.layout) * sum(weights)
        drawn, below = jnp.zeros_like(parts[0]), jnp.zeros_like(threshold)
        for part, weight in zip(parts, weights):
            above = below + weight
            drawn = jnp.where((below <= threshold) & (threshold < above), part, drawn)
            below = above
        return drawn


class FractionalPool(Pooling):
    """Max pooling of regions one or two pixels high and wide, in random order: a factor below 2 (Graham 2014).

    Regions follow each other, and overlap by window - 1 pixels: a window of 1 gives the paper's disjoint regions, one
    of 2 its overlapping ones. A side of n pixels, counted in places of the window, becomes ceil(n / ratio). The order
    is pseudorandom, edges at floor(alpha (i + u)) with one u for a side, or a random permutation. In evaluation
    u = 1/2; the paper averages the network's output over many draws instead, which is `evaluation.passes`.
    """

    title = "fractional max pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.sequence = site.kind.sequence
        self.ratio = site.kind.ratio

    def words(self) -> str:
        return f"{super().words()}, ratio {self.ratio:.4g}"

    def pool(self, x):
        edges = [_edges(side, count, side // 2) for side, count in self._sides()]
        return self._regions(x, [jnp.broadcast_to(edge, (x.shape[self._batch], *edge.shape)) for edge in edges])

    def sample(self, x, keys):
        def draw(key):
            for (side, count), key in zip(self._sides(), jax.random.split(key)):
                if self.sequence == "pseudorandom":
                    yield _edges(side, count, jax.random.randint(key, (), 0, side))
                else:
                    steps = 1 + (jnp.arange(count) < side - count)
                    yield jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(jax.random.permutation(key, steps))])

        return self._regions(x, jax.vmap(lambda key: tuple(draw(key)))(keys))

    @property
    def _batch(self):
        return self.geometry.layout.index("N")

    def _sides(self):
        return zip(self.geometry.output_size, self.output_shape)

    def _regions(self, x, edges):
        x = max_pool(x, self.geometry)
        for axis, edge in zip(self.geometry.axes, edges):
            first, last = (pick(x, place, axis, self.geometry.layout) for place in (edge[:, :-1], edge[:, 1:] - 1))
            x = larger(first, last)
        return x


def _edges(side, count, offset):
    """floor(alpha (i + u)) - floor(alpha u) with alpha = side / count and u = offset / side, in whole numbers."""
    return (side * jnp.arange(count + 1) + offset) // count - offset // count


class S3Pool(Pooling):
    """Max pooling at every pixel, then whole rows and columns of it drawn at random (Zhai et al. 2017).

    The map is cut into a grid; of each `grid` rows, grid / stride are kept in training, and likewise of columns; of
    fewer rows at the end, as many as the stride asks for. In evaluation it is averaged over cells of the stride.
    """

    title = "S3 pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.grid, self.stride = site.kind.grid, site.settings.stride
        found = self.geometry.output_shape
        beyond = tuple((0, count * self.stride - side) for count, side in zip(self.output_shape[:2], found))
        self.cells = geometry(self.name, found, self.stride, self.stride, beyond, self.geometry.layout)

    def words(self) -> str:
        return f"{super().words()}, then one of {self.stride} rows and columns, grid {self.grid}"

    def pool(self, x):
        return average_pool(max_pool(x, self.geometry), self.cells)

    def sample(self, x, keys):
        x = max_pool(x, self.geometry)
        draw = lambda key: tuple(map(self._kept, jax.random.split(key), self.geometry.output_size))
        for axis, places in zip(self.geometry.axes, jax.vmap(draw)(keys)):
            x = pick(x, places, axis, self.geometry.layout)
        return x

    def _kept(self, key, side):
        """The rows (or columns) kept of `side`, in order."""
        rows = np.arange(-(-side // self.grid) * self.grid).reshape(-1, self.grid)
        quota = -(-np.minimum(side - rows[:, :1], self.grid) // self.stride)
        scores = jnp.where(rows < side, jax.random.uniform(key, rows.shape), 2.0)  # none beyond the edge
        ranks = jnp.argsort(jnp.argsort(scores))
        return jnp.nonzero(ranks.ravel() < np.repeat(quota, self.grid), size=-(-side // self.stride))[0]
