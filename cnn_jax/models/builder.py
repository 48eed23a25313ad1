"""The builder to which each network lists its layers. Imports no jax."""

import math
from collections.abc import Callable
from typing import Any

from cnn_jax.config.networks import Normal, Pool
from cnn_jax.errors import UsageError


class Builder:
    """Takes the list of a network's layers, in order, and makes them when it is complete.

    Each layer reads what the one before puts out. Two things follow from what is listed, and are no constructor's
    business: a pooling that no convolution follows is the last one, to which `pool.last` applies; and a pooling that
    is left out (`pool.kind=strided`) has its stride added to the convolution before it.

    Every method returns the builder.

    Args:
      settings: one of `config.MODELS`.
      image_shape: height, width, channels of an image.
      make: makes the layers (`network.Maker`), or tells their sizes alone (`arithmetic.Sizes`).
    """

    def __init__(self, settings, image_shape: tuple[int, int, int], make):
        self.settings = settings
        self.image_shape = tuple(image_shape)
        self.make = make
        self.makers: list[Callable] = []  # of the layers, given the shape of what they read
        self.convolutions: list[int] = []  # places in that list
        self.pools: dict[int, tuple[str, str]] = {}  # name, and name of the settings, by place
        self.activations = self.dropouts = 0  # so far; they are named by number

    def add(self, make: Callable[[tuple[int, ...]], Any]) -> "Builder":
        """Adds a layer of any kind; `make` is given the shape of what it reads."""
        return self._add(lambda shape: self.make.other(make, shape))

    def conv(
        self, name: str, features: int, window: int, init: str | Normal, stride: int = 1, padding=None, **rest
    ) -> "Builder":
        """Adds a `Convolution`, whose other arguments are `rest`; the settings say what lies beyond the edge.

        Without `padding`, it is padded as the settings say, and not at all where they leave that to the network.
        """
        place, edge = len(self.makers), self.settings.padding
        self.convolutions.append(place)
        padding = getattr(edge, "mode", "valid") if padding is None else padding
        rest |= {"padding": padding, "fill": edge.fill, "init": init}

        def make(shape):
            factor = self._stride_of_pooling_left_out(place)
            return self.make.conv(name, shape, features, window, stride=stride * factor, **rest)

        return self._add(make)

    def pool(self, name: str, which: str = "pool") -> "Builder":
        """Adds the pooling of the settings `which`, and an activation where that kind is followed by one."""
        place, pool = len(self.makers), getattr(self.settings, which)
        self.pools[place] = (name, which)

        def make(shape):
            if pool.last and not any(which == other and self._is_last(at) for at, (_, other) in self.pools.items()):
                raise UsageError(
                    f"model.{which}.last = {pool.last.name!r} does not apply: in {self.settings.name} {name} comes "
                    "before a convolution"
                )
            return self.make.pool(name, shape, pool, self._is_last(place))

        return self._add(make)

    def blur(self, name: str, size: int, stride: int) -> "Builder":
        """Adds a binomial filter of so many pixels a side, reflected at the edge, with a stride; 0: none."""
        if not size:
            return self
        pool = Pool.of(kind="average_blur", window=1, stride=stride, filter=size)
        return self._add(lambda shape: self.make.pool(name, shape, pool, False))

    def norm(self, name: str, kind: str, **rest) -> "Builder":
        """Adds batch normalisation ("batch"), local response normalisation ("lrn"), or nothing ("none")."""
        if kind == "none":
            return self
        return self._add(lambda shape: self.make.norm(name, shape, kind, **rest))

    def active(self, name: str, kind: str, norm_first: bool, **rest) -> "Builder":
        """Adds an activation, and normalisation before or after it."""
        if norm_first:
            return self.norm(name, kind, **rest).activation()
        return self.activation().norm(name, kind, **rest)

    def activation(self) -> "Builder":
        """Adds the activation of the settings."""
        return self._add(self._activation)

    def flatten(self) -> "Builder":
        """Turns maps into vectors."""
        return self._add(self.make.flatten)

    def dropout(self, scale_in: str = "training") -> "Builder":
        """Adds dropout at the rate of the settings, unless it is 0; `scale_in` as for `Dropout`."""
        rate = self.settings.dropout
        if rate == 0:
            return self
        self.dropouts += 1
        number = self.dropouts
        return self._add(lambda shape: self.make.dropout(f"dropout{number}", shape, rate, number, scale_in))

    def dense(self, name: str, units: int, init: str | Normal) -> "Builder":
        """Adds a `Dense` layer."""
        return self._add(lambda shape: self.make.dense(name, shape, units, init))

    def radial_basis(self, name: str, classes: int) -> "Builder":
        """Adds a `RadialBasis` layer."""
        return self._add(lambda shape: self.make.radial_basis(name, classes))

    def build(self):
        """Returns the network.

        Raises:
          UsageError: a layer does not fit its input, or a setting of a pooling does not apply.
        """
        layers, shape = [], self.image_shape
        for make in self.makers:
            layers.append(make(shape))
            if getattr(layers[-1], "activation_follows", False):
                layers.append(self._activation(layers[-1].output_shape))
            shape = layers[-1].output_shape
        return self.make.network(layers)

    def _add(self, make):
        self.makers.append(make)
        return self

    def _activation(self, shape):
        self.activations += 1
        return self.make.activation(f"activation{self.activations}", shape)

    def _is_last(self, place):
        return not any(other > place for other in self.convolutions)

    def _stride_of_pooling_left_out(self, place):
        """The factor for the convolution at a place; 1 where a pooling is there to have its own stride."""
        until = min((other for other in self.convolutions if other > place), default=len(self.makers))
        strides = []
        for at, (_, which) in self.pools.items():
            pool = getattr(self.settings, which)
            if place < at < until and pool.chosen(self._is_last(at)).stride_before:
                strides.append(pool.stride)
        return math.prod(strides)
