"""AlexNet: as published in 2012, torchvision's, with batch normalisation, the Keras notebook's, and a small one.

Each function lists the layers of a network of so many classes to a builder, which has the same settings.
"""

import typing

from cnn_jax import config
from cnn_jax.config.networks import Normal
from cnn_jax.errors import UsageError
from cnn_jax.models.builder import Builder

if typing.TYPE_CHECKING:
    from cnn_jax.models.network import Layers

PAPER = Normal(0.01)  # Krizhevsky et al. 2012, section 5: N(0, 0.01^2), biases 0
PAPER_ONE = Normal(0.01, bias=1)  # and 1 in conv2, conv4, conv5 and the hidden dense layers
KERAS = dict(momentum=0.99, epsilon=1e-3)  # batch normalisation's defaults there


def alexnet(net: Builder, settings: config.AlexNet, classes: int) -> "Layers":
    """Lists the layers of Krizhevsky, Sutskever and Hinton 2012: five convolutions and three dense layers.

    With 1000 classes 60,965,224 parameters. conv2, conv4 and conv5 are in two groups; pools overlap.

    The first convolution is as the released code has it: no padding at the top and on the left, and at the bottom and
    on the right what makes the last window whole. So 224 pixels give maps of 55, as 227 do, which need no padding.

    Where paper and released code disagree, settings choose (`config.AlexNet`): `alpha_divided`, `middle_std`, and
    `norm_first`, which puts the first LRN before its ReLU. In both, the second LRN follows its ReLU, and dropout leaves
    the units that stay as they are: in evaluation, with all of them there, each counts half (`dropout_scale`).
    """
    groups, middle, scale_in = settings.groups, settings.middle_std, settings.dropout_scale
    lrn = {"divided": settings.alpha_divided}
    net.conv("conv1", 96, 11, PAPER, stride=4, padding=_to_whole_windows(net.image_shape, 11, 4))
    net.active("norm1", settings.norm, settings.norm_first, **lrn).pool("pool1")
    net.conv("conv2", 256, 5, PAPER_ONE, padding=2, groups=groups)
    net.active("norm2", settings.norm, False, **lrn).pool("pool2")
    net.conv("conv3", 384, 3, Normal(middle), padding=1).activation()
    net.conv("conv4", 384, 3, Normal(middle, bias=1), padding=1, groups=groups).activation()
    net.conv("conv5", 256, 3, Normal(middle, bias=1), padding=1, groups=groups).activation()
    net.pool("pool5").flatten()
    net.dense("dense1", settings.units, PAPER_ONE).activation().dropout(scale_in)
    net.dense("dense2", settings.units, PAPER_ONE).activation().dropout(scale_in)
    return net.dense("output", classes, PAPER).build()


def alexnet_owt(net: Builder, settings: config.AlexNetOWT, classes: int) -> "Layers":
    """Torchvision's AlexNet, after Krizhevsky 2014, "One weird trick": one column, no normalisation.

    With 1000 classes 61,100,840 parameters at 224 pixels. Torchvision averages the last map to 6x6 whatever the image;
    here the first dense layer reads the last map as it is. At 224 pixels it has 6x6, and the two are the same network.
    Images need 63 pixels with the default pooling.

    With `blur_conv`, and pooling by max_blur, it is the anti-aliased AlexNet of Zhang 2019: the first convolution has a
    stride of 2, and after its activation a blur the other 2.
    """
    net.conv("conv1", 64, 11, "torch", stride=2 if settings.blur_conv else 4, padding=2).activation()
    net.blur("blur1", settings.blur_conv, stride=2).pool("pool1")
    net.conv("conv2", 192, 5, "torch", padding=2).activation().pool("pool2")
    net.conv("conv3", 384, 3, "torch", padding=1).activation()
    net.conv("conv4", 256, 3, "torch", padding=1).activation()
    net.conv("conv5", 256, 3, "torch", padding=1).activation().pool("pool5").flatten()
    net.dropout().dense("dense1", 4096, "torch").activation()
    net.dropout().dense("dense2", 4096, "torch").activation()
    return net.dense("output", classes, "torch").build()


