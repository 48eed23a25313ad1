"""Convolution (cross-correlation, as everywhere in deep learning) with groups, connection tables and any padding."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from cnn_jax.config.networks import Normal
from cnn_jax.errors import UsageError
from cnn_jax.layers.convolution_cpu import convolve_tiled, each_group, stride_to_channels
from cnn_jax.layers.initializers import layer_key, weights_and_bias
from cnn_jax.layers.layer import Layer
from cnn_jax.layers.windows import Geometry, geometry, per_channel, per_pixel

THIN = 16  # channels, up to which a GPU gets them folded
THICK = 32  # channels of a group, from which a GPU computes groups one by one


class Convolution(Layer):
    """A 2-D convolution.

    Parameters: kernel [height, width, channels / groups, features] or, with a connection table,
    [height, width, connections]; bias [features] if there is one. Their shapes do not depend on the layout.

    Args:
      name: for messages, tables and the initial weights.
      input_shape: height, width, channels.
      features: output channels.
      window: side of the kernel, or its height and width.
      stride: one stride, or the vertical and the horizontal one.
      padding: "valid", "same", "full", pixels, or ((top, bottom), (left, right)).
      fill: what lies beyond the edge: zero, reflect, replicate, circular or symmetric; partial: nothing, and each sum
        is scaled up by the share of its window that lies inside (Liu et al. 2018); mean: means of the border (as
        `Geometry.pad`); random: zeros, in training on sides drawn for each image (as `Geometry.pad_at_random`).
      groups: channels and features are cut into this many groups that do not see each other.
      connections: for each output feature, the input channels it reads; None: all of its group.
      init: as `initializers.weights_and_bias`.
      biased: whether a bias is added.
      layout: "NHWC" or "CHWN".
      key: PRNG key of the model's initial weights.

    Raises:
      UsageError: the window does not fit, the groups do not divide, or the table does not match.
    """

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, int, int],
        features: int,
        window: int | tuple[int, int],
        *,
        key: jax.Array,
        stride: int | tuple[int, int] = 1,
        padding="valid",
        fill: str = "zero",
        groups: int = 1,
        connections: tuple[tuple[int, ...], ...] | None = None,
        init: str | Normal = "glorot_uniform",
        biased: bool = True,
        layout: str = "NHWC",
    ):
        channels = input_shape[2]
        if channels % groups or features % groups:
            raise UsageError(f"{name}: groups = {groups} must divide {channels} input channels and {features} features")
        if connections is not None:
            _check_table(name, connections, channels, features, groups)
        self.name = name
        self.geometry = geometry(name, input_shape, window, stride, padding, layout, fill)
        self.fill = fill
        self.groups = groups
        self.connections = connections
        self.input_shape = tuple(input_shape)
        self.output_shape = (*self.geometry.output_size, features)
        height, width = self.geometry.window
        area = height * width
        if connections is None:
            shape, fan_in = (height, width, channels // groups, features), area * channels // groups
            units = [fan_in] * features
        else:
            counts = [len(read) for read in connections]
            units = area * np.array(counts)
            shape, fan_in = (height, width, sum(counts)), np.repeat(units, counts)  # of the unit each kernel belongs to
        kernel, bias = weights_and_bias(init, layer_key(key, name), shape, fan_in, area * features, units)
        self.kernel = nnx.Param(kernel)
        if biased:
            self.bias = nnx.Param(bias)

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds for one image, bias not counted."""
        height, width, _ = self.output_shape
        return int(np.prod(self.kernel.shape)) * height * width

    def describe(self) -> str:
        words = [f"convolution {self.geometry.describe()}"]
        words += [f"{self.fill} fill"] * (self.geometry.is_padded and self.fill != "zero")
        words += [f"{self.groups} groups"] * (self.groups > 1)
        words += [f"{self.kernel.shape[2]} connections"] * (self.connections is not None)
        return ", ".join(words)

    def __call__(self, x, keys=None, training: bool = False):
        """Maps of `input_shape` to maps of `output_shape`, both in the layer's layout."""
        kernel = self.kernel[...]
        if self.connections is not None:
            kernel = _dense_kernel(kernel, self.connections, self.input_shape[2])
        placed = self.geometry
        if self.fill == "random" and placed.is_padded and training and keys is not None:
            x = placed.pad_at_random(x, jax.vmap(lambda key: layer_key(key, self.name))(keys))
            placed = placed.on_padded
        y = convolve(x, kernel, placed, self.fill, self.groups)
        return y + per_channel(self.bias[...], self.geometry.layout) if hasattr(self, "bias") else y


