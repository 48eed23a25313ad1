"""Normalisation: local response normalisation of 2012, and batch normalisation.

Both compute in float32, whatever the precision of the network: squares and variances need more digits than bfloat16
has. The result is rounded to what came in.
"""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from cnn_jax.errors import UsageError
from cnn_jax.layers.layer import Layer
from cnn_jax.layers.windows import per_channel


class LocalResponseNormalization(Layer):
    """b_i = a_i / (k + alpha s_i)^beta, with s_i the sum of a_j^2 over the `size` channels around i that there are.

    Krizhevsky, Sutskever and Hinton 2012, section 3.3, whose constants are the defaults. No parameters.

    Args:
      name: for messages and tables.
      input_shape: height, width, channels.
      size: channels in a sum, n in the paper; odd.
      k: k.
      alpha: alpha.
      beta: beta.
      divided: divide alpha by `size`, as the released code of 2012, Caffe and PyTorch do: their s is a mean.
      layout: "NHWC" or "CHWN".

    Raises:
      UsageError: the size is not odd.
    """

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, int, int],
        *,
        size: int = 5,
        k: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        divided: bool = False,
        layout: str = "NHWC",
    ):
        if size < 1 or size % 2 == 0:
            raise UsageError(f"{name}: size = {size} must be odd, as many channels on either side of each")
        self.name = name
        self.input_shape = self.output_shape = tuple(input_shape)
        self.size = size
        self.k = k
        self.alpha = alpha / size if divided else alpha
        self.beta = beta
        self.layout = layout

    def describe(self) -> str:
        return f"local response normalisation over {self.size} channels"

    def __call__(self, x, keys=None, training: bool = False):
        """Maps to maps of the same shape, both in the layer's layout."""
        return local_response(x, self.layout.index("C"), self.size, self.k, self.alpha, self.beta)


def local_response(x, axis: int, size: int, k: float, alpha: float, beta: float):
    """Returns x / (k + alpha s)^beta, with s the sum of x^2 over `size` (odd) neighbours along an axis."""
    wide = x.astype(jnp.float32)
    window = [size if i == axis else 1 for i in range(x.ndim)]
    pads = [(size // 2, size // 2) if i == axis else (0, 0) for i in range(x.ndim)]
    # Its derived gradient is the same kind of sum, and on CPU four times as fast as that of shifted slices.
    sums = lax.reduce_window(wide * wide, np.float32(0), lax.add, window, (1,) * x.ndim, pads)
    base = k + alpha * sums
    if beta == 0.75:
        root = lax.rsqrt(base)
        return (wide * root * jnp.sqrt(root)).astype(x.dtype)  # on CPU four times as fast as a power
    return (wide * base**-beta).astype(x.dtype)


class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, for each channel (Ioffe and Szegedy 2015).

    In training, mean and variance are those of the batch, over examples and places, and the running ones move:
    running = momentum * running + (1 - momentum) * batch's. Otherwise the running ones are used. The running variance
    is that of the batch itself, sum / n, as in Keras and Flax; PyTorch's is sum / (n - 1), which differs for small n.

    Parameters: scale [channels], started at 1; bias [channels], at 0. Statistics: mean [channels], at 0; var, at 1.

    Args:
      name: for tables.
      input_shape: height, width, channels of maps, or (units,) of vectors.
      momentum: share of the running statistics that is kept at a step; Keras's default is 0.99, PyTorch's 1 - 0.1.
      epsilon: added to the variance; Keras's default is 1e-3, PyTorch's 1e-5.
      layout: "NHWC" or "CHWN"; vectors are [N, units] in either.
    """

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, ...],
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        layout: str = "NHWC",
    ):
        self.name = name
        self.input_shape = self.output_shape = tuple(input_shape)
        self.momentum = momentum
        self.epsilon = epsilon
        self.layout = layout if len(self.input_shape) == 3 else "NC"
        channels = self.input_shape[-1]
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))

    def describe(self) -> str:
        return "batch normalisation"

    def __call__(self, x, keys=None, training: bool = False):
        """Maps or vectors to the same shape.

        Args:
          x: maps in the layer's layout, or [N, units].
          keys: not used.
          training: use the statistics of x, and move the running ones.
        """
        wide = x.astype(jnp.float32)
        mean, var = self.mean[...], self.var[...]
        if training:
            mean, var = self._of_batch(wide)
        factor = self.scale[...] * lax.rsqrt(var + self.epsilon)
        shift = self.bias[...] - mean * factor
        return (wide * per_channel(factor, self.layout) + per_channel(shift, self.layout)).astype(x.dtype)

    def _of_batch(self, x):
        """Mean and variance of x by channel; the running ones move towards them."""
        rest = tuple(axis for axis, name in enumerate(self.layout) if name != "C")
        mean, var = jnp.mean(x, rest), jnp.var(x, rest)
        for running, value in ((self.mean, mean), (self.var, var)):
            running[...] = self.momentum * running[...] + (1 - self.momentum) * lax.stop_gradient(value)
        return mean, var