def alexnet_bn(net: Builder, settings: config.AlexNetBN, classes: int) -> "Layers":
    """Lists `alexnet` with batch normalisation before every hidden activation, not LRN; by default one group.

    With 1000 classes 62,397,480 parameters.

    Weights begin as N(0, 2 / fan-in), those of the output as N(0, 0.01^2): the first loss is close to that of a guess.
    """
    groups, he = settings.groups, "he_normal"
    net.conv("conv1", 96, 11, he, stride=4, padding=_to_whole_windows(net.image_shape, 11, 4))
    net.norm("norm1", "batch").activation().pool("pool1")
    net.conv("conv2", 256, 5, he, padding=2, groups=groups).norm("norm2", "batch").activation().pool("pool2")
    net.conv("conv3", 384, 3, he, padding=1).norm("norm3", "batch").activation()
    net.conv("conv4", 384, 3, he, padding=1, groups=groups).norm("norm4", "batch").activation()
    net.conv("conv5", 256, 3, he, padding=1, groups=groups).norm("norm5", "batch").activation()
    net.pool("pool5").flatten()
    net.dense("dense1", 4096, he).norm("norm6", "batch").activation().dropout()
    net.dense("dense2", 4096, he).norm("norm7", "batch").activation().dropout()
    return net.dense("output", classes, PAPER).build()


def alexnet_notebook(net: Builder, settings: config.AlexNetNotebook, classes: int) -> "Layers":
    """Lists the Keras notebook's variant: nothing is padded, pools do not overlap, batch normalisation follows them.

    Numbers in all at 224 pixels, running statistics included: 24,019,722 with 10 classes, 28,075,752 with 1000. The
    last map is one pixel there, and images need 215 with the default pooling; `padding` pads all convolutions alike and
    keeps it larger.

    Raises:
      UsageError: the image is too small.
    """
    glorot = "glorot_uniform"
    net.conv("conv1", 96, 11, glorot, stride=4).activation().pool("pool1").norm("norm1", "batch", **KERAS)
    net.conv("conv2", 256, 11, glorot).activation().pool("pool2").norm("norm2", "batch", **KERAS)
    net.conv("conv3", 384, 3, glorot).activation().norm("norm3", "batch", **KERAS)
    net.conv("conv4", 384, 3, glorot).activation().norm("norm4", "batch", **KERAS)
    net.conv("conv5", 256, 3, glorot).activation().pool("pool5").norm("norm5", "batch", **KERAS).flatten()
    net.dense("dense1", 4096, glorot).activation().dropout().norm("norm6", "batch", **KERAS)
    net.dense("dense2", 4096, glorot).activation().dropout().norm("norm7", "batch", **KERAS)
    try:
        return net.dense("output", classes, glorot).build()
    except UsageError as error:
        raise UsageError(
            f"{error}. The maps of alexnet_notebook shrink fast: without padding, and with the default pooling, "
            "images need at least 215x215 pixels. Enlarge them (data.size), pad (model.padding.mode=same), or use "
            "another model"
        ) from None


def alexnet_small(net: Builder, settings: config.AlexNetSmall, classes: int) -> "Layers":
    """AlexNet's plan for small images: the features of `alexnet_owt`, smaller windows and dense layers.

    Every convolution keeps the size of its map: 32 pixels give maps of 32-15-15-7-7-7-7-3. Batch normalisation comes
    before the activation, LRN after it. Weights begin as in `alexnet_bn`.
    """
    width, he = settings.width, "he_normal"
    norm = settings.norm, settings.norm == "batch"
    net.conv("conv1", width, 5, he, padding=2).active("norm1", *norm).pool("pool1")
    net.conv("conv2", 3 * width, 3, he, padding=1).active("norm2", *norm).pool("pool2")
    net.conv("conv3", 6 * width, 3, he, padding=1).active("norm3", *norm)
    net.conv("conv4", 4 * width, 3, he, padding=1).active("norm4", *norm)
    net.conv("conv5", 4 * width, 3, he, padding=1).active("norm5", *norm).pool("pool5").flatten()
    net.dense("dense1", 16 * width, he).activation().dropout()
    net.dense("dense2", 16 * width, he).activation().dropout()
    return net.dense("output", classes, PAPER).build()


def _to_whole_windows(image_shape, window, stride):
    """Padding at the bottom and on the right that leaves no pixel unread."""
    return tuple((0, (window - side) % stride) for side in image_shape[:2])