def convolve(x, kernel, geometry: Geometry, fill: str = "zero", groups: int = 1):
    """Returns the convolution of x with kernel [height, width, channels / groups, features].

    With fill "partial" that of Liu et al. 2018, "Partial convolution based padding": with zeros beyond the edge, times
    the pixels of the window over those of them that lie inside.

    XLA's own convolution is the fast one on GPU and TPU; a GPU needs some help, see `convolve_folded`. On CPU it is
    slow, and slower still inside a loop: there it is made of matrix products, in one of two ways. NHWC maps go a few
    images at a time. The batch-minor layout makes gathering the windows cheap and leaves one product: better for maps
    of few channels.
    """
    if fill == "partial":
        y = convolve(x, kernel, geometry, "zero", groups)
        scale = math.prod(geometry.window) / np.maximum(geometry.inside, 1)
        return y * per_pixel(scale, geometry.layout).astype(y.dtype)
    if geometry.layout == "CHWN":
        return _convolve_by_windows(geometry.pad(x, fill), kernel, geometry, groups)
    pads = geometry.pads if fill == "zero" else ((0, 0), (0, 0))
    x = x if fill == "zero" else geometry.pad(x, fill)
    rest = {"stride": geometry.stride, "pads": pads, "groups": groups}
    if not isinstance(x.shape[0], int):  # in a program that is exported, for batches of any size and other machines
        return _convolve_by_xla(x, kernel, **rest)
    ways = {"cpu": convolve_tiled, "cuda": convolve_folded, "default": _convolve_by_xla}
    return lax.platform_dependent(x, kernel, **{name: functools.partial(way, **rest) for name, way in ways.items()})


def convolve_folded(x, kernel, stride, pads, groups=1):
    """Returns the convolution in the forms that suit NVIDIA's tensor cores, which multiply many channels at a time.

    Groups are computed one after the other. Where there are few channels, a stride's pixels become channels: 11x11 over
    3 with stride 4 is 3x3 over 48. The two make the step of AlexNet 1.8 times as fast (benchmarks/alexnet_step.py,
    batch 1024, bfloat16, H200). Few channels without a stride are one product of the windows laid out in rows: when
    seeds train together it is still one, where cuDNN starts a kernel for each seed.

    Args:
      x: [N, height, width, channels].
      kernel: [height, width, channels / groups, features].
      stride: vertical and horizontal.
      pads: (top, bottom), (left, right) zeros around x.
      groups: channels and features are cut into this many groups that do not see each other.
    """
    channels = x.shape[3] // groups
    if groups > 1:
        if channels < THICK:
            return _convolve_by_xla(x, kernel, stride, pads, groups)
        return each_group(functools.partial(convolve_folded, stride=stride, pads=pads), x, kernel, groups)
    if channels > THIN:
        return _convolve_by_xla(x, kernel, stride, pads, groups)
    if stride != (1, 1):
        return convolve_folded(*stride_to_channels(x, kernel, stride, pads), (1, 1), ((0, 0), (0, 0)))
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
    down, across = geometry("convolution", x.shape[1:], kernel.shape[:2]).spans
    patches = jnp.concatenate([patch for row in down.windows(x) for patch in across.windows(row)], axis=3)
    return patches @ kernel.reshape(-1, kernel.shape[3])


def _convolve_by_xla(x, kernel, stride, pads, groups):
    order = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, stride, pads, dimension_numbers=order, feature_group_count=groups)


