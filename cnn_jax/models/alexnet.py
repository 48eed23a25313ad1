"""AlexNet: as published in 2012, torchvision's, with batch normalisation, the Keras notebook's, and a small one.

Each constructor lists the network's steps in order: layers, and what has neither parameters nor a shape of its own.
"""

import functools
import math

import jax
from flax import nnx

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.layers import windows
from cnn_jax.layers.activations import ACTIVATIONS
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.dense import Dense, dropout
from cnn_jax.layers.initializers import Normal
from cnn_jax.layers.normalisation import BatchNorm, LocalResponseNormalization
from cnn_jax.layers.pooling import make_pool, stride_before
from cnn_jax.layers.pooling_base import Pooling

PAPER = Normal(0.01)  # Krizhevsky et al. 2012, section 5: N(0, 0.01^2), biases 0
PAPER_ONE = Normal(0.01, bias=1)  # and 1 in conv2, conv4, conv5 and the hidden dense layers
NOT_LAYERS = ("activation", "flatten", "dropout")  # steps without a name of their own

KERAS = dict(momentum=0.99, epsilon=1e-3)  # batch normalisation's defaults there


class _Stacked:
    """What every network has, once `_Stack` has given it `settings`, `steps` and layers; no network by itself."""

    # Convolutions that a pooling follows, and the name of its settings; a dense layer follows the last of them.
    pooled = {"conv1": "pool", "conv2": "pool", "conv5": "pool"}

    def parts(self) -> list:
        """The layers in order."""
        return [getattr(self, step) for step in self.steps if step not in NOT_LAYERS]

    def __call__(self, images, keys=None, training: bool = False):
        """Logits and maps.

        Args:
          images: [N, height, width, channels].
          keys: one PRNG key per example, let random pooling draw and, in training, dropout.
          training: batch normalisation uses the statistics of the batch, and moves the running ones.

        Returns:
          Logits [N, classes], and a dict of maps (NHWC) by layer: what it puts out, after the activation that follows.
        """
        settings, activate = self.settings, ACTIVATIONS[self.settings.activation]
        x, maps, drops, layer = windows.from_images(images, settings.layout), {}, 0, ""
        dropping = keys if training else None
        for step in self.steps:
            match step:
                case "activation":
                    x = activate(x)
                case "flatten":
                    x = windows.flatten(x, settings.layout)
                case "dropout":
                    drops += 1
                    x = self.drop(x, dropping, drops)
                case layer:
                    part = getattr(self, layer)
                    x = _through(part, x, keys, training)
                    x = activate(x) if getattr(part, "squashed", False) else x
            if x.ndim == 4:
                maps[layer] = windows.to_images(x, settings.layout)
        return x, maps

    def drop(self, x, keys, number):
        """Dropout, the `number`-th of the network."""
        return dropout(x, self.settings.dropout, keys, number)


class _Stack:
    """Gives a network its steps, one after the other; each layer reads what the one before puts out."""

    def __init__(self, network, settings, image_shape, key):
        network.settings = settings
        network.steps = ()
        self.network = network
        self.common = {"layout": settings.layout}
        self.fill = settings.padding.fill if hasattr(settings, "padding") else "zero"
        self.key = key
        self.shape = tuple(image_shape)  # of what the next layer reads

    def conv(self, name, features, window, init, stride=1, **rest):
        pooled = self.network.pooled
        if name in pooled:
            stride *= stride_before(getattr(self.network.settings, pooled[name]), last=name == list(pooled)[-1])
        rest |= {"stride": stride, "fill": self.fill, "init": init, "key": self.key} | self.common
        return self._layer(Convolution(name, self.shape, features, window, **rest))

    def pool(self, name, which="pool", last=False):
        """A pooling, by the settings `which`; `last`: a dense layer comes next."""
        settings, pool = self.network.settings, getattr(self.network.settings, which)
        if pool.last and which not in list(self.network.pooled.values())[-1:]:
            raise UsageError(
                f"model.{which}.last = {pool.last.name!r} does not apply: {name} comes before a convolution"
            )
        rest = {"key": self.key, "init": "he_normal", "activation": settings.activation} | self.common
        return self._layer(make_pool(name, self.shape, pool, last=last, **rest))

    def norm(self, name, kind, **rest):
        """Batch normalisation ("batch"), local response normalisation ("lrn"), or "none"."""
        if kind == "none":
            return self
        make = {"lrn": LocalResponseNormalization, "batch": BatchNorm}[kind]
        return self._layer(make(name, self.shape, **self.common, **rest))

    def activation(self):
        return self._step("activation")

    def active(self, name, kind, norm_first, **rest):
        """An activation, and normalisation before or after it."""
        if norm_first:
            return self.norm(name, kind, **rest).activation()
        return self.activation().norm(name, kind, **rest)

    def flatten(self):
        self.shape = (math.prod(self.shape),)
        return self._step("flatten")

    def dropout(self):
        return self._step("dropout")

    def dense(self, name, units, init):
        return self._layer(Dense(name, *self.shape, units, init=init, key=self.key))

    def _layer(self, layer):
        setattr(self.network, layer.name, layer)
        self.shape = layer.output_shape
        return self._step(layer.name)

    def _step(self, step):
        self.network.steps += (step,)
        return self


