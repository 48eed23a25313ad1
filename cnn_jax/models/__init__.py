"""Networks: lists of layers. `make_model` chooses one from its settings.

A new network is one function that lists its layers, in the file of its family, its declaration in config/networks.py,
and a line in `MODELS` that puts the two together; docs/add_your_own.md has an example.
"""

import functools
import typing

from cnn_jax import config
from cnn_jax.config import networks
from cnn_jax.errors import UsageError
from cnn_jax.models import alexnet, lenet, small
from cnn_jax.models.arithmetic import Sizes, Unknown
from cnn_jax.models.builder import Builder

if typing.TYPE_CHECKING:
    import jax

    from cnn_jax.models.network import Layers

MODELS = {
    networks.LeNet: lenet.lenet,
    networks.LeNet1: lenet.lenet1,
    networks.LeNet5: lenet.lenet5,
    networks.AlexNet: alexnet.alexnet,
    networks.AlexNetOWT: alexnet.alexnet_owt,
    networks.AlexNetBN: alexnet.alexnet_bn,
    networks.AlexNetNotebook: alexnet.alexnet_notebook,
    networks.AlexNetSmall: alexnet.alexnet_small,
    networks.FourLayer: small.four_layer,
    networks.ZeilerFergus: small.zeiler_fergus,
    networks.PositionNet: small.position,
    networks.MLP: small.mlp,
}

MOST_WEIGHTS = 10**9  # 4 GB, thrice with momentum and gradient: sixteen times AlexNet


def make_model(settings, image_shape: tuple[int, int, int], classes: int, key: "jax.Array") -> "Layers":
    """Makes the network that the settings describe, called as `model(images, keys=None, training=False)`: see `Layers`.

    Args:
      settings: one of `config.MODELS`.
      image_shape: height, width, channels of an image.
      classes: number of classes.
      key: PRNG key of the initial weights.

    Raises:
      UsageError: a layer does not fit its input.
    """
    from cnn_jax.models.network import Maker  # jax, which takes a second

    return MODELS[type(settings)](Builder(settings, image_shape, Maker(settings, key)), settings, classes)


def layer_sizes(settings, image_shape: tuple[int, int, int], classes: int) -> dict[str, tuple[int, ...]] | None:
    """Returns the output shape of each layer of a network by the layer's name, by arithmetic and without jax.

    Activations that some kinds of pooling are followed by are not counted; they leave shapes as they are.

    None where the network has a layer of its own kind, whose size only the layer knows.

    Raises:
      UsageError: a layer does not fit its input.
    """
    try:
        return MODELS[type(settings)](Builder(settings, image_shape, Sizes()), settings, classes)
    except Unknown:
        return None


def problems(settings: config.Config, stored: tuple[int, int, int] | None) -> list[str]:
    """Returns what is wrong with the layers of a network: one line, or none.

    Args:
      settings: of a run; sound by themselves.
      stored: height, width and channels of a stored image; None where only files tell.
    """
    if not stored:
        return []
    sizes, classes = Sizes(), settings.data.kind.classes or 10  # any number does
    try:
        build = MODELS[type(settings.model)]
        build(Builder(settings.model, config.image_shape(settings.data, stored), sizes), settings.model, classes)
    except Unknown:
        return []
    except UsageError as error:
        return [str(error)]
    if sizes.weights > MOST_WEIGHTS:
        return [
            f"the network would have {sizes.weights:,} weights, and {MOST_WEIGHTS:,} are the most: smaller images "
            "(data.crop, data.side), or fewer units, features or classes"
        ]
    return []


def needs_keys(settings) -> bool:
    """Tells whether the network draws in training (dropout, random pooling, random padding): it then needs PRNG keys.

    Args:
      settings: one of `config.MODELS`.
    """
    drops, edge = getattr(settings, "dropout", 0) > 0, getattr(settings, "padding", None)
    return drops or (edge is not None and edge.fill == "random") or any(pool.draws for pool in config.pools(settings))


def outline(settings, image_shape: tuple[int, int, int], classes: int) -> "Layers":
    """Returns the network that the settings describe, with shapes in place of numbers; nothing is computed.

    Raises:
      UsageError: a layer does not fit its input.
    """
    import jax
    from flax import nnx

    return nnx.eval_shape(functools.partial(make_model, settings, image_shape, classes), jax.random.key(0))


def resolve_layout(layout: str, platform: str, spread: bool) -> str:
    """Returns the order of axes inside the network.

    Args:
      layout: "NHWC", "CHWN" or "auto": CHWN on a CPU, else NHWC.
      platform: where the network runs, as JAX calls it: "cpu", "gpu" or "tpu".
      spread: whether one program is spread over several devices. CHWN would then gather the batch at every layer.
    """
    if layout != "auto":
        return layout
    return "CHWN" if platform == "cpu" and not spread else "NHWC"
