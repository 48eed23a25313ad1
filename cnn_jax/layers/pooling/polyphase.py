"""Pooling that samples where the content is: a shift of the input then shifts the output, by whole pixels of it."""

import jax
import jax.numpy as jnp

from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.pooling.base import PoolContext
from cnn_jax.layers.pooling.blur import Blurred
from cnn_jax.layers.pooling.reductions import max_pool
from cnn_jax.layers.windows import on_layout, per_image


class _Polyphase(Blurred):
    """Base class of both kinds of polyphase pooling; no pooling by itself.

    Max pooling at every pixel, blurred; what it finds falls into stride x stride polyphase components, each of which
    plain pooling could have sampled. With circular padding throughout, and a map that the stride divides, a shift of
    the input permutes them.
    """

    def __init__(self, site: PoolContext):
        super().__init__(site)
        phases = site.kind.phases(self.name, self.blurred, site.settings.stride)
        self.phases = on_layout(phases, self.geometry.layout)

    def stride(self, site):
        return 1

    def find(self, x):
        return max_pool(x, self.geometry, self.fill)

    def components(self, x) -> list:
        """Returns the polyphase components of x, pooled and blurred, maps of `output_shape` each."""
        return self.split(Blurred.pool(self, x))

    def split(self, maps) -> list:
        """Returns the polyphase components of maps with a value for every pixel."""
        return self.phases.windows(self.phases.pad(maps, self.fill))

    def chosen(self, components, scores):
        """Picks for each image the component of the largest score, the first of equals; scores are [components, N]."""
        best = jnp.argmax(scores, axis=0)
        y = components[0]
        for number, component in enumerate(components[1:], 1):
            y = jnp.where(per_image(best == number, self.geometry.layout), component, y)
        return y


class AdaptivePolyphase(_Polyphase):
    """Adaptive polyphase sampling (Chaman and Dokmanic 2021): of each image the component of the largest norm.

    Norms are those of the components before the blur, as in the authors' code, or after it.

    With circular padding, and a map that the stride divides, global pooling of the output does not change at all under
    shifts.
    """

    title = "adaptive polyphase max pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.norm, self.before = site.kind.norm, site.kind.choose == "before_blur"

    def words(self) -> str:
        when = "before" if self.before else "after"
        return f"{super().words()}, stride {self.phases.stride[0]} by {self.norm} norm {when} the blur"

    def pool(self, x):
        components = self.components(x)
        compared = self.split(self.find(x)) if self.before else components
        return self.chosen(components, jnp.stack([self._size(component) for component in compared]))

    def _size(self, x):
        """Computes for each image a number that grows with its norm, [N]."""
        x = jnp.abs(x.astype(jnp.float32))
        rest = tuple(axis for axis, name in enumerate(self.geometry.layout) if name != "N")
        return {"l1": jnp.sum(x, rest), "l2": jnp.sum(x**2, rest), "linf": jnp.max(x, rest)}[self.norm]


class LearnedPolyphase(_Polyphase):
    """Learnable polyphase sampling (Rojas-Gomez et al. 2022): of each image the component of the largest learned logit.

    The logit is the mean over the map of two 3x3 convolutions with a ReLU between them, the same for all components,
    so that it moves with them. Blurred components all have the same mean, and only the ReLU tells them apart; a filter
    of 1 leaves them as they are. In training the components are mixed by a Gumbel softmax, a softmax of the logits plus
    Gumbel noise, over the temperature. `convex` mixes them by the softmax alone, in training as well as in evaluation;
    so does TIPS (2025), which has coefficients for each channel and two further losses. Shifts then leave the sum over
    the map as it is, and not the map.

    Parameters: first and second, a `Convolution` each, of as many features as channels.
    """

    title = "learned polyphase max pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.temperature, self.convex = site.kind.temperature, site.kind.convex
        rest = {"padding": 1, "fill": self.fill, "key": site.key, "init": site.init, "layout": self.geometry.layout}
        channels = self.input_shape[2]
        self.first, self.second = (
            Convolution(f"{self.name}.{part}", self.output_shape, channels, 3, **rest) for part in ("first", "second")
        )

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds for one image: those of the logits' convolutions."""
        return self.phases.stride[0] ** 2 * (self.first.multiply_adds + self.second.multiply_adds)

    def words(self) -> str:
        return f"{super().words()}, stride {self.phases.stride[0]} by learned logits" + ", mixed" * self.convex

    def pool(self, x):
        components = self.components(x)
        return (self._mixed if self.convex else self.chosen)(components, self._logits(components))

    def sample(self, x, keys):
        if self.convex:
            return self.pool(x)
        components = self.components(x)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, (len(components),)), out_axes=1)(keys)
        return self._mixed(components, self._logits(components) + noise)

    def _mixed(self, components, logits):
        """The mean of the components weighted by the softmax of their logits [components, N] over the temperature."""
        layout, shares = self.geometry.layout, jax.nn.softmax(logits / self.temperature, axis=0)
        return sum(per_image(share, layout).astype(part.dtype) * part for share, part in zip(shares, components))

    def _logits(self, components):
        """[components, N], float32."""
        layout = self.geometry.layout
        batch = layout.index("N")
        seen = self.second(jax.nn.relu(self.first(jnp.concatenate(components, batch))))
        rest = tuple(axis for axis in range(4) if axis != batch)
        return jnp.mean(seen.astype(jnp.float32), rest).reshape(len(components), -1)
