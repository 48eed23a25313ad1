"""Windows over a feature map: the arithmetic of sizes and padding, and the strided slices every layer is made of.

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

from cnn_jax.errors import UsageError

FILLS = {
    "zero": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
    "partial": "constant",  # zero, and convolutions make up for it
}

Pads = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)


def output_size(size: int, window: int, stride: int, pads: tuple[int, int] = (0, 0)) -> int:
    """Places a window has along one axis: floor((size + low + high - window) / stride) + 1, and never below 0."""
    return max((size + sum(pads) - window) // stride + 1, 0)


def same_pads(size: int, window: int, stride: int) -> tuple[int, int]:
    """Padding that makes the output ceil(size / stride) long; an odd pixel goes to the high end, as in TensorFlow."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def parse_padding(mode: str, size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """Pixels of padding on each side.

    Args:
      mode: "valid" (none), "same", "full" (window - 1 on every side), or pixels: "2", "rows,columns" or
        "top,bottom,left,right".
      size: height and width of the map.
      window: height and width of the window.
      stride: vertical and horizontal stride.

    Raises:
      ValueError: the mode is none of these.
    """
    if mode == "valid":
        return (0, 0), (0, 0)
    if mode == "same":
        return tuple(same_pads(*axis) for axis in zip(size, window, stride))
    if mode == "full":
        return tuple((side - 1, side - 1) for side in window)
    parts = mode.split(",")
    if len(parts) in (1, 2, 4) and all(part.strip().isdecimal() for part in parts):
        pixels = [int(part) for part in parts]
        if len(pixels) == 4:
            return tuple(pixels[:2]), tuple(pixels[2:])
        rows, columns = pixels[0], pixels[-1]
        return (rows, rows), (columns, columns)
    raise ValueError(
        f"padding {mode!r} must be 'valid', 'same', 'full', or pixels: '2', 'rows,columns' or 'top,bottom,left,right'"
    )


def in_pixels(pads: Pads) -> str:
    """Padding as it is typed, in pixels: "2", "rows,columns" or "top,bottom,left,right"; `parse_padding` reads it."""
    rows, columns = pads
    if len({*rows, *columns}) == 1:
        return str(rows[0])
    if rows[0] == rows[1] and columns[0] == columns[1]:
        return f"{rows[0]},{columns[0]}"
    return ",".join(map(str, rows + columns))


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """The same number for both axes, unless two are given."""
    return value if isinstance(value, tuple) else (value, value)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where the windows of one layer lie on its input. Made by `geometry`, which checks it.

    Attributes:
      input_shape: height, width, channels of the input.
      window: height and width of a window.
      stride: vertical and horizontal distance between windows.
      pads: (top, bottom), (left, right) pixels added around the input.
      layout: order of the axes, "NHWC" or "CHWN".
    """

    input_shape: tuple[int, int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    layout: str

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return tuple(map(output_size, self.input_shape[:2], self.window, self.stride, self.pads))

    @property
    def axes(self) -> tuple[int, int]:
        """Positions of height and width."""
        return self.layout.index("H"), self.layout.index("W")

    @property
    def is_padded(self) -> bool:
        return any(map(any, self.pads))

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

    def describe(self) -> str:
        """Such as "5x5, stride 2, padding 1"; a stride of 1 and no padding go without saying."""
        words = [by(self.window)]
        if self.stride != (1, 1):
            words.append(f"stride {by(self.stride) if self.stride[0] != self.stride[1] else self.stride[0]}")
        if self.is_padded:
            words.append(f"padding {in_pixels(self.pads)}")
        return ", ".join(words)

    def pad(self, x, fill: str = "zero", value=0):
        """Pads height and width; `value` is what "zero" and "partial" fill with."""
        if not self.is_padded:
            return x
        widths = [(0, 0)] * 4
        for axis, pads in zip(self.axes, self.pads):
            widths[axis] = pads
        if FILLS[fill] == "constant":
            return lax.pad(x, jnp.asarray(value, x.dtype), [(low, high, 0) for low, high in widths])
        return jnp.pad(x, widths, mode=FILLS[fill])

    def windows(self, padded) -> list:
        """One array per window position (i, j), row by row: element (i, j) of every window of the padded map.

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
        """One array per window position i: element i of every window, `count` long along the axis."""
        return _overlapping_windows(padded, self) if self.window > self.stride else self.cut(padded)

    def cut(self, padded) -> tuple:
        """`windows`, with the gradient that JAX derives: the sum of the slices, each dilated with zeros."""
        reach = self.stride * (self.count - 1) + 1
        return tuple(lax.slice_in_dim(padded, i, i + reach, self.stride, self.axis) for i in range(self.window))

    def scatter(self, slices: tuple):
        """The transpose of `windows`: adds the slices back to where they were cut from.

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
    """Checked geometry of a layer.

    Args:
      name: the layer, for messages.
      input_shape: height, width, channels of the input.
      window: side of the window, or its height and width.
      stride: one stride, or the vertical and the horizontal one.
      padding: as `parse_padding`, a number of pixels, or ((top, bottom), (left, right)).
      layout: "NHWC" or "CHWN".
      fill: what lies beyond the edge: a key of `FILLS`.

    Raises:
      UsageError: no window fits, or the padding needs more pixels than the input has to copy from.
    """
    window, stride = pair(window), pair(stride)
    if min(window) < 1 or min(stride) < 1:
        raise UsageError(f"{name}: window {by(window)} and stride {by(stride)} must be at least 1")
    if fill not in FILLS:
        raise UsageError(f"{name}: padding fill {fill!r} must be one of {', '.join(FILLS)}")
    try:
        if isinstance(padding, str | int):
            padding = parse_padding(str(padding), input_shape[:2], window, stride)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    made = Geometry(tuple(input_shape), window, stride, padding, layout)
    sizes = f"input {by(input_shape)}, window {by(window)}, stride {by(stride)}"
    described = f"{name}: {sizes}, padding {in_pixels(padding)}"
    if min(made.output_size) < 1:
        raise UsageError(f"{described}: the window does not fit, the output would be {by(made.output_size)}")
    room = {"reflect": 1, "circular": 0, "symmetric": 0}
    for size, sides in zip(input_shape, padding):
        if fill in room and max(sides) > size - room[fill]:
            most = size - room[fill]
            raise UsageError(f"{described}: fill {fill!r} can add at most {most} pixels to a side of {size}")
    return made


def by(sizes: tuple[int, ...]) -> str:
    """Sizes in words, such as "5x7"."""
    return "x".join(map(str, sizes))


def from_images(images, layout: str):
    """NHWC images in the layout that the layers use."""
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
    """A [channels] vector shaped to broadcast over maps."""
    return values.reshape([-1 if axis == "C" else 1 for axis in layout])


def per_image(values, layout: str):
    """An [N] vector shaped to broadcast over maps."""
    return values.reshape([-1 if axis == "N" else 1 for axis in layout])


def per_pixel(values, layout: str):
    """A [height, width] plane shaped to broadcast over maps."""
    height, width = values.shape
    return values.reshape([{"H": height, "W": width}.get(axis, 1) for axis in layout])
