"""Activations by name. All rise, so max and min pooling may come before them: f(max(x)) = max(f(x))."""

import jax
import jax.numpy as jnp

from cnn_jax.layers.layer import Layer


def scaled_tanh(x):
    """Returns 1.7159 tanh(2x/3): +-1 maps to +-1, where its curvature is largest (LeCun et al. 1998, appendix A)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


ACTIVATIONS = {"tanh": jnp.tanh, "scaled_tanh": scaled_tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
TITLES = {"tanh": "tanh", "scaled_tanh": "1.7159 tanh(2x/3)", "relu": "ReLU", "sigmoid": "sigmoid"}


class Activation(Layer):
    """The same function of every number. No parameters.

    Args:
      name: for tables.
      input_shape: height, width, channels of maps, or (units,) of vectors.
      kind: a key of `ACTIVATIONS`.
    """

    def __init__(self, name: str, input_shape: tuple[int, ...], kind: str):
        self.name = name
        self.input_shape = self.output_shape = tuple(input_shape)
        self.kind = kind
        # A ReLU is one comparison, which XLA makes part of the convolution before it: after a pooling it costs more
        # (benchmarks/alexnet_step.py). The others have exponentials.
        self.costly = kind != "relu"

    def describe(self) -> str:
        return TITLES[self.kind]

    def __call__(self, x, keys=None, training: bool = False):
        """Maps in any layout, or vectors, to the same shape."""
        return ACTIVATIONS[self.kind](x)
