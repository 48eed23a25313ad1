"""Layers as NumPy loops in float64: what the tests of layers and networks compare with."""

import numpy as np

# What lies beyond the edge, as NumPy calls it.
FILLS = {
    "zero": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap", "symmetric": "symmetric",
}  # fmt: skip


def in_layout(images, layout: str) -> np.ndarray:
    """NHWC images in the layout's order of axes."""
    return np.transpose(images, ["NHWC".index(axis) for axis in layout])


def patches(x, window, stride, pads=((0, 0), (0, 0)), **padding):
    """Every window of NHWC maps, row by row: (row, column, pixels [N, height, width, C]).

    Args:
      x: maps.
      window: height and width.
      stride: vertical and horizontal.
      pads: pixels above and below, left and right.
      **padding: as for np.pad.
    """
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *pads, (0, 0)), **padding)
    for row, top in enumerate(range(0, x.shape[1] - window[0] + 1, stride[0])):
        for column, left in enumerate(range(0, x.shape[2] - window[1] + 1, stride[1])):
            yield row, column, x[:, top : top + window[0], left : left + window[1]]


def assemble(values) -> np.ndarray:
    """[N, rows, columns, C] from (row, column, [N, C])."""
    rows = {}
    for row, _, value in values:
        rows.setdefault(row, []).append(value)
    return np.stack([np.stack(row, axis=1) for row in rows.values()], axis=1)


def convolution(x, kernels, bias, reads, stride=(1, 1), pads=((0, 0), (0, 0)), **padding):
    """Cross-correlation of NHWC maps.

    Args:
      x: maps.
      kernels: per feature, [height, width, channels it reads].
      bias: [features].
      reads: per feature, the channels it reads.
      stride: vertical and horizontal.
      pads: pixels above and below, left and right.
      **padding: as for np.pad.
    """
    kernels = [np.asarray(kernel, np.float64) for kernel in kernels]

    def feature(patch, kernel, bias, channels):
        return bias + sum(
            np.sum(patch[..., channel] * kernel[..., place], (1, 2)) for place, channel in enumerate(channels)
        )

    def features(patch):
        return np.stack([feature(patch, *of) for of in zip(kernels, np.asarray(bias, np.float64), reads)], axis=1)

    windows = patches(x, kernels[0].shape[:2], stride, pads, **padding)
    return assemble((row, column, features(patch)) for row, column, patch in windows)
