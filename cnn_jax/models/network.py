"""A network as a list of named layers, and what makes the layers."""

from collections.abc import Callable, Sequence

import jax
from flax import nnx

from cnn_jax import config
from cnn_jax.layers import windows
from cnn_jax.layers.activations import Activation
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.dense import Dense, Dropout, Flatten, RadialBasis
from cnn_jax.layers.layer import Layer
from cnn_jax.layers.normalisation import BatchNorm, LocalResponseNormalization
from cnn_jax.layers.pooling import make_pool
from cnn_jax.layers.pooling.base import Pooling

NORMS = {"batch": BatchNorm, "lrn": LocalResponseNormalization}


class Layers(nnx.Module):
    """A network: layers, each reading what the one before puts out.

    Max and min pooling that follow a costly activation are computed before it. The result is the same, for all
    activations rise, and the activation has a fraction of the work. The map between the two is then computed on the
    side: compiled, only if somebody reads it.

    Args:
      layers: in order, of different names.
      layout: "NHWC" or "CHWN", of the maps between the layers.
    """

    def __init__(self, layers: Sequence[Layer], layout: str):
        self.layout = layout
        self.names = tuple(layer.name for layer in layers)
        self.postponed = tuple(
            layer.name
            for layer, after in zip(layers, layers[1:])
            if isinstance(layer, Activation) and layer.costly and isinstance(after, Pooling) and after.before_activation
        )
        for layer in layers:
            setattr(self, layer.name, layer)

    def parts(self) -> list[Layer]:
        """Returns the layers in order."""
        return [getattr(self, name) for name in self.names]

    def __call__(self, images, keys=None, training: bool = False):
        """Logits and maps.

        Args:
          images: [N, height, width, channels].
          keys: one PRNG key per example [N], let random pooling draw and, in training, dropout.
          training: batch normalisation uses the statistics of the batch, and moves the running ones.

        Returns:
          Logits [N, classes], and a dict of maps (NHWC) by layer: what it puts out, after the activation that follows.
        """
        x, maps, name, waiting = windows.from_images(images, self.layout), {}, "input", None
        for layer in self.parts():
            if layer.name in self.postponed:
                maps[name], waiting = windows.to_images(layer(x), self.layout), layer
                continue
            x = layer(x, keys, training)
            if waiting is not None:
                x, waiting = waiting(x), None
            name = name if isinstance(layer, Activation) else layer.name
            if x.ndim == 4:
                maps[name] = windows.to_images(x, self.layout)
        return x, maps

    def through(self, x, after: str | None, last: str | None):
        """Returns what some of the layers make of x in evaluation, each in its place, in the network's layout.

        Args:
          x: what the layer `after` puts out; where that is None, images in the layout.
          after: the layer before the first of them; None: the first of all is one of them.
          last: the last of them; None: to the end.
        """
        names = list(self.names)
        first = 0 if after is None else names.index(after) + 1
        until = len(names) if last is None else names.index(last) + 1
        for layer in self.parts()[first:until]:
            x = layer(x)
        return x

    def from_images(self, images):
        """Returns images or maps [N, height, width, channels] in the network's layout."""
        return windows.from_images(images, self.layout)

    def to_images(self, maps):
        """Maps in the network's layout as [N, height, width, channels]."""
        return windows.to_images(maps, self.layout)

    def activations(self, images) -> dict[str, jax.Array]:
        """Returns the output of each activation in evaluation, by its name.

        Args:
          images: [N, height, width, channels].

        Returns:
          Maps [N, height, width, channels], or vectors [N, units].
        """
        found = self.outputs(images)
        return {layer.name: found[layer.name] for layer in self.parts() if isinstance(layer, Activation)}

    def outputs(self, images) -> dict[str, jax.Array]:
        """Returns what each part puts out in evaluation, one after the other, by its name.

        Args:
          images: [N, height, width, channels].

        Returns:
          Maps [N, height, width, channels], or vectors [N, units].
        """
        x, found = windows.from_images(images, self.layout), {}
        for layer in self.parts():
            x = layer(x)
            found[layer.name] = windows.to_images(x, self.layout) if x.ndim == 4 else x
        return found


class Maker:
    """Makes the layers that a `Builder` lists. Each method returns a layer that reads maps or vectors of `shape`.

    Args:
      settings: one of `config.MODELS`, its layout resolved.
      key: PRNG key of the initial weights.
    """

    def __init__(self, settings, key: jax.Array):
        self.key = key
        self.layout = settings.layout
        self.activation_kind = settings.activation
        # Weights of a pooling, if it has any, begin as the settings say of the whole network, else as He et al. 2015.
        self.pool_init = getattr(settings, "init", "he_normal")

    def conv(self, name, shape, features, window, **rest) -> Layer:
        return Convolution(name, shape, features, window, layout=self.layout, key=self.key, **rest)

    def pool(self, name, shape, pool: config.Pool, is_last: bool) -> Layer:
        rest = {"layout": self.layout, "activation": self.activation_kind, "key": self.key, "init": self.pool_init}
        return make_pool(name, shape, pool, last=is_last, **rest)

    def norm(self, name, shape, kind, **rest) -> Layer:
        return NORMS[kind](name, shape, layout=self.layout, **rest)

    def activation(self, name, shape) -> Layer:
        return Activation(name, shape, self.activation_kind)

    def flatten(self, shape) -> Layer:
        return Flatten("flatten", shape, self.layout)

    def dropout(self, name, shape, rate, number, scale_in) -> Layer:
        return Dropout(name, shape, rate, number, scale_in)

    def dense(self, name, shape, units, init) -> Layer:
        return Dense(name, *shape, units, init=init, key=self.key)

    def radial_basis(self, name, classes) -> Layer:
        return RadialBasis(name, classes)

    def other(self, make: Callable[[tuple[int, ...]], Layer], shape) -> Layer:
        return make(shape)

    def network(self, layers: Sequence[Layer]) -> Layers:
        return Layers(layers, self.layout)
