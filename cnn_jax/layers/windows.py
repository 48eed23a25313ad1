"""Windows over a feature map: the strided slices every layer is made of. Their arithmetic is in config/sizes.py.

A map is held as NHWC (batch, height, width, channel) or as CHWN. The second keeps the batch innermost: on a CPU every
slice of a window is then one long contiguous run. `Geometry` is the only place that knows the order of the axes.
"""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn_jax.config.sizes import Pads, Placed, place

FILLS = {
    "zero": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
    "partial": "constant",  # zero, and convolutions make up for it
    "random": "constant",  # zero; in training, on sides drawn at random
    "mean": None,  # not one of NumPy's
}


@dataclasses.dataclass(frozen=True)
class Geometry(Placed):
    """`Placed` windows on maps of a layout. Made by `geometry`, which checks it.

    Attributes:
      layout: order of the axes, "NHWC" or "CHWN".
    """

    layout: str

    @property
    def axes(self) -> tuple[int, int]:
        """Positions of height and width."""
        return self.layout.index("H"), self.layout.index("W")

    @property
    def inside(self) -> np.ndarray:
        """Pixels of each window that lie inside the input, float32 [height, width] of the output."""
        counts = []
        for size, window, stride, (low, _), places in zip(
            self.input_shape, self.window, self.stride, self.pads, self.output_size
        ):
            starts = stride * np.arange(places) - low
            counts.append(np.clip(starts + window, 0, size) - np.clip(starts, 0, size))
        return np.outer(*counts).astype(np.float32)

    @property
    def on_padded(self) -> "Geometry":
        """The same windows on a map that is padded already."""
        height, width = (size + sum(pads) for size, pads in zip(self.input_shape, self.pads))
        shape = (height, width, self.input_shape[2])
        return dataclasses.replace(self, input_shape=shape, pads=((0, 0), (0, 0)))

    def pad(self, x, fill: str = "zero", value=0):
        """Pads height and width; `value` is what "zero", "partial" and "random" fill with."""
        if not self.is_padded:
            return x
        if fill == "mean":
            return self._pad_with_means(x)
        widths = [(0, 0)] * 4
        for axis, pads in zip(self.axes, self.pads):
            widths[axis] = pads
        if FILLS[fill] == "constant":
            return lax.pad(x, jnp.asarray(value, x.dtype), [(low, high, 0) for low, high in widths])
        return jnp.pad(x, widths, mode=FILLS[fill])

    def _pad_with_means(self, x):
        """Border means, interpolated: our reading of the abstract of Nguyen et al. 2019, "Distribution padding".

        The border of each side, as deep as the window, is cut into patches of the window's size. What lies beyond is
        the mean of the patch, between the centres of two patches interpolated linearly. First above and below, then to
        the left and the right of what that gives.
        """
        for along, (axis, window, pads) in enumerate(zip(self.axes, self.window, self.pads)):
            if not any(pads):
                continue
            other, depth = self.axes[1 - along], min(window, x.shape[axis])
            weights = jnp.asarray(_between_patches(x.shape[other], self.window[1 - along]), x.dtype)
            sides = []
            for start, rows in zip((0, x.shape[axis] - depth), pads):
                mean = jnp.mean(lax.slice_in_dim(x, start, start + depth, axis=axis), axis, keepdims=True)
                sides.append(jnp.repeat(_product(mean, weights, other, self.layout), rows, axis))
            x = jnp.concatenate([sides[0], x, sides[1]], axis)
        return x

    def pad_at_random(self, x, keys):
        """Pads with zeros on sides drawn for each image: the random padding of Yang et al. 2023.

        As many rows as `pads` has above and below together: each goes above or below with probability 1/2; columns
        likewise. The paper draws for a whole batch, one pixel at a time; here every image has its own draw.

        Args:
          x: maps in this layout.
          keys: one PRNG key per image [N].
        """
        totals = [sum(pads) for pads in self.pads]
        draw = lambda key: jax.random.bernoulli(key, shape=(sum(totals),)).astype(jnp.int32)
        bits = jax.vmap(draw)(keys)
        for axis, part in zip(self.axes, (bits[:, : totals[0]], bits[:, totals[0] :])):
            places = jnp.arange(x.shape[axis] + part.shape[1]) - jnp.sum(part, 1, keepdims=True)
            x = pick(x, places, axis, self.layout)
        return x

    def windows(self, padded) -> list:
        """Returns one array per window position (i, j), row by row: element (i, j) of every window of the padded map.

        Each has the output's height and width.
        """
        return [self._slice(padded, offsets) for offsets in itertools.product(*map(range, self.window))]

    def _slice(self, padded, offsets):
        start, limit, step = [0] * 4, list(padded.shape), [1] * 4
        for axis, offset, stride, count in zip(self.axes, offsets, self.stride, self.output_size):
            start[axis], limit[axis], step[axis] = offset, offset + stride * (count - 1) + 1, stride
        return lax.slice(padded, start, limit, step)  # at once: XLA on CPU is several times slower with one per axis

    @property
    def spans(self) -> tuple["Span", "Span"]:
        """The windows along the height and along the width of the padded map: for work on one axis at a time."""
        sizes = [size + sum(pads) for size, pads in zip(self.input_shape, self.pads)]
        return tuple(map(Span, self.axes, sizes, self.window, self.stride, self.output_size))


