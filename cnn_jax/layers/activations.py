"""Activations by name. All are monotone, so max and min pooling may come before them: f(max(x)) = max(f(x))."""

import jax
import jax.numpy as jnp


def scaled_tanh(x):
    """1.7159 tanh(2x/3): +-1 maps to +-1, where its curvature is largest (LeCun et al. 1998, appendix A)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


ACTIVATIONS = {"tanh": jnp.tanh, "scaled_tanh": scaled_tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
