"""Images out of nothing: gratings in colour under noise, a pure function of split and index.

A class has a hue, an orientation and a frequency, ten of each, so that 1,000 classes differ; phase and noise are the
example's own. The grating swings between the hue and its complement over a ground tinted with the hue: the tint is
learnt soon, and the rest takes filters.
"""

import functools

import numpy as np

from cnn_jax import randomness
from cnn_jax.data.datasets.base import Source
from cnn_jax.data.facts import Facts
from cnn_jax.data.images.reader import ImageSource

SPLITS = ("train", "test")
TINT, SWING, NOISE = 24, 56, 96  # levels of 255: of the ground and the grating around mid-grey, and width of the noise
SLOWEST, FASTEST = 3.0, 0.2  # frequencies: from cycles per image to cycles per pixel


class Fake(Source):
    """Generated images; their number, classes and pixels are those that the settings ask for."""

    def facts(self) -> Facts:
        kind = self.data.kind
        names = tuple(f"class {label}" for label in range(kind.classes))
        return Facts(kind.shape, names, {"train": kind.examples, "test": -(-kind.examples // 5)}, "")

    def images(self, stored: str) -> ImageSource:
        kind = self.data.kind
        return image_source(stored, self.facts().splits[stored], kind.classes, kind.side)


def image_source(split: str, examples: int, classes: int, side: int) -> ImageSource:
    """Returns one split, generated when it is read.

    Args:
      split: "train" or "test"; they have no image in common.
      examples: how many; example i is of class i modulo `classes`.
      classes: at least 2.
      side: pixels.
    """
    labels = (np.arange(examples) % classes).astype(np.int32)
    read = lambda row: draw(SPLITS.index(split), row, row % classes, side)
    return ImageSource(f"fake {split}", (side, side, 3), labels, read, {})


def draw(split: int, index: int, label: int, side: int) -> np.ndarray:
    """Returns one image, uint8 [side, side, 3]."""
    words = randomness.words(index, randomness.FAKE_IMAGES, 1 + -(-side * side * 3 // 8), split)
    noise = words[1:].view(np.uint8)[: side * side * 3].reshape(side, side, 3)
    colour, rows, columns = _class_signal(label, side)
    phase = 2 * np.pi * float(words[0] >> np.uint64(11)) * 2.0**-53
    # cos(rows + columns + phase), as two outer products.
    grating = np.outer(np.cos(rows + phase), np.cos(columns)) - np.outer(np.sin(rows + phase), np.sin(columns))
    signal = (127.5 + (TINT + SWING * grating.astype(np.float32))[:, :, None] * colour).astype(np.float32)
    return (signal + noise * np.float32(NOISE / 255) - np.float32(NOISE / 2)).clip(0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=1000)
def _class_signal(label, side):
    """Colour (-1 to 1, [3]) and the grating's angle along rows and along columns, radians [side] each."""
    units, tens, hundreds = label % 10, label // 10 % 10, label // 100 % 10
    # Each a mixture, so that classes with neighbouring numbers differ in everything; still one to one.
    hue, orientation, frequency = units / 10, (tens + 3 * units) % 10 / 9, (hundreds + 7 * units + tens) % 10 / 9
    colour = np.cos(2 * np.pi * (hue - np.array([0, 1, 2]) / 3)).astype(np.float32)
    angle = np.pi / 2 * orientation  # a quarter turn only: a mirror image stays of its class
    cycles = SLOWEST * (FASTEST * side / SLOWEST) ** frequency
    steps = 2 * np.pi * cycles * np.arange(side) / side
    return colour, steps * np.sin(angle), steps * np.cos(angle)