class Span(NamedTuple):
    """Windows along one axis of a padded map: `count` of them, `stride` apart, `window` long, on `size` pixels."""

    axis: int
    size: int
    window: int
    stride: int
    count: int

    def windows(self, padded) -> tuple:
        """Returns one array per window position i: element i of every window, `count` long along the axis."""
        return _overlapping_windows(padded, self) if self.window > self.stride else self.cut(padded)

    def cut(self, padded) -> tuple:
        """Returns `windows`, with the gradient that JAX derives: the sum of the slices, each dilated with zeros."""
        reach = self.stride * (self.count - 1) + 1
        return tuple(lax.slice_in_dim(padded, i, i + reach, self.stride, self.axis) for i in range(self.window))

    def scatter(self, slices: tuple):
        """Returns the transpose of `windows`: adds the slices back to where they were cut from.

        Pixels `stride` apart are summed together and interleaved at the end. Where windows overlap, XLA on CPU makes
        code of this that is three times as fast as that of the derived gradient.
        """
        rows = -(-self.size // self.stride)
        zero = jnp.zeros((), slices[0].dtype)

        def place(position):
            before = position // self.stride
            widths = [(0, 0, 0)] * slices[0].ndim
            widths[self.axis] = (before, rows - self.count - before, 0)
            return lax.pad(slices[position], zero, widths)

        phases = [list(map(place, range(phase, self.window, self.stride))) for phase in range(self.stride)]
        sums = jnp.broadcast_arrays(*(functools.reduce(jnp.add, phase or [zero]) for phase in phases))
        shape = [self.stride * rows if axis == self.axis else side for axis, side in enumerate(slices[0].shape)]
        total = jnp.stack(sums, self.axis + 1).reshape(shape)
        return lax.slice_in_dim(total, 0, self.size, axis=self.axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _overlapping_windows(padded, span: Span):
    return span.cut(padded)


_overlapping_windows.defvjp(
    lambda padded, span: (span.cut(padded), None), lambda span, _, gradients: (span.scatter(gradients),)
)


def geometry(
    name: str,
    input_shape: tuple[int, int, int],
    window: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: str | int | Pads = "valid",
    layout: str = "NHWC",
    fill: str = "zero",
) -> Geometry:
    """Returns the checked geometry of a layer. Arguments as `place`, and the layout: "NHWC" or "CHWN".

    Raises:
      UsageError: as `place`.
    """
    return on_layout(place(name, tuple(input_shape), window, stride, padding, fill), layout)


def on_layout(placed: Placed, layout: str) -> Geometry:
    """Returns the geometry of windows on maps of a layout."""
    return Geometry(**vars(placed), layout=layout)


def _between_patches(size, length):
    """The [size, size] weights of means of patches of a length (the last may be shorter), interpolated linearly."""
    starts = np.arange(0, size, length)
    ends = np.minimum(starts + length, size)
    inside = (starts[:, None] <= np.arange(size)) & (np.arange(size) < ends[:, None])
    means = inside / (ends - starts)[:, None]
    return np.stack([np.interp(np.arange(size), (starts + ends - 1) / 2, column) for column in means.T], axis=1)


def pick(x, places, axis: int, layout: str):
    """Rows (or columns) of each image: those at `places` [N, count], zeros for places beyond the edge.

    A product with a 0/1 matrix: its gradient is a product too, where a gather's would be slow and unordered.
    """
    return _product(x, jax.nn.one_hot(places, x.shape[axis], dtype=x.dtype), axis, layout)


def _product(x, weights, axis, layout):
    """Maps with one axis multiplied by weights [to, from], or by those of each image, [N, to, from]."""
    order = layout.lower()
    letter, each = order[axis], "n" * (weights.ndim == 3)
    equation = f"{order},{each}z{letter}->{order.replace(letter, 'z')}"
    return jnp.einsum(equation, x, weights, precision=lax.Precision.HIGHEST)


def from_images(images, layout: str):
    """Returns NHWC images in the layout that the layers use."""
    return images if layout == "NHWC" else jnp.transpose(images, ["NHWC".index(axis) for axis in layout])


def to_images(maps, layout: str):
    """Maps of any layout as NHWC."""
    return maps if layout == "NHWC" else jnp.transpose(maps, [layout.index(axis) for axis in "NHWC"])


def flatten(maps, layout: str):
    """Maps as [N, height * width * channels], in the same order in every layout. Vectors [N, features] stay as is."""
    if maps.ndim == 2:
        return maps
    images = to_images(maps, layout)
    return images.reshape(images.shape[0], -1)


def per_channel(values, layout: str):
    """Returns a [channels] vector shaped to broadcast over maps."""
    return values.reshape([-1 if axis == "C" else 1 for axis in layout])


def per_image(values, layout: str):
    """Returns an [N] vector shaped to broadcast over maps."""
    return values.reshape([-1 if axis == "N" else 1 for axis in layout])


def per_pixel(values, layout: str):
    """Returns a [height, width] plane shaped to broadcast over maps."""
    height, width = values.shape
    return values.reshape([{"H": height, "W": width}.get(axis, 1) for axis in layout])
