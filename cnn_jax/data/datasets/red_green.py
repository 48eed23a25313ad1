"""A red and a green square on black, in order or out of it: does a network read the order, or where it was shown?

The data of the red-green experiment of Kayhan and van Gemert, 2020 ("On translation invariance in CNNs"), as their
code draws it: 32x32 pixels, two squares of 4x4 at least a pixel apart, at heights of their own within a band of rows.
The class is the order from left to right; but each class has its band, so that the height gives the answer away.
Squares moved to the other class's band keep their order, and so their class. A pure function of split and index.
"""

import numpy as np

from cnn_jax import randomness
from cnn_jax.data.datasets.base import Source
from cnn_jax.data.facts import Facts
from cnn_jax.data.images.reader import ImageSource

SPLITS = ("train", "test")
SIDE, SQUARE = 32, 4  # of an image and of a square, pixels
BANDS, HEIGHTS = (3, 19), 8  # the first row of a square: so many from here on, by class
COLUMNS = 10  # of the left square's first column, from 0 on; the right one's are those that leave a gap, up to 27


class RedGreen(Source):
    """Generated images, as many as the settings ask for."""

    def facts(self) -> Facts:
        examples = self.data.kind.examples
        splits = {"train": examples, "test": -(-examples // 5)}
        return Facts((SIDE, SIDE, 3), ("red left of green", "green left of red"), splits, "")

    def images(self, stored: str) -> ImageSource:
        return image_source(stored, self.facts().splits[stored])


def image_source(split: str, examples: int) -> ImageSource:
    """Returns one split, generated when it is read.

    Args:
      split: "train" or "test". Of the 11,840 images a class can have, each draws its own; some come in both.
      examples: how many; example i is of class i modulo 2.
    """
    read = lambda row: draw(SPLITS.index(split), row)
    return ImageSource(f"red_green {split}", (SIDE, SIDE, 3), _labels(examples), read, {})


def images(split: str, examples: int, swapped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of a split, uint8 [examples, 32, 32, 3], and labels, int32 [examples].

    Args:
      split: "train" or "test".
      examples: how many, from the first on.
      swapped: move the squares to the band of the other class: the published "dissimilar" test, beside the "similar".
    """
    drawn = [draw(SPLITS.index(split), index, swapped) for index in range(examples)]
    return np.stack(drawn), _labels(examples)


def draw(split: int, index: int, swapped: bool = False) -> np.ndarray:
    """Returns one image, uint8 [32, 32, 3]."""
    column, gap, *heights = map(int, randomness.words(index, randomness.RED_GREEN_IMAGES, 4, split))
    left = column % COLUMNS
    nearest = left + SQUARE + 1
    right = nearest + gap % (SIDE - SQUARE - nearest)
    label = index % 2
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for colour, column, height in zip((label, 1 - label), (left, right), heights):
        row = BANDS[label ^ swapped] + height % HEIGHTS
        image[row : row + SQUARE, column : column + SQUARE, colour] = 255
    return image


def _labels(examples):
    return (np.arange(examples) % 2).astype(np.int32)
