"""What shifts and borders do inside a network: equivariance of its maps, activation at the edge, position leak.

Everything goes through `maps(images)`: uint8 [N, H, W, C] as stored, to each layer's maps by name, float32
[seeds, N, height, width, channels]. All the images go in one call, so these take a few dozen to a few hundred.
Each result says its protocol in one sentence, for the caption beside the figure.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from cnn_jax.studies.measurements import shifted

ROLLS = 2  # purpose of a random stream; measurements.py has 1
FOLDS = 5
Maps = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equivariance:
    """How far each layer's maps are from moving with the image.

    Attributes:
      error: for each layer, [seeds, 2 stride + 1]; column s: the image is moved by s pixels down and right.
      images: how many images were used.
      circular: shifts are circular, else in black.
    """

    error: dict[str, np.ndarray]
    images: int
    circular: bool

    @property
    def protocol(self) -> str:
        """One sentence."""
        part = "over whole maps, shifts circular" if self.circular else "where both maps have values, black coming in"
        return (
            "Norm of the maps of the image moved s pixels down and right minus the image's maps moved s / stride, "
            f"interpolated linearly, over the norm of the latter before they move, {part}, over {self.images} images."
        )


def equivariance(maps: Maps, images: np.ndarray, strides: Mapping[str, int], circular: bool = False) -> Equivariance:
    """||Phi(T_s x) - T_(s / stride) Phi(x)|| / ||Phi(x)|| of each layer, for s from 0 to twice its stride.

    At multiples of the stride the maps move by whole positions; in between, their values are interpolated linearly
    along both axes. Without circular shifts, the rows and columns that a moved map has no values for are left out, and
    so are their counterparts in ||Phi(x)||. Squares are summed over all images before the root. Maps that are all zero
    have an error of zero if they stay so, else infinity.

    Args:
      maps: see the module.
      images: uint8 [N, H, W, C].
      strides: for each layer to measure, the product of its own and all earlier strides, pixels.
      circular: shift circularly, else in black.

    Raises:
      ValueError: a layer's maps are no larger than the move.
    """
    at_rest = maps(images)
    error = {layer: [] for layer in strides}
    for pixels in range(2 * max(strides.values()) + 1):
        moved = maps(shifted(images, pixels, pixels, circular))
        for layer, stride in strides.items():
            if pixels <= 2 * stride:
                error[layer].append(_distance(layer, at_rest[layer], moved[layer], pixels / stride, circular))
    error = {layer: np.stack(columns, 1) for layer, columns in error.items()}
    return Equivariance(error=error, images=len(images), circular=circular)


def _distance(layer, at_rest, moved, move, circular):
    """The error of one layer at one move, in positions of its maps: [seeds]."""
    height, width = at_rest.shape[2:4]
    cut = 0 if circular else int(np.ceil(move))
    if cut >= min(height, width):
        raise ValueError(f"equivariance: {layer} has maps of {height}x{width}, too small to move by {cut} positions")
    expected = np.asarray(at_rest, np.float64)
    for axis in (2, 3):
        near, far = (np.roll(expected, step, axis) for step in (int(move), int(move) + 1))
        expected = near + (move - int(move)) * (far - near)
    norm = lambda x: np.sqrt(np.square(x, dtype=np.float64).sum((1, 2, 3, 4)))
    differences = norm((moved - expected)[:, :, cut:, cut:])
    size = norm(at_rest[:, :, : height - cut, : width - cut])
    return np.divide(differences, size, out=np.where(differences > 0, np.inf, 0.0), where=size != 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EdgeActivation:
    """Mean magnitude of each layer's activations at the edge and inside it, each a dict of [seeds] by layer.

    Attributes:
      edge: in the outermost ring of the maps.
      centre: in all the rest.
      blank_edge: in the ring, of a black image: what padding alone does (Alsallakh 2021).
      blank_centre: in the rest, of a black image.
      images: how many images were used.
    """

    edge: dict[str, np.ndarray]
    centre: dict[str, np.ndarray]
    blank_edge: dict[str, np.ndarray]
    blank_centre: dict[str, np.ndarray]
    images: int

    @property
    def protocol(self) -> str:
        """One sentence."""
        return (
            "Mean absolute activation in the outermost ring of a layer's maps and in all the rest, over "
            f"{self.images} test images and over a black one."
        )


def edge_activation(maps: Maps, images: np.ndarray) -> EdgeActivation:
    """Activation at the edge against the centre, of every layer whose maps have a centre (3x3 and larger).

    Args:
      maps: see the module.
      images: uint8 [N, H, W, C].
    """
    edge, centre = _ring_and_rest(maps(images))
    blank_edge, blank_centre = _ring_and_rest(maps(np.zeros_like(images[:1])))
    return EdgeActivation(
        edge=edge, centre=centre, blank_edge=blank_edge, blank_centre=blank_centre, images=len(images)
    )


def _ring_and_rest(maps):
    ring, rest = {}, {}
    for layer, values in maps.items():
        height, width = values.shape[2:4]
        if min(height, width) < 3:
            continue
        size = np.abs(values).mean((1, 4), dtype=np.float64)  # [seeds, height, width]
        inside = size[:, 1:-1, 1:-1]
        ring[layer] = (size.sum((1, 2)) - inside.sum((1, 2))) / (height * width - inside[0].size)
        rest[layer] = inside.mean((1, 2))
    return ring, rest


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionLeak:
    """How well a linear probe reads from a layer where in the map it looks.

    Attributes:
      spearman: [seeds], rank correlation of read and true coordinate, mean of the two axes; 0 for no leak.
      error: [seeds], mean absolute error of the coordinates, in units of the map's side.
      chance: the error of always answering the centre.
      layer: the layer's name.
      images: how many images were used.
    """

    spearman: np.ndarray
    error: np.ndarray
    chance: float
    layer: str
    images: int

    @property
    def protocol(self) -> str:
        """One sentence."""
        return (
            f"Ridge regression from the channels at each position of {self.layer} to the position's row and column "
            f"(0 to 1), {FOLDS}-fold cross-validated over {self.images} test images, each rolled round at random so "
            "that what is seen says nothing about where."
        )


def position_leak(maps: Maps, images: np.ndarray, layer: str, seed: int = 0) -> PositionLeak:
    """A linear reading of the position from a layer's maps, after PosENet (Islam 2020), with a convolution of 1x1.

    Digits are centred, so what is seen would tell where it is. Each image is therefore first rolled round by a random
    number of pixels along both axes, uniform over its sides: every position then sees the same, except for the padding.

    Args:
      maps: see the module.
      images: uint8 [N, H, W, C], at least 5.
      layer: the layer to read, with maps of 2x2 or larger.
      seed: of the random rolls; the same rolls for every arm and seed of a study.
    """
    from sklearn.linear_model import Ridge  # a second to import, for this measurement alone
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    stream = np.random.Philox(key=np.array([seed, ROLLS], np.uint64))
    words = stream.random_raw(2 * len(images)).reshape(2, -1)  # raw: never changes (NEP 19)
    down, right = (row % np.uint64(side) for row, side in zip(words, images.shape[1:3], strict=True))
    features = maps(shifted(images, down.astype(np.int64), right.astype(np.int64), circular=True))[layer]
    _, count, height, width, channels = features.shape
    grid = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    places = np.tile(np.stack(grid, -1).reshape(-1, 2), (count, 1))  # [images x positions, 2]
    of_image = np.repeat(np.arange(count), height * width)
    probe = make_pipeline(StandardScaler(), Ridge())
    spearman, error = np.full((2, len(features)), np.nan)
    for index, samples in enumerate(np.asarray(features, np.float64).reshape(len(features), -1, channels)):
        if np.isfinite(samples).all():  # else training diverged
            read = cross_val_predict(probe, samples, places, groups=of_image, cv=GroupKFold(FOLDS))
            spearman[index] = np.mean([_rank_correlation(read[:, axis], places[:, axis]) for axis in (0, 1)])
            error[index] = np.abs(read - places).mean()
    chance = float(np.abs(places - 0.5).mean())
    return PositionLeak(spearman=spearman, error=error, chance=chance, layer=layer, images=count)


def _rank_correlation(read, true):
    return stats.spearmanr(read, true).statistic if np.ptp(read) else 0.0
