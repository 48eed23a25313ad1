"""Small networks for single questions: ReLU against tanh, stochastic pooling, padding and position, no convolution.

Each function lists the layers of a network of so many classes to a builder, which has the same settings.
"""

import typing

from cnn_jax import config
from cnn_jax.models.builder import Builder

if typing.TYPE_CHECKING:
    from cnn_jax.models.network import Layers


def four_layer(net: Builder, settings: config.FourLayer, classes: int) -> "Layers":
    """Lists three convolutions and a dense layer, for figure 1 of Krizhevsky, Sutskever and Hinton 2012.

    There a "four-layer convolutional network" of ReLUs reaches a training error of 25 % on CIFAR-10 six times sooner
    than one of tanh units. The paper says no more of it; this is the four-layer network of the first author's
    cuda-convnet (layers-18pct.cfg), without its normalisation: 89,578 parameters with ten classes at 32 pixels.

    Every convolution keeps the size of its map. Pooling windows may reach a pixel over the bottom and the right edge,
    which count for nothing: 32-16-8-4. Weights begin Glorot uniform, which favours neither activation; cuda-convnet's
    are N(0, 0.0001^2) in conv1 and N(0, 0.01^2) elsewhere.
    """
    glorot, width = "glorot_uniform", settings.width
    net.conv("conv1", width, 5, glorot, padding=2).activation().pool("pool1")
    net.conv("conv2", width, 5, glorot, padding=2).activation().pool("pool2", "later_pool")
    net.conv("conv3", 2 * width, 5, glorot, padding=2).activation().pool("pool3", "later_pool")
    return net.flatten().dense("output", classes, glorot).build()


def zeiler_fergus(net: Builder, settings: config.ZeilerFergus, classes: int) -> "Layers":
    """Lists three convolutions of 5x5, each with a ReLU, a pooling of 3x3 at a stride of 2 and LRN, and a dense layer.

    The network on which Zeiler and Fergus (2013, arXiv 1301.3557) compare stochastic, average and max pooling, with 64
    features in each convolution: 212,362 parameters with ten classes on 28x28 (28-14-7-3). Convolutions keep the size
    of their map, and windows may reach a pixel over the bottom and the right edge, as in `four_layer`. The constants
    of LRN are those of Krizhevsky et al. 2012, and weights begin Glorot uniform: neither is known to us from the paper.
    """
    glorot = "glorot_uniform"
    for number in "123":
        net.conv(f"conv{number}", settings.width, 5, glorot, padding=2).activation().pool(f"pool{number}")
        net.norm(f"norm{number}", settings.norm)
    return net.flatten().dense("output", classes, glorot).build()


def position(net: Builder, settings: config.PositionNet, classes: int) -> "Layers":
    """Lists four 3x3 convolutions, global max pooling and a dense layer, after Kayhan and van Gemert 2020.

    Convolutions of 32, 32, 64 and 64 features; all but the first have a stride of 2. They have no bias, as in the
    authors' code: what is black stays black in every map, and only padding, or its lack, can say where a square lies.
    With two classes 65,506 parameters. Weights begin as in PyTorch.

    Their four kinds of padding are padding.mode = "valid", "1" ("same" in PyTorch's sense: at a stride of 2, "same"
    proper pads only the bottom and the right), "1" with padding.fill = "circular", and "full". Without padding, images
    need 17 pixels.
    """
    for name, features, stride in (("conv1", 32, 1), ("conv2", 32, 2), ("conv3", 64, 2), ("conv4", 64, 2)):
        net.conv(name, features, 3, "torch", stride=stride, biased=False).activation()
    return net.pool("pool").flatten().dense("output", classes, "torch").build()


def mlp(net: Builder, settings: config.MLP, classes: int) -> "Layers":
    """Lists dense `units`, dense `classes`; with 0 units a linear classifier.

    On 28x28 the "784-300-10" and the "linear" rows of LeCun et al. 1998, section III.
    """
    net.flatten()
    if settings.units:
        net.dense("hidden", settings.units, settings.init).activation()
    return net.dense("output", classes, settings.init).build()
