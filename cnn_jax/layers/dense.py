"""Dense (fully connected) layers, dropout, and the radial basis output of 1998."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cnn_jax.layers.initializers import Normal, layer_key, weights_and_bias


class Dense(nnx.Module):
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
        """Of one image, bias not counted."""
        return self.input_shape[0] * self.output_shape[0]

    def describe(self) -> str:
        """What the layer does, in words."""
        return "dense"

    def __call__(self, x):
        """[N, inputs] to [N, units]."""
        return x @ self.kernel[...] + self.bias[...]


def dropout(x, rate: float, keys, purpose: int, scale: float | None = None):
    """Zeroes a fraction `rate` of each example's units and scales the rest.

    Args:
      x: [N, units].
      rate: in [0, 1).
      keys: one PRNG key per example [N], or None: leave x as it is.
      purpose: tells this layer's draws from another's with the same keys.
      scale: what the units that stay are multiplied by; None: 1 / (1 - rate), which keeps the mean.
    """
    if keys is None or rate == 0:
        return x
    draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, purpose), 1 - rate, x.shape[1:])
    kept = jax.vmap(draw)(keys)
    return jnp.where(kept, x / (1 - rate) if scale is None else x * scale, 0)


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
    """The ten digits as 7x12 bitmaps [10, 84]: +1 ink, -1 paper; row by row."""
    rows = [line.split() for line in _BITMAPS.strip().splitlines()]
    ink = np.array([[[char == "#" for char in row[digit]] for row in rows] for digit in range(10)])
    bitmaps = np.where(ink.reshape(10, -1), 1.0, -1.0).astype(np.float32)
    bitmaps.setflags(write=False)
    return bitmaps


class RadialBasis(nnx.Module):
    """Squared Euclidean distances to fixed bitmaps, negated, so that the largest output is the answer.

    No parameters. -y_i = -sum_j (x_j - w_ij)^2, with w the digits' bitmaps (LeCun et al. 1998, section II-B).
    """

    def __init__(self, name: str):
        self.name = name
        self.input_shape = (84,)
        self.output_shape = (10,)
        self.multiply_adds = 840

    def describe(self) -> str:
        """What the layer does, in words."""
        return "radial basis, fixed"

    def __call__(self, x):
        """[N, 84] to [N, 10]."""
        return -jnp.sum((x[:, None, :] - digit_bitmaps().astype(x.dtype)) ** 2, axis=-1)
