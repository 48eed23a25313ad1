"""LeNet: the Keras notebook's network, and LeNet-5 as published in 1998 with its modern reading."""

import functools
import math

import jax
from flax import nnx

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.layers import windows
from cnn_jax.layers.activations import ACTIVATIONS
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.dense import Dense, RadialBasis, dropout
from cnn_jax.layers.pooling import make_pool, stride_before

# LeCun et al. 1998, table I: the S2 maps that each C3 map reads.
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip


class LeNet(nnx.Module):
    """conv 6@5x5, pool, conv 16@5x5, pool, dense 120, dense 84, dense `classes`.

    At 28x28 with the defaults it is the notebook's network: 44,426 parameters.

    Args:
      settings: `config.LeNet`, its layout resolved.
      image_shape: height, width, channels.
      classes: number of classes.
      key: PRNG key of the initial weights.
    """

    def __init__(self, settings: config.LeNet, image_shape: tuple[int, int, int], classes: int, key: jax.Array):
        self.activation = settings.activation
        self.dropout = settings.dropout
        self.layout = settings.layout
        convolution, pool = _makers(settings, key)
        self.conv1 = convolution("conv1", image_shape, 6, 5, stride=stride_before(settings.pool))
        self.pool1 = pool("pool1", self.conv1.output_shape)
        self.conv2 = convolution("conv2", self.pool1.output_shape, 16, 5, stride=stride_before(settings.pool, True))
        self.pool2 = pool("pool2", self.conv2.output_shape, last=True)
        self.dense1 = Dense("dense1", math.prod(self.pool2.output_shape), 120, init=settings.init, key=key)
        self.dense2 = Dense("dense2", 120, 84, init=settings.init, key=key)
        self.output = Dense("output", 84, classes, init=settings.init, key=key)

    def parts(self) -> list:
        """The layers in order."""
        return [self.conv1, self.pool1, self.conv2, self.pool2, self.dense1, self.dense2, self.output]

    def __call__(self, images, keys=None, training: bool = False):
        """Images [N, height, width, channels] to logits [N, classes] and maps by layer name (NHWC)."""
        activate = ACTIVATIONS[self.activation]
        maps = {}
        x = windows.from_images(images, self.layout)
        for conv, pool in ((self.conv1, self.pool1), (self.conv2, self.pool2)):
            x = _conv_pool(x, conv, pool, activate, maps, keys)
        x = windows.flatten(x, self.layout)
        drops = keys if training else None
        x = dropout(activate(self.dense1(x)), self.dropout, drops, 1)
        x = dropout(activate(self.dense2(x)), self.dropout, drops, 2)
        return self.output(x), maps


class LeNet5(nnx.Module):
    """C1 conv 6@5x5, S2 pool, C3 conv 16@5x5, S4 pool, C5 conv 120@5x5, F6 dense 84, output.

    For 32x32 images. With the connection table, subsampling and the radial basis output: 60,000 parameters; with
    dense C3, parameter-free pooling and a softmax output: 61,706.

    Args:
      settings: `config.LeNet5`, its layout resolved.
      image_shape: height, width, channels.
      classes: number of classes; 10 for the radial basis output.
      key: PRNG key of the initial weights.
    """

    def __init__(self, settings: config.LeNet5, image_shape: tuple[int, int, int], classes: int, key: jax.Array):
        self.activation = settings.activation
        self.dropout = settings.dropout
        self.layout = settings.layout
        convolution, pool = _makers(settings, key)
        stride = stride_before(settings.pool)
        table = C3_TABLE if settings.connections == "table" else None
        if settings.pool.last:
            raise UsageError(
                f"model.pool.last = {settings.pool.last.name!r} does not apply: in lenet5 s4 comes before a convolution"
            )
        self.c1 = convolution("c1", image_shape, 6, 5, stride=stride)
        self.s2 = pool("s2", self.c1.output_shape)
        self.c3 = convolution("c3", self.s2.output_shape, 16, 5, stride=stride, connections=table)
        self.s4 = pool("s4", self.c3.output_shape)
        self.c5 = convolution("c5", self.s4.output_shape, 120, 5)
        height, width, channels = self.c5.output_shape
        self.f6 = Dense("f6", height * width * channels, 84, init=settings.init, key=key)
        if settings.output == "rbf":
            if classes != 10:
                raise UsageError(f"model.output = 'rbf' has bitmaps of the ten digits, and there are {classes} classes")
            self.output = RadialBasis("output")
        else:
            self.output = Dense("output", 84, classes, init=settings.init, key=key)

    def parts(self) -> list:
        """The layers in order."""
        return [self.c1, self.s2, self.c3, self.s4, self.c5, self.f6, self.output]

    def __call__(self, images, keys=None, training: bool = False):
        """Images [N, height, width, channels] to logits [N, classes] and maps by layer name (NHWC)."""
        activate = ACTIVATIONS[self.activation]
        maps = {}
        x = windows.from_images(images, self.layout)
        for conv, pool in ((self.c1, self.s2), (self.c3, self.s4)):
            x = _conv_pool(x, conv, pool, activate, maps, keys)
        x = windows.flatten(activate(self.c5(x)), self.layout)
        drops = keys if training else None
        x = dropout(x, self.dropout, drops, 1)
        x = dropout(activate(self.f6(x)), self.dropout, drops, 2)
        return self.output(x), maps


def _makers(settings, key):
    """The constructors of convolutions and poolings, with what all of a network's have in common."""
    common = {"init": settings.init, "layout": settings.layout, "key": key}
    convolution = functools.partial(Convolution, padding=settings.padding.mode, fill=settings.padding.fill, **common)
    return convolution, functools.partial(make_pool, settings=settings.pool, activation=settings.activation, **common)


def _conv_pool(x, conv, pool, activate, maps, keys):
    """Convolution, activation, pooling; the maps before and after pooling are named after the layers.

    Where the order does not matter, pooling comes first: the activation then has a fraction of the work. The map
    before pooling is computed only if somebody reads it.

    The 1998 subsampling squashes its result as well; so does every other layer of that network.
    """
    x = conv(x)
    layout = conv.geometry.layout
    maps[conv.name] = windows.to_images(activate(x), layout)
    if pool.before_activation:
        x = activate(pool(x, keys))
    else:
        x = pool(activate(x), keys)
        x = activate(x) if pool.squashed else x
    if x.ndim == 4:
        maps[pool.name] = windows.to_images(x, layout)
    return x
