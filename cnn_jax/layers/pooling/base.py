"""The base class of the pooling layers, and what they are made from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cnn_jax import config
from cnn_jax.config import poolings
from cnn_jax.config.networks import Normal
from cnn_jax.layers.initializers import layer_key
from cnn_jax.layers.layer import Layer
from cnn_jax.layers.windows import Geometry


class PoolContext(NamedTuple):
    """The values that a pooling layer is made from.

    Attributes:
      name: for messages, tables, initial weights and random draws.
      geometry: the windows.
      settings: of the pooling.
      kind: the declaration of its kind, one of `config.poolings`.
      key: PRNG key of the model's initial weights; None does for kinds without any.
      init: of convolutions, as `initializers.weights_and_bias`.
      activation: of the network.
    """

    name: str
    geometry: Geometry
    settings: config.Pool
    kind: poolings.Pooling
    key: jax.Array | None
    init: str | Normal
    activation: str


class Pooling(Layer):
    """A pooling layer: maps of `input_shape` to maps of `output_shape`, both in the layer's layout.

    A kind says how by `pool`, and, if it draws in training, by `sample`.
    """

    title: str  # in words
    before_activation = False  # a rising activation may as well come after
    activation_follows = False  # as after a convolution

    def __init__(self, site: PoolContext):
        self.name = site.name
        self.geometry = site.geometry
        self.stride_1_windows = site.kind.stride_1_windows
        self.input_shape = site.geometry.input_shape
        self.output_shape = site.kind.output_shape(site.name, site.geometry, site.settings.stride)
        self.times = site.settings.scale
        if self.times != 1:  # an activation that rises is not the same before and after
            self.before_activation = False

    def describe(self) -> str:
        return self.words() + f", times {self.times:g}" * (self.times != 1)

    def words(self) -> str:
        """Returns what the layer does, but for the scale."""
        return f"{self.title} {self.geometry.describe()}"

    def __call__(self, x, keys=None, training: bool = False):
        """Pooled maps.

        Args:
          x: maps.
          keys: one PRNG key per example, with which random kinds draw; None: they do what is published for evaluation.
          training: not used: random kinds draw whenever there are keys.
        """
        y = self.pool(x) if keys is None else self.sample(x, jax.vmap(lambda key: layer_key(key, self.name))(keys))
        return y if self.times == 1 else (self.times * y).astype(y.dtype)

    def pool(self, x):
        """Returns the pooled maps, without chance."""
        raise NotImplementedError

    def sample(self, x, keys):
        """Returns the pooled maps, by chance."""
        del keys
        return self.pool(x)


def number(value):
    """Returns a fixed or a trainable number, in float32."""
    return jnp.asarray(value[...], jnp.float32) if isinstance(value, nnx.Param) else value
