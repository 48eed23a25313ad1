"""The interface of a layer: a network is a list of layers, and asks no more of them than this."""

import jax
from flax import nnx


class Layer(nnx.Module):
    """A layer; no layer by itself. Each kind sets its name and its shapes, describes itself, and computes when called.

    Attributes:
      name: of the layer, in the network, its tables and its checkpoints.
      input_shape: of one example: height, width, channels of maps, or (units,) of a vector.
      output_shape: of one example, likewise.
      multiply_adds: of one image; bias, pooling, normalisation and activation not counted, as in the literature.
    """

    name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    multiply_adds: int = 0

    def describe(self) -> str:
        """Returns the layer in words, such as "convolution 5x5, stride 2"."""
        raise NotImplementedError

    def __call__(self, x, keys: jax.Array | None = None, training: bool = False):
        """The output of the layer. Most layers go by x alone.

        Args:
          x: maps in the layer's layout, or vectors [N, units].
          keys: one PRNG key per example [N], with which random pooling and, in training, dropout draw; None: they do
            what is published for evaluation.
          training: dropout drops; batch normalisation uses the statistics of x, and moves the running ones.
        """
        raise NotImplementedError
