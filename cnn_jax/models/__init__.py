"""Networks: lists of layers. `make_model` chooses one from its settings.

A new network is one function that lists its layers, in the file of its family, its declaration in config/networks.py,
and a line in `MODELS` that puts the two together; docs/add_your_own.md has an example.
"""

import functools

import jax
from flax import nnx

from cnn_jax import config
from cnn_jax.config import networks
from cnn_jax.models import alexnet, lenet, small
from cnn_jax.models.network import Builder, Layers

MODELS = {
    networks.LeNet: lenet.lenet,
    networks.LeNet5: lenet.lenet5,
    networks.AlexNet: alexnet.alexnet,
    networks.AlexNetOWT: alexnet.alexnet_owt,
    networks.AlexNetBN: alexnet.alexnet_bn,
    networks.AlexNetNotebook: alexnet.alexnet_notebook,
    networks.AlexNetSmall: alexnet.alexnet_small,
    networks.FourLayer: small.four_layer,
    networks.PositionNet: small.position,
}


def make_model(settings, image_shape: tuple[int, int, int], classes: int, key: jax.Array) -> Layers:
    """The network that the settings describe, called as `model(images, keys=None, training=False)`: see `Layers`.

    Args:
      settings: one of `config.MODELS`.
      image_shape: height, width, channels of an image.
      classes: number of classes.
      key: PRNG key of the initial weights.

    Raises:
      UsageError: a layer does not fit its input.
    """
    return MODELS[type(settings)](Builder(settings, image_shape, key), settings, classes)


def needs_keys(settings) -> bool:
    """Whether the network draws in training: dropout, random pooling. It then has to be given keys.

    Args:
      settings: one of `config.MODELS`.
    """
    return getattr(settings, "dropout", 0) > 0 or any(pool.draws for pool in config.pools(settings))


def outline(settings, image_shape: tuple[int, int, int], classes: int) -> Layers:
    """The network that the settings describe, with shapes in place of numbers; nothing is computed.

    Raises:
      UsageError: a layer does not fit its input.
    """
    return nnx.eval_shape(functools.partial(make_model, settings, image_shape, classes), jax.random.key(0))


def resolve_layout(layout: str, platform: str, spread: bool) -> str:
    """The order of axes inside the network.

    Args:
      layout: "NHWC", "CHWN" or "auto": CHWN on a CPU, else NHWC.
      platform: where the network runs, as JAX calls it: "cpu", "gpu" or "tpu".
      spread: whether one program is spread over several devices. CHWN would then gather the batch at every layer.
    """
    if layout != "auto":
        return layout
    return "CHWN" if platform == "cpu" and not spread else "NHWC"
