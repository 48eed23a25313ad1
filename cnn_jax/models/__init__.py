"""Networks: final modules made of layers. `make_model` chooses one from its settings."""

import functools

import jax
from flax import nnx

from cnn_jax import config
from cnn_jax.models.alexnet import AlexNet, AlexNetBN, AlexNetNotebook, AlexNetOWT, AlexNetSmall
from cnn_jax.models.lenet import LeNet, LeNet5
from cnn_jax.models.small import FourLayer, PositionNet

MODELS = {
    config.LeNet: LeNet,
    config.LeNet5: LeNet5,
    config.AlexNet: AlexNet,
    config.AlexNetOWT: AlexNetOWT,
    config.AlexNetBN: AlexNetBN,
    config.AlexNetNotebook: AlexNetNotebook,
    config.AlexNetSmall: AlexNetSmall,
    config.FourLayer: FourLayer,
    config.PositionNet: PositionNet,
}


def make_model(settings, image_shape: tuple[int, int, int], classes: int, key: jax.Array) -> nnx.Module:
    """The network that the settings describe.

    Every network is called as `model(images, keys=None, training=False)` with images [N, height, width, channels] and
    returns logits [N, classes] and a dict of named maps. `keys` (one per example) let random pooling draw and, in
    training, dropout; in training, batch normalisation uses the batch's own statistics and moves its running ones.
    `parts()` lists the layers in order.

    Args:
      settings: one of `config.MODELS`.
      image_shape: height, width, channels of an image.
      classes: number of classes.
      key: PRNG key of the initial weights.

    Raises:
      UsageError: a layer does not fit its input.
    """
    return MODELS[type(settings)](settings, image_shape, classes, key)


def needs_keys(settings) -> bool:
    """Whether the network draws in training: dropout, random pooling. It then has to be given keys.

    Args:
      settings: one of `config.MODELS`.
    """
    return getattr(settings, "dropout", 0) > 0 or any(pool.draws for pool in config.pools(settings))


def outline(settings, image_shape: tuple[int, int, int], classes: int) -> nnx.Module:
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
