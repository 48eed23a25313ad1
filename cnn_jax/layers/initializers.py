"""Initial weights. Keys come from the layer's name, so that adding a layer leaves the others as they were."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.config.networks import Normal


def layer_key(key: jax.Array, name: str) -> jax.Array:
    """Returns the key of one layer's parameters."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def glorot_uniform(key, shape, fan_in, fan_out) -> jax.Array:
    """Draws from U[-a, a] with a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010); Keras's default."""
    bound = np.sqrt(6 / (fan_in + fan_out))  # a number, or one per last-axis entry
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def lecun_1998(key, shape, fan_in) -> jax.Array:
    """Draws from U[-2.4/F, 2.4/F] with F the inputs of the unit (LeCun et al. 1998, appendix A).

    Args:
      key: a PRNG key.
      shape: of the weights; their last axis may differ in fan-in.
      fan_in: F, a number or a [shape[-1]] array.
    """
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * (2.4 / jnp.asarray(fan_in, jnp.float32))


def he_normal(key, shape, fan_in) -> jax.Array:
    """Draws from N(0, 2 / F) with F the inputs of the unit (He et al. 2015): keeps the variance through ReLUs."""
    return jax.random.normal(key, shape) * jnp.sqrt(2 / jnp.asarray(fan_in, jnp.float32))


def torch_uniform(key, shape, fan_in) -> jax.Array:
    """Draws from U[-1/sqrt(F), 1/sqrt(F)], F the inputs of the unit: PyTorch's default, kaiming_uniform_(a=sqrt(5))."""
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) / jnp.sqrt(jnp.asarray(fan_in, jnp.float32))


def weights_and_bias(init: str | Normal, key, shape, fan_in, fan_out, units) -> tuple[jax.Array, jax.Array]:
    """Returns the kernel and the bias of a layer.

    Args:
      init: "glorot_uniform" or "he_normal" (bias 0), "lecun_1998" or "torch" (bias drawn like the weights), or a
        `Normal`.
      key: a PRNG key.
      shape: of the kernel.
      fan_in: inputs of the unit that a weight belongs to; a number, or one per last-axis entry of the kernel.
      fan_out: outputs that an input feeds.
      units: inputs of each unit [outputs]; the bias has their length.

    Raises:
      ValueError: init is none of these.
    """
    kernel_key, bias_key = jax.random.split(key)
    outputs = (len(units),)
    match init:
        case Normal(std, bias):
            return std * jax.random.normal(kernel_key, shape), jnp.full(outputs, float(bias))
        case "glorot_uniform":
            return glorot_uniform(kernel_key, shape, fan_in, fan_out), jnp.zeros(outputs)
        case "he_normal":
            return he_normal(kernel_key, shape, fan_in), jnp.zeros(outputs)
        case "lecun_1998":
            return lecun_1998(kernel_key, shape, fan_in), lecun_1998(bias_key, outputs, units)
        case "torch":
            return torch_uniform(kernel_key, shape, fan_in), torch_uniform(bias_key, outputs, units)
    raise ValueError(f"init = {init!r} must be a scheme such as 'he_normal', or Normal(std)")
