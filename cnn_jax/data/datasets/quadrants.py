"""A patch of noise in one of four places on black: how far from the edge can a network tell where it is?

After the location task of Kayhan and van Gemert, 2020 ("On translation invariance in CNNs"), which pastes patches of
photographs. A convolution does the same everywhere; only the edge of the image, and what lies beyond, can say where a
patch is, and only as far as the network sees. Places are 16 pixels apart, a multiple of the strides of `PositionNet`,
so that a patch lies on the grid of the last maps in the same way everywhere and the grid gives nothing away.

A pure function of split and index.
"""

import numpy as np

from cnn_jax import randomness
from cnn_jax.data.datasets.base import Source
from cnn_jax.data.facts import Facts
from cnn_jax.data.images.reader import ImageSource

SPLITS = ("train", "test")
PATCH = 16  # side of a patch, and the distance of the places, pixels
NAMES = ("upper left", "upper right", "lower left", "lower right")


class Quadrants(Source):
    """Generated images; their number and border are those that the settings ask for."""

    def facts(self) -> Facts:
        kind = self.data.kind
        return Facts(kind.shape, NAMES, {"train": kind.examples, "test": -(-kind.examples // 5)}, "")

    def images(self, stored: str) -> ImageSource:
        kind, examples = self.data.kind, self.facts().splits[stored]
        read = lambda row: draw(SPLITS.index(stored), row, kind.border)
        return ImageSource(f"quadrants {stored}", kind.shape, (np.arange(examples) % 4).astype(np.int32), read, {})


def draw(split: int, index: int, border: int) -> np.ndarray:
    """Returns one image, uint8 [32 + 2 border, 32 + 2 border, 3]; example i is of class i modulo 4.

    Args:
      split: 0 for training images, 1 for those of the test.
      index: of the example; its patch does not depend on the border.
      border: black pixels around the four places.
    """
    side = 2 * PATCH + 2 * border
    image = np.zeros((side, side, 3), np.uint8)
    noise = randomness.words(index, randomness.QUADRANT_IMAGES, PATCH * PATCH * 3 // 8, split).view(np.uint8)
    row, column = (border + PATCH * place for place in divmod(index % 4, 2))
    image[row : row + PATCH, column : column + PATCH] = noise.reshape(PATCH, PATCH, 3)
    return image
