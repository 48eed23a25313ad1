"""LeNet: the Keras notebook's network, LeNet-1, and LeNet-5 as published in 1998 with its modern reading.

Each function lists the layers of a network of so many classes to a builder, which has the same settings.
"""

import typing

from cnn_jax import config
from cnn_jax.models.builder import Builder

if typing.TYPE_CHECKING:
    from cnn_jax.models.network import Layers

# LeCun et al. 1998, table I: the S2 maps that each C3 map reads.
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip


def lenet(net: Builder, settings: config.LeNet, classes: int) -> "Layers":
    """Lists conv 6@5x5, pool, conv 16@5x5, pool, dense 120, dense 84, dense `classes`.

    At 28x28 with the defaults it is the notebook's network: 44,426 parameters.
    """
    init = settings.init
    for name, pool, features in (("conv1", "pool1", 6), ("conv2", "pool2", 16)):
        net.conv(name, features, 5, init)
        if settings.order == "activation_pool":
            net.activation().pool(pool)
        else:
            net.pool(pool).activation()
    net.flatten().dense("dense1", 120, init).activation().dropout()
    net.dense("dense2", 84, init).activation().dropout()
    return net.dense("output", classes, init).build()


def lenet1(net: Builder, settings: config.LeNet1, classes: int) -> "Layers":
    """Lists C1 conv 4@5x5, S2 pool, C3 conv 12@5x5, S4 pool, dense `classes`.

    The network of LeCun et al. 1990, "Handwritten digit recognition with a back-propagation network", which the paper
    of 1998 calls LeNet-1. There a C3 map reads one or two of the S2 maps, here all of them. At 28x28 with
    subsampling 3,278 parameters.
    """
    init = settings.init
    net.conv("c1", 4, 5, init).activation().pool("s2")
    net.conv("c3", 12, 5, init).activation().pool("s4")
    return net.flatten().dense("output", classes, init).build()


def lenet5(net: Builder, settings: config.LeNet5, classes: int) -> "Layers":
    """Lists C1 conv 6@5x5, S2 pool, C3 conv 16@5x5, S4 pool, C5 conv 120@5x5, F6 dense 84, output.

    For 32x32 images. With the connection table, subsampling and the radial basis output: 60,000 parameters; with
    dense C3, parameter-free pooling and a softmax output: 61,706. The 1998 subsampling squashes its result, as every
    other layer of that network does.

    The radial basis output has the bitmaps of ten digits, and no other number of classes.
    """
    init, table = settings.init, C3_TABLE if settings.connections == "table" else None
    net.conv("c1", 6, 5, init).activation().pool("s2")
    net.conv("c3", 16, 5, init, connections=table).activation().pool("s4")
    net.conv("c5", 120, 5, init).activation().flatten().dropout()
    net.dense("f6", 84, init).activation().dropout()
    if settings.output == "softmax":
        return net.dense("output", classes, init).build()
    return net.radial_basis("output", classes).build()
