"""Dense (fully connected) layers, flattening and dropout before them, and the radial basis output of 1998."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cnn_jax.config.networks import Normal
from cnn_jax.config.sizes import by
from cnn_jax.errors import UsageError
from cnn_jax.layers.initializers import layer_key, weights_and_bias
from cnn_jax.layers.layer import Layer
from cnn_jax.layers.windows import flatten


class Dense(Layer):
    """x @ kernel + bias. Parameters: kernel [inputs, units], bias [units].

    Args:
      name: for tables and the initial weights.
      inputs: length of an input.
      units: length of an output.
      key: PRNG key of the model's initial weights.
      init: as `initializers.weights_and_bias`.
    """

    def __init__(self, name: str, inputs: int, units: int, *, key: jax.Array, init: str | Normal = "glorot_uniform"):
        self.name = name
        self.input_shape = (inputs,)
        self.output_shape = (units,)
        kernel, bias = weights_and_bias(init, layer_key(key, name), (inputs, units), inputs, units, [inputs] * units)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds for one image, bias not counted."""
        return self.input_shape[0] * self.output_shape[0]

    def describe(self) -> str:
        return "dense"

    def __call__(self, x, keys=None, training: bool = False):
        """[N, inputs] to [N, units]."""
        return x @ self.kernel[...] + self.bias[...]


class Flatten(Layer):
    """Maps to vectors, pixel by pixel, the same in every layout. No parameters.

    Args:
      name: for tables.
      input_shape: height, width, channels; (units,) of vectors, which stay as they are.
      layout: "NHWC" or "CHWN".
    """

    def __init__(self, name: str, input_shape: tuple[int, ...], layout: str = "NHWC"):
        self.name = name
        self.input_shape = tuple(input_shape)
        self.output_shape = (math.prod(input_shape),)
        self.layout = layout

    def describe(self) -> str:
        return f"flatten {by(self.input_shape)} to {by(self.output_shape)}"

    def __call__(self, x, keys=None, training: bool = False):
        """Maps in the layer's layout to [N, height * width * channels]."""
        return flatten(x, self.layout)


class Dropout(Layer):
    """Zeroes a fraction of each example's units in training (Hinton et al. 2012). No parameters.

    Units are scaled to make up for those that are missing: in training, where those that stay are divided by
    1 - rate, or, as in 2012, in evaluation, where all are there and each is multiplied by it.

    Args:
      name: for tables.
      input_shape: height, width, channels of maps, or (units,) of vectors.
      rate: the fraction, in [0, 1).
      purpose: tells this layer's draws from another's with the same keys.
      scale_in: "training" or "evaluation".
    """

    def __init__(self, name: str, input_shape: tuple[int, ...], rate: float, purpose: int, scale_in: str = "training"):
        self.name = name
        self.input_shape = self.output_shape = tuple(input_shape)
        self.rate = rate
        self.purpose = purpose
        self.scale_in = scale_in

    def describe(self) -> str:
        return f"dropout {self.rate:g}" + ", scaled in evaluation" * (self.scale_in == "evaluation")

    def __call__(self, x, keys=None, training: bool = False):
        """Units to units of the same shape; without keys all of them stay, in training too."""
        kept, late = 1 - self.rate, self.scale_in == "evaluation"
        if keys is None or not training:
            return x * kept if late else x
        draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, self.purpose), kept, x.shape[1:])
        return jnp.where(jax.vmap(draw)(keys), x if late else x / kept, 0)


# Digits of 7x12 pixels, drawn for this project in the manner of figure 3 of LeCun et al. 1998.
_BITMAPS = """
..###.. ...#... .#####. .#####. .....#. ####### ..####. ####### .#####. .#####.
.#...#. ..##... #.....# #.....# ....##. #...... .#....# ......# #.....# #.....#
#.....# .#.#... ......# ......# ...#.#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. .....#. .#...#. #.####. #.####. ....#.. .#...#. #....##
#.....# ...#... ....#.. ..###.. #....#. ##....# ##....# ....#.. ..###.. .####.#
#.....# ...#... ...#... .....#. ####### ......# #.....# ...#... .#...#. ......#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# ......#
#.....# ...#... #...... ......# .....#. ......# #.....# ..#.... #.....# .....#.
.#...#. ...#... #...... #.....# .....#. #.....# .#...#. .#..... #.....# #....#.
..###.. .#####. ####### .#####. .....#. .#####. ..###.. .#..... .#####. .####..
"""


@functools.cache
def digit_bitmaps() -> np.ndarray:
    """Returns the ten digits as 7x12 bitmaps [10, 84]: +1 ink, -1 paper; row by row."""
    rows = [line.split() for line in _BITMAPS.strip().splitlines()]
    ink = np.array([[[char == "#" for char in row[digit]] for row in rows] for digit in range(10)])
    bitmaps = np.where(ink.reshape(10, -1), 1.0, -1.0).astype(np.float32)
    bitmaps.setflags(write=False)
    return bitmaps


class RadialBasis(Layer):
    """Squared Euclidean distances to fixed bitmaps, negated, so that the largest output is the answer.

    No parameters. -y_i = -sum_j (x_j - w_ij)^2, with w the digits' bitmaps (LeCun et al. 1998, section II-B).

    Raises:
      UsageError: the number of classes is not ten.
    """

    def __init__(self, name: str, classes: int):
        if classes != len(digit_bitmaps()):
            raise UsageError(f"model.output = 'rbf' has bitmaps of the ten digits, and there are {classes} classes")
        self.name = name
        self.input_shape = (84,)
        self.output_shape = (10,)
        self.multiply_adds = 840

    def describe(self) -> str:
        return "radial basis, fixed"

    def __call__(self, x, keys=None, training: bool = False):
        """[N, 84] to [N, 10]."""
        return -jnp.sum((x[:, None, :] - digit_bitmaps().astype(x.dtype)) ** 2, axis=-1)
