"""The arithmetic of sizes and padding: where the windows of a layer lie, and what they leave of a map."""

import dataclasses

from cnn_jax.errors import UsageError

FILLS = ("zero", "reflect", "replicate", "circular", "symmetric", "partial", "mean", "random")  # beyond the edge

Pads = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)


def output_size(size: int, window: int, stride: int, pads: tuple[int, int] = (0, 0)) -> int:
    """Places a window has along one axis: floor((size + low + high - window) / stride) + 1, and never below 0."""
    return max((size + sum(pads) - window) // stride + 1, 0)


def same_pads(size: int, window: int, stride: int) -> tuple[int, int]:
    """Returns the padding that makes the output ceil(size / stride) long; an odd pixel goes to the end (TensorFlow)."""
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
        rows, columns = (same_pads(*axis) for axis in zip(size, window, stride))
        return rows, columns
    if mode == "full":
        high, wide = window
        return (high - 1, high - 1), (wide - 1, wide - 1)
    parts = mode.split(",")
    if len(parts) in (1, 2, 4) and all(part.strip().isdecimal() for part in parts):
        pixels = [int(part) for part in parts]
        top, bottom, left, right = pixels if len(pixels) == 4 else (pixels[0],) * 2 + (pixels[-1],) * 2
        return (top, bottom), (left, right)
    raise ValueError(
        f"padding {mode!r} must be 'valid', 'same', 'full', or pixels: '2', 'rows,columns' or 'top,bottom,left,right'"
    )


def in_pixels(pads: Pads) -> str:
    """Returns padding as it is typed: "2", "rows,columns" or "top,bottom,left,right"; see `parse_padding`."""
    rows, columns = pads
    if len({*rows, *columns}) == 1:
        return str(rows[0])
    if rows[0] == rows[1] and columns[0] == columns[1]:
        return f"{rows[0]},{columns[0]}"
    return ",".join(map(str, rows + columns))


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the same number for both axes, unless two are given."""
    return value if isinstance(value, tuple) else (value, value)


def by(sizes: tuple[int, ...]) -> str:
    """Returns a size in words, such as "5x7"."""
    return "x".join(map(str, sizes))


@dataclasses.dataclass(frozen=True)
class Placed:
    """The placement of one layer's windows on its input. Made by `place`, which checks it.

    Attributes:
      input_shape: height, width, channels of the input.
      window: height and width of a window.
      stride: vertical and horizontal distance between windows.
      pads: (top, bottom), (left, right) pixels added around the input.
    """

    input_shape: tuple[int, int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = map(output_size, self.input_shape[:2], self.window, self.stride, self.pads)
        return height, width

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the output, which has the channels of the input."""
        return (*self.output_size, self.input_shape[2])

    @property
    def is_padded(self) -> bool:
        return any(map(any, self.pads))

    def arithmetic(self) -> str:
        """Returns the sum that gives the output's side, (n + 2p - k) / s + 1, with the numbers filled in.

        Such as "(28 + 2*2 - 5) / 1 + 1 = 28"; where the padding of the two ends differs, both stand there.
        """
        found = dict.fromkeys(map(_sum, self.input_shape[:2], self.window, self.stride, self.pads))
        return " by ".join(found)

    def describe(self) -> str:
        """Returns a text such as "5x5, stride 2, padding 1"; a stride of 1 and no padding go without saying."""
        words = [by(self.window)]
        if self.stride != (1, 1):
            words.append(f"stride {by(self.stride) if self.stride[0] != self.stride[1] else self.stride[0]}")
        if self.is_padded:
            words.append(f"padding {in_pixels(self.pads)}")
        return ", ".join(words)


def _sum(size, window, stride, pads):
    low, high = pads
    padding = f"2*{low}" if low == high else f"{low} + {high}"
    exact, places = (size + low + high - window) / stride + 1, output_size(size, window, stride, pads)
    return f"({size} + {padding} - {window}) / {stride} + 1 = {exact:g}" + f", whole {places}" * (exact != places)


def place(
    name: str,
    input_shape: tuple[int, int, int],
    window: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: str | int | Pads = "valid",
    fill: str = "zero",
) -> Placed:
    """Lays the windows of a layer on its input, and checks them.

    Args:
      name: the layer, for messages.
      input_shape: height, width, channels of the input.
      window: side of the window, or its height and width.
      stride: one stride, or the vertical and the horizontal one.
      padding: as `parse_padding`, a number of pixels, or ((top, bottom), (left, right)).
      fill: what lies beyond the edge: one of `FILLS`.

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
    made = Placed(input_shape, window, stride, padding)
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
