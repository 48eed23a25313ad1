"""Initial weights. Keys come from the layer's name, so that adding a layer leaves the others as they were."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np


def layer_key(key: jax.Array, name: str) -> jax.Array:
    """The key of one layer's parameters."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def glorot_uniform(key, shape, fan_in, fan_out) -> jax.Array:
    """U[-a, a] with a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010); Keras's default."""
    bound = np.sqrt(6 / (fan_in + fan_out))  # a number, or one per last-axis entry
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def lecun_1998(key, shape, fan_in) -> jax.Array:
    """U[-2.4/F, 2.4/F] with F the inputs of the unit (LeCun et al. 1998, appendix A).

    Args:
      key: a PRNG key.
      shape: of the weights; their last axis may differ in fan-in.
      fan_in: F, a number or a [shape[-1]] array.
    """
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * (2.4 / jnp.asarray(fan_in, jnp.float32))


def weights_and_bias(init: str, key, shape, fan_in, fan_out, units) -> tuple[jax.Array, jax.Array]:
    """Kernel and bias of a layer.

    Args:
      init: "glorot_uniform" (bias 0) or "lecun_1998" (bias drawn like the weights).
      key: a PRNG key.
      shape: of the kernel.
      fan_in: inputs of the unit that a weight belongs to; a number, or one per last-axis entry of the kernel.
      fan_out: outputs that an input feeds.
      units: inputs of each unit [outputs]; the bias has their length.
    """
    kernel_key, bias_key = jax.random.split(key)
    if init == "glorot_uniform":
        return glorot_uniform(kernel_key, shape, fan_in, fan_out), jnp.zeros(len(units))
    return lecun_1998(kernel_key, shape, fan_in), lecun_1998(bias_key, (len(units),), units)