class AlexNet(_Stacked, nnx.Module):
    """Krizhevsky, Sutskever and Hinton 2012: five convolutions and three dense layers.

    With 1000 classes 60,965,224 parameters. conv2, conv4 and conv5 are in two groups; pools overlap.

    The first convolution is as the released code has it: no padding at the top and on the left, and at the bottom and
    on the right what makes the last window whole. So 224 pixels give maps of 55, as 227 do, which need no padding.

    Where paper and released code disagree, settings choose (`config.AlexNet`): `alpha_divided`, `middle_std`, and
    `norm_first`, which puts the first LRN before its ReLU. In both, the second LRN follows its ReLU, and dropout leaves
    the units that stay as they are: in evaluation, with all of them there, each counts half (`dropout_scale`).

    Args:
      settings: `config.AlexNet`, its layout resolved.
      image_shape: height, width, channels.
      classes: number of classes.
      key: PRNG key of the initial weights.
    """

    def __init__(self, settings: config.AlexNet, image_shape: tuple[int, int, int], classes: int, key: jax.Array):
        stack, groups, middle = _Stack(self, settings, image_shape, key), settings.groups, settings.middle_std
        lrn = {"divided": settings.alpha_divided} if settings.norm == "lrn" else {}
        stack.conv("conv1", 96, 11, PAPER, stride=4, padding=_to_whole_windows(image_shape, 11, 4))
        stack.active("norm1", settings.norm, settings.norm_first, **lrn).pool("pool1")
        stack.conv("conv2", 256, 5, PAPER_ONE, padding=2, groups=groups)
        stack.active("norm2", settings.norm, False, **lrn).pool("pool2")
        stack.conv("conv3", 384, 3, Normal(middle), padding=1).activation()
        stack.conv("conv4", 384, 3, Normal(middle, bias=1), padding=1, groups=groups).activation()
        stack.conv("conv5", 256, 3, Normal(middle, bias=1), padding=1, groups=groups).activation()
        stack.pool("pool5", last=True).flatten()
        stack.dense("dense1", settings.units, PAPER_ONE).activation().dropout()
        stack.dense("dense2", settings.units, PAPER_ONE).activation().dropout()
        stack.dense("output", classes, PAPER)

    def drop(self, x, keys, number):
        """Dropout as published: units that stay are not scaled in training, and all are in evaluation."""
        rate = self.settings.dropout
        if self.settings.dropout_scale == "training":
            return dropout(x, rate, keys, number)
        return x * (1 - rate) if keys is None else dropout(x, rate, keys, number, scale=1.0)


class AlexNetOWT(_Stacked, nnx.Module):
    """Torchvision's AlexNet, after Krizhevsky 2014, "One weird trick": one column, no normalisation.

    With 1000 classes 61,100,840 parameters at 224 pixels. Torchvision averages the last map to 6x6 whatever the image;
    here the first dense layer reads the last map as it is. At 224 pixels it has 6x6, and the two are the same network.

    Args:
      settings: `config.AlexNetOWT`, its layout resolved.
      image_shape: height, width, channels; at least 63 pixels with the default pooling.
      classes: number of classes.
      key: PRNG key of the initial weights.
    """

    def __init__(self, settings: config.AlexNetOWT, image_shape: tuple[int, int, int], classes: int, key: jax.Array):
        stack = _Stack(self, settings, image_shape, key)
        stack.conv("conv1", 64, 11, "torch", stride=4, padding=2).activation().pool("pool1")
        stack.conv("conv2", 192, 5, "torch", padding=2).activation().pool("pool2")
        stack.conv("conv3", 384, 3, "torch", padding=1).activation()
        stack.conv("conv4", 256, 3, "torch", padding=1).activation()
        stack.conv("conv5", 256, 3, "torch", padding=1).activation().pool("pool5", last=True).flatten()
        stack.dropout().dense("dense1", 4096, "torch").activation()
        stack.dropout().dense("dense2", 4096, "torch").activation()
        stack.dense("output", classes, "torch")


