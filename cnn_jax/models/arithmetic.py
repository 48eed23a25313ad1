"""The sizes of a network's layers, by arithmetic alone: what does not fit is found without jax."""

import math
from typing import NamedTuple, NoReturn

from cnn_jax import config
from cnn_jax.config.sizes import place


class Unknown(Exception):
    """A layer of another kind, of which only the layer itself knows the size."""


class Size(NamedTuple):
    """All that is known of a layer that is not made.

    Attributes:
      name: of the layer.
      output_shape: of one example: height, width, channels of maps, or (units,) of a vector.
    """

    name: str
    output_shape: tuple[int, ...]


class Sizes:
    """Tells a `Builder` the sizes of layers; its methods are those of `network.Maker`.

    Attributes:
      weights: of all layers made so far; the few of biases and normalisation are not counted.
    """

    def __init__(self):
        self.weights = 0

    def conv(self, name, shape, features, window, *, stride, padding, fill, **rest) -> Size:
        self.weights += window * window * shape[-1] * features
        return Size(name, (*place(name, shape, window, stride, padding, fill).output_size, features))

    def pool(self, name, shape, pool: config.Pool, is_last: bool) -> Size:
        windows = pool.place(name, shape, is_last)
        return Size(name, pool.chosen(is_last).output_shape(name, windows, pool.stride))

    def norm(self, name, shape, kind, **rest) -> Size:
        return Size(name, shape)

    def activation(self, name, shape) -> Size:
        return Size(name, shape)

    def flatten(self, shape) -> Size:
        return Size("flatten", (math.prod(shape),))

    def dropout(self, name, shape, rate, number, scale_in) -> Size:
        return Size(name, shape)

    def dense(self, name, shape, units, init) -> Size:
        self.weights += math.prod(shape) * units
        return Size(name, (units,))

    def radial_basis(self, name, classes) -> Size:
        return Size(name, (classes,))

    def other(self, make, shape) -> NoReturn:
        raise Unknown

    def network(self, layers: list[Size]) -> dict[str, tuple[int, ...]]:
        return {layer.name: layer.output_shape for layer in layers}
