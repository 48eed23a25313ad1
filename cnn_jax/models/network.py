"""A network as a list of named layers, and the builder to which each network's constructor lists them."""

import math
from collections.abc import Callable, Sequence

import jax
from flax import nnx

from cnn_jax.errors import UsageError
from cnn_jax.layers import windows
from cnn_jax.layers.activations import Activation
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.dense import Dense, Dropout, Flatten
from cnn_jax.layers.initializers import Normal
from cnn_jax.layers.layer import Layer
from cnn_jax.layers.normalisation import BatchNorm, LocalResponseNormalization
from cnn_jax.layers.pooling import make_pool, pool_class
from cnn_jax.layers.pooling.base import Pooling

NORMS = {"batch": BatchNorm, "lrn": LocalResponseNormalization}


class Layers(nnx.Module):
    """A network: layers, each reading what the one before puts out.

    Max and min pooling that follow an activation are computed before it. The result is the same, for all activations
    rise, and the activation has a fraction of the work. The map between the two is then computed on the side:
    compiled, only if somebody reads it.

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
            if isinstance(layer, Activation) and isinstance(after, Pooling) and after.before_activation
        )
        for layer in layers:
            setattr(self, layer.name, layer)

    def parts(self) -> list[Layer]:
        """The layers in order."""
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


class Builder:
    """Takes the list of a network's layers, in order, and makes them when it is complete.

    Each layer reads what the one before puts out. Two things follow from what is listed, and are no constructor's
    business: a pooling that no convolution follows is the last one, to which `pool.last` applies; and a pooling that
    is left out (`pool.kind=strided`) has its stride added to the convolution before it.

    Every method returns the builder.

    Args:
      settings: one of `config.MODELS`, its layout resolved.
      image_shape: height, width, channels of an image.
      key: PRNG key of the initial weights.
    """

    def __init__(self, settings, image_shape: tuple[int, int, int], key: jax.Array):
        self.settings = settings
        self.image_shape = tuple(image_shape)
        self.key = key
        self.makers: list[Callable] = []  # of the layers, given the shape of what they read
        self.convolutions: list[int] = []  # places in that list
        self.pools: dict[int, tuple[str, str]] = {}  # name, and name of the settings, by place
        self.activations = self.dropouts = 0  # so far; they are named by number

    def add(self, make: Callable[[tuple[int, ...]], Layer]) -> "Builder":
        """A layer of any kind; `make` is given the shape of what it reads."""
        self.makers.append(make)
        return self

    def conv(
        self, name: str, features: int, window: int, init: str | Normal, stride: int = 1, padding=None, **rest
    ) -> "Builder":
        """A `Convolution`, whose other arguments are `rest`; the settings say what lies beyond the edge.

        Without `padding`, it is padded as the settings say, and not at all where they leave that to the network.
        """
        place, edge = len(self.makers), self.settings.padding
        self.convolutions.append(place)
        padding = getattr(edge, "mode", "valid") if padding is None else padding
        rest |= {"padding": padding, "fill": edge.fill, "init": init, "layout": self.settings.layout, "key": self.key}

        def make(shape):
            factor = self._stride_of_pooling_left_out(place)
            return Convolution(name, shape, features, window, stride=stride * factor, **rest)

        return self.add(make)

    def pool(self, name: str, which: str = "pool") -> "Builder":
        """The pooling of the settings `which`, and an activation where that kind is followed by one.

        Its weights, if it has any, begin as the settings say of the whole network, and else as He et al. 2015.
        """
        place, pool = len(self.makers), getattr(self.settings, which)
        self.pools[place] = (name, which)
        rest = {"layout": self.settings.layout, "activation": self.settings.activation, "key": self.key}
        rest["init"] = getattr(self.settings, "init", "he_normal")

        def make(shape):
            if pool.last and not any(which == other and self._is_last(at) for at, (_, other) in self.pools.items()):
                raise UsageError(
                    f"model.{which}.last = {pool.last.name!r} does not apply: in {self.settings.name} {name} comes "
                    "before a convolution"
                )
            return make_pool(name, shape, pool, last=self._is_last(place), **rest)

        return self.add(make)

    def norm(self, name: str, kind: str, **rest) -> "Builder":
        """Batch normalisation ("batch"), local response normalisation ("lrn"), or "none"."""
        if kind == "none":
            return self
        return self.add(lambda shape: NORMS[kind](name, shape, layout=self.settings.layout, **rest))

    def active(self, name: str, kind: str, norm_first: bool, **rest) -> "Builder":
        """An activation, and normalisation before or after it."""
        if norm_first:
            return self.norm(name, kind, **rest).activation()
        return self.activation().norm(name, kind, **rest)

    def activation(self) -> "Builder":
        """The activation of the settings."""
        return self.add(self._activation)

    def flatten(self) -> "Builder":
        """Maps to vectors."""
        return self.add(lambda shape: Flatten("flatten", shape, self.settings.layout))

    def dropout(self, scale_in: str = "training") -> "Builder":
        """Dropout at the rate of the settings, unless it is 0; `scale_in` as for `Dropout`."""
        rate = self.settings.dropout
        if rate == 0:
            return self
        self.dropouts += 1
        number = self.dropouts
        return self.add(lambda shape: Dropout(f"dropout{number}", shape, rate, number, scale_in))

    def dense(self, name: str, units: int, init: str | Normal) -> "Builder":
        """A `Dense` layer."""
        return self.add(lambda shape: Dense(name, *shape, units, init=init, key=self.key))

    def build(self) -> Layers:
        """The network.

        Raises:
          UsageError: a layer does not fit its input, or a setting of a pooling does not apply.
        """
        layers, shape = [], self.image_shape
        for make in self.makers:
            layers.append(make(shape))
            if getattr(layers[-1], "activation_follows", False):
                layers.append(self._activation(layers[-1].output_shape))
            shape = layers[-1].output_shape
        return Layers(layers, self.settings.layout)

    def _activation(self, shape):
        self.activations += 1
        return Activation(f"activation{self.activations}", shape, self.settings.activation)

    def _is_last(self, place):
        return not any(other > place for other in self.convolutions)

    def _stride_of_pooling_left_out(self, place):
        """The factor for the convolution at a place; 1 where a pooling is there to have its own stride."""
        until = min((other for other in self.convolutions if other > place), default=len(self.makers))
        strides = []
        for at, (_, which) in self.pools.items():
            pool = getattr(self.settings, which)
            if place < at < until and pool_class(pool, self._is_last(at)).stride_before:
                strides.append(pool.stride)
        return math.prod(strides)
