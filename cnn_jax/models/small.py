"""Small networks for single questions: ReLU against tanh, and what padding tells of position."""

import jax
from flax import nnx

from cnn_jax import config
from cnn_jax.models.alexnet import _Stack, _Stacked


class FourLayer(_Stacked, nnx.Module):
    """Three convolutions and a dense layer, for figure 1 of Krizhevsky, Sutskever and Hinton 2012.

    There a "four-layer convolutional network" of ReLUs reaches a training error of 25 % on CIFAR-10 six times sooner
    than one of tanh units. The paper says no more of it; this is the four-layer network of the first author's
    cuda-convnet (layers-18pct.cfg), without its normalisation: 89,578 parameters with ten classes at 32 pixels.

    Every convolution keeps the size of its map. Pooling windows may reach a pixel over the bottom and the right edge,
    which count for nothing: 32-16-8-4. Weights begin Glorot uniform, which favours neither activation; cuda-convnet's
    are N(0, 0.0001^2) in conv1 and N(0, 0.01^2) elsewhere.

    Args:
      settings: `config.FourLayer`.
      image_shape: height, width, channels.
      classes: number of classes.
      key: PRNG key of the initial weights.
    """

    pooled = {"conv1": "pool", "conv2": "later_pool", "conv3": "later_pool"}

    def __init__(self, settings: config.FourLayer, image_shape: tuple[int, int, int], classes: int, key: jax.Array):
        stack, glorot = _Stack(self, settings, image_shape, key), "glorot_uniform"
        stack.conv("conv1", 32, 5, glorot, padding=2).activation().pool("pool1")
        stack.conv("conv2", 32, 5, glorot, padding=2).activation().pool("pool2", "later_pool")
        stack.conv("conv3", 64, 5, glorot, padding=2).activation().pool("pool3", "later_pool", last=True)
        stack.flatten().dense("output", classes, glorot)


class PositionNet(_Stacked, nnx.Module):
    """Four 3x3 convolutions, global max pooling and a dense layer, after Kayhan and van Gemert 2020.

    Convolutions of 32, 32, 64 and 64 features; all but the first have a stride of 2. They have no bias, as in the
    authors' code: what is black stays black in every map, and only padding, or its lack, can say where a square lies.
    With two classes 65,506 parameters. Weights begin as in PyTorch.

    Their four kinds of padding are padding.mode = "valid", "1" ("same" in PyTorch's sense: at a stride of 2, "same"
    proper pads only the bottom and the right), "1" with padding.fill = "circular", and "full".

    Args:
      settings: `config.PositionNet`, its layout resolved.
      image_shape: height, width, channels; at least 17 pixels without padding.
      classes: number of classes.
      key: PRNG key of the initial weights.
    """

    pooled = {"conv4": "pool"}

    def __init__(self, settings: config.PositionNet, image_shape: tuple[int, int, int], classes: int, key: jax.Array):
        stack = _Stack(self, settings, image_shape, key)
        pads = {"padding": settings.padding.mode, "biased": False}
        for name, features, stride in (("conv1", 32, 1), ("conv2", 32, 2), ("conv3", 64, 2), ("conv4", 64, 2)):
            stack.conv(name, features, 3, "torch", stride=stride, **pads).activation()
        stack.pool("pool", last=True).flatten().dense("output", classes, "torch")