class AlexNetBN(_Stacked, nnx.Module):
    """`AlexNet` with batch normalisation before every hidden activation, in place of LRN, and by default one group.

    With 1000 classes 62,397,480 parameters.

    Weights begin as N(0, 2 / fan-in), those of the output as N(0, 0.01^2): the first loss is close to that of a guess.

    Args:
      settings: `config.AlexNetBN`, its layout resolved.
      image_shape: height, width, channels.
      classes: number of classes.
      key: PRNG key of the initial weights.
    """

    def __init__(self, settings: config.AlexNetBN, image_shape: tuple[int, int, int], classes: int, key: jax.Array):
        stack, groups, he = _Stack(self, settings, image_shape, key), settings.groups, "he_normal"
        stack.conv("conv1", 96, 11, he, stride=4, padding=_to_whole_windows(image_shape, 11, 4))
        stack.norm("norm1", "batch").activation().pool("pool1")
        stack.conv("conv2", 256, 5, he, padding=2, groups=groups).norm("norm2", "batch").activation().pool("pool2")
        stack.conv("conv3", 384, 3, he, padding=1).norm("norm3", "batch").activation()
        stack.conv("conv4", 384, 3, he, padding=1, groups=groups).norm("norm4", "batch").activation()
        stack.conv("conv5", 256, 3, he, padding=1, groups=groups).norm("norm5", "batch").activation()
        stack.pool("pool5", last=True).flatten()
        stack.dense("dense1", 4096, he).norm("norm6", "batch").activation().dropout()
        stack.dense("dense2", 4096, he).norm("norm7", "batch").activation().dropout()
        stack.dense("output", classes, PAPER)


class AlexNetNotebook(_Stacked, nnx.Module):
    """The Keras notebook's variant: nothing is padded, pools do not overlap, batch normalisation follows them.

    Numbers in all at 224 pixels, running statistics included: 24,019,722 with 10 classes, 28,075,752 with 1000. The
    last map is one pixel there; `padding` pads all convolutions alike and keeps it larger.

    Args:
      settings: `config.AlexNetNotebook`, its layout resolved.
      image_shape: height, width, channels; at least 215 pixels with the default pooling.
      classes: number of classes.
      key: PRNG key of the initial weights.

    Raises:
      UsageError: the image is too small.
    """

    def __init__(
        self, settings: config.AlexNetNotebook, image_shape: tuple[int, int, int], classes: int, key: jax.Array
    ):
        stack, glorot = _Stack(self, settings, image_shape, key), "glorot_uniform"
        conv = functools.partial(stack.conv, init=glorot, padding=settings.padding.mode)
        try:
            conv("conv1", 96, 11, stride=4).activation().pool("pool1").norm("norm1", "batch", **KERAS)
            conv("conv2", 256, 11).activation().pool("pool2").norm("norm2", "batch", **KERAS)
            conv("conv3", 384, 3).activation().norm("norm3", "batch", **KERAS)
            conv("conv4", 384, 3).activation().norm("norm4", "batch", **KERAS)
            conv("conv5", 256, 3).activation().pool("pool5", last=True).norm("norm5", "batch", **KERAS)
        except UsageError as error:
            raise UsageError(
                f"{error}. The maps of alexnet_notebook shrink fast: without padding, and with the default pooling, "
                "images need at least 215x215 pixels. Enlarge them (data.size), pad (model.padding.mode=same), or use "
                "another model"
            ) from None
        stack.flatten()
        stack.dense("dense1", 4096, glorot).activation().dropout().norm("norm6", "batch", **KERAS)
        stack.dense("dense2", 4096, glorot).activation().dropout().norm("norm7", "batch", **KERAS)
        stack.dense("output", classes, glorot)


class AlexNetSmall(_Stacked, nnx.Module):
    """AlexNet's plan for small images: the features of `AlexNetOWT`, smaller windows and dense layers.

    Every convolution keeps the size of its map: 32 pixels give maps of 32-15-15-7-7-7-7-3. Batch normalisation comes
    before the activation, LRN after it. Weights begin as in `AlexNetBN`.

    Args:
      settings: `config.AlexNetSmall`, its layout resolved.
      image_shape: height, width, channels.
      classes: number of classes.
      key: PRNG key of the initial weights.
    """

    def __init__(self, settings: config.AlexNetSmall, image_shape: tuple[int, int, int], classes: int, key: jax.Array):
        stack, width, he = _Stack(self, settings, image_shape, key), settings.width, "he_normal"
        norm = settings.norm, settings.norm == "batch"
        stack.conv("conv1", width, 5, he, padding=2).active("norm1", *norm).pool("pool1")
        stack.conv("conv2", 3 * width, 3, he, padding=1).active("norm2", *norm).pool("pool2")
        stack.conv("conv3", 6 * width, 3, he, padding=1).active("norm3", *norm)
        stack.conv("conv4", 4 * width, 3, he, padding=1).active("norm4", *norm)
        stack.conv("conv5", 4 * width, 3, he, padding=1).active("norm5", *norm).pool("pool5", last=True).flatten()
        stack.dense("dense1", 16 * width, he).activation().dropout()
        stack.dense("dense2", 16 * width, he).activation().dropout()
        stack.dense("output", classes, PAPER)


def _through(layer, x, keys, training):
    """What a layer makes of x."""
    if isinstance(layer, Pooling):
        return layer(x, keys)
    return layer(x, training) if isinstance(layer, BatchNorm) else layer(x)


def _to_whole_windows(image_shape, window, stride):
    """Padding at the bottom and on the right that leaves no pixel unread."""
    return tuple((0, (window - side) % stride) for side in image_shape[:2])