def _convolve_by_windows(padded, kernel, geometry, groups):
    if groups == 1 and _gains_by_squares(kernel, geometry):
        return _convolve_by_squares(padded, kernel, geometry)
    height, width, depth, features = kernel.shape
    # One axis at a time: the gradient then adds the slices of a row before it adds the rows.
    down, across = geometry.spans
    patches = jnp.stack([patch for row in down.windows(padded) for patch in across.windows(row)])
    if groups == 1:
        y = kernel.reshape(-1, features).T @ patches.reshape(height * width * depth, -1)
    else:
        patches = patches.reshape(height * width, groups, depth, -1)
        split = kernel.reshape(height * width, depth, groups, features // groups)
        y = jnp.einsum("wgdp,wdgf->gfp", patches, split)
    return y.reshape(features, *geometry.output_size, -1)


def _gains_by_squares(kernel, geometry):
    """Tells whether what four neighbouring windows share is worth more than the products with zeros they bring.

    Measured on 2 cores, batch 16, with both gradients: 5x5 over 1 channel for 6 features takes a third of the time,
    over 6 for 16 six tenths; 3x3, or many features, take longer.
    """
    large, few = min(kernel.shape[:2]) >= 5, kernel.shape[3] <= 16
    return large and few and geometry.stride == (1, 1) and not any(side % 2 for side in geometry.output_size)


def _convolve_by_squares(padded, kernel, geometry):
    """`_convolve_by_windows` with the four windows of a square of 2x2 results laid out as one, which is a pixel larger.

    Pixels become channels, two by two, on both sides: the product has a quarter of the rows.
    """
    height, width, depth, features = kernel.shape
    blocks = [side // 2 + 1 for side in (height, width)]
    squares = [side // 2 for side in geometry.output_size]
    zero = jnp.zeros((), padded.dtype)
    spare = [2 * (c + b - 1) - side for c, b, side in zip(squares, blocks, padded.shape[1:3])]  # negative: not read
    x = lax.pad(padded, zero, [(0, 0, 0), *((0, high, 0) for high in spare), (0, 0, 0)])
    x = x.reshape(depth, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).transpose(2, 4, 0, 1, 3, 5)
    places = itertools.product(*map(range, blocks))
    patches = jnp.stack([x[..., i : i + squares[0], j : j + squares[1], :] for i, j in places])
    # The kernel as each of the four results sees the square's window.
    around = lambda low, block, side: (low, 2 * block - side - low, 0)
    seen = [
        lax.pad(kernel, zero, [around(down, blocks[0], height), around(across, blocks[1], width), (0, 0, 0), (0, 0, 0)])
        for down, across in itertools.product(range(2), range(2))
    ]
    kernel = jnp.stack(seen, axis=3).reshape(blocks[0], 2, blocks[1], 2, depth, 4 * features)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(-1, 4 * features)
    y = kernel.T @ patches.reshape(len(kernel), -1)
    y = y.reshape(2, 2, features, *squares, -1).transpose(2, 3, 0, 4, 1, 5)
    return y.reshape(features, *geometry.output_size, -1)


def _dense_kernel(kernel, connections, channels):
    """[height, width, connections] spread to [height, width, channels, features], 0 where nothing is connected."""
    features = len(connections)
    place = np.zeros((kernel.shape[2], channels * features), np.float32)
    pairs = [(channel, feature) for feature, read in enumerate(connections) for channel in read]
    for row, (channel, feature) in enumerate(pairs):
        place[row, channel * features + feature] = 1
    # A product with a 0/1 matrix: its gradient is a product too, where a scatter's would be slow and unordered.
    spread = jnp.matmul(kernel, place.astype(kernel.dtype), precision=lax.Precision.HIGHEST)
    return spread.reshape(*kernel.shape[:2], channels, features)


def _check_table(name, connections, channels, features, groups):
    if groups != 1:
        raise UsageError(f"{name}: a connection table and groups = {groups} exclude each other; use one of them")
    if len(connections) != features:
        raise UsageError(f"{name}: the connection table has {len(connections)} rows, and there are {features} features")
    for feature, read in enumerate(connections):
        if not read or len(set(read)) != len(read) or not set(read) <= set(range(channels)):
            raise UsageError(f"{name}: feature {feature} reads {read}; it must read distinct channels below {channels}")
