"""What shifts do to a network's decisions: consistency, accuracy by shift, jaggedness, distance to the border.

Everything goes through `predict(images)`: uint8 [N, H, W, C] as stored, to probabilities, float32
[seeds, N, classes]. It is called with all the images at once, one shift at a time, so that every call has the same
shape and no more than one shifted copy is held; the caller cuts it into batches. A seed whose probabilities are not
finite, because its training diverged, has NaN for every figure.

Each result says its protocol in one sentence, for the caption beside the figure.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from cnn_jax.errors import UserError

CONSISTENCY_SHIFTS = 1  # purpose of a random stream
Predict = Callable[[np.ndarray], np.ndarray]


def shifted(images: np.ndarray, down, right, circular: bool = False) -> np.ndarray:
    """Images moved by whole pixels.

    Moving in black is the same as laying the image on a larger black canvas and cutting the input out of that
    elsewhere, as Zhang (2019) cuts 224 pixels out of 256. What passes the edge is lost. MNIST's digits have sides of up
    to 20 pixels in 28 but are centred by mass, so that most of them have less than 4 pixels on some side: shifts of up
    to 4 pixels cut off 0.5 % of their ink on average.

    Args:
      images: [N, H, W, C].
      down: pixels, one number or [N].
      right: likewise.
      circular: what leaves on one side comes back on the other (as `np.roll`), instead of black coming in.

    Returns:
      An array of the same shape and type.
    """
    count, height, width, _ = images.shape
    rows = np.arange(height) - np.broadcast_to(down, count)[:, None]  # where each row comes from, [N, H]
    columns = np.arange(width) - np.broadcast_to(right, count)[:, None]
    moved = images[np.arange(count)[:, None, None], rows[:, :, None] % height, columns[:, None, :] % width]
    if not circular:
        inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        moved *= (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
    return moved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consistency:
    """Decisions at two random shifts of the same image, each figure [seeds], a share from 0 to 1.

    Attributes:
      agreement: the two decisions are equal (Zhang 2019's consistency).
      stability: they are equal and right (TIPS 2025).
      accuracy: a decision on a shifted image is right.
      reach: the largest shift along each axis, pixels.
      circular: shifts are circular, else in black.
      draws: pairs of shifts for each image.
    """

    agreement: np.ndarray
    stability: np.ndarray
    accuracy: np.ndarray
    reach: int
    circular: bool
    draws: int

    @property
    def protocol(self) -> str:
        """One sentence."""
        return (
            f"Share of test images classified alike at two random {_kind(self.circular)}, each uniform in "
            f"-{self.reach} to {self.reach} pixels along both axes, mean over {self.draws} pairs an image."
        )


def consistency(
    predict: Predict,
    images: np.ndarray,
    labels: np.ndarray,
    reach: int = 4,
    circular: bool = False,
    draws: int = 5,
    seed: int = 0,
) -> Consistency:
    """Consistency, stability and accuracy under random shifts, by 2 x draws predictions.

    The shifts depend on reach, draws, seed and the number of images only: every arm and seed of a study sees the same.

    Args:
      predict: see the module.
      images: uint8 [N, H, W, C].
      labels: [N].
      reach: pixels; shifts are uniform in [-reach, reach] along each axis.
      circular: shift circularly, else in black.
      draws: pairs of shifts for each image.
      seed: of the random shifts.
    """
    stream = np.random.Philox(key=np.array([seed, CONSISTENCY_SHIFTS], np.uint64))
    words = stream.random_raw(draws * 4 * len(images)) % np.uint64(2 * reach + 1)  # raw: never changes (NEP 19)
    shifts = words.astype(np.int64).reshape(draws, 2, 2, len(images)) - reach
    agreement, stability, accuracy = [], [], []
    for pair in shifts:
        (one, defined), (other, _) = (
            _decisions(predict(shifted(images, down, right, circular))) for down, right in pair
        )
        agreement.append(defined * (one == other).mean(-1))
        stability.append(defined * ((one == other) & (one == labels)).mean(-1))
        accuracy.append(defined * ((one == labels).mean(-1) + (other == labels).mean(-1)) / 2)
    return Consistency(
        agreement=np.mean(agreement, 0),
        stability=np.mean(stability, 0),
        accuracy=np.mean(accuracy, 0),
        reach=reach,
        circular=circular,
        draws=draws,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftMap:
    """The same images at every shift up to a reach r, along both axes.

    Attributes:
      accuracy: [seeds, 2r + 1, 2r + 1]; row r + i, column r + j: i pixels down and j right.
      probability: likewise, mean probability of the true class.
      diagonal_accuracy: [seeds, r + 1], the curve from no shift to r pixels down and right.
      diagonal_probability: likewise.
      diagonal_sd: [seeds], standard deviation of the true class's probability along that diagonal, mean over images.
      changed: [seeds], share of decisions that differ between two shifts one pixel apart (Azulay and Weiss 2019).
      jaggedness: [seeds], mean absolute change of the true class's probability between them.
      reach: r, pixels.
      circular: shifts are circular, else in black.
    """

    accuracy: np.ndarray
    probability: np.ndarray
    diagonal_accuracy: np.ndarray
    diagonal_probability: np.ndarray
    diagonal_sd: np.ndarray
    changed: np.ndarray
    jaggedness: np.ndarray
    reach: int
    circular: bool

    @property
    def protocol(self) -> str:
        """One sentence."""
        return (
            f"The same test images under all {_kind(self.circular)} of -{self.reach} to {self.reach} pixels along both "
            "axes; changes are counted between all shifts that lie one pixel apart along one axis."
        )


def shift_map(
    predict: Predict, images: np.ndarray, labels: np.ndarray, reach: int = 4, circular: bool = False
) -> ShiftMap:
    """Accuracy by shift, and what one pixel changes, by (2 reach + 1)^2 predictions.

    Args:
      predict: see the module.
      images: uint8 [N, H, W, C]; decisions and probabilities at every shift are kept, 8 bytes each.
      labels: [N].
      reach: pixels, at least 1.
      circular: shift circularly, else in black.
    """
    side = range(-reach, reach + 1)
    cells = [_answers(predict, shifted(images, down, right, circular), labels) for down in side for right in side]
    choices, truth = (
        np.stack(parts, 1).reshape(-1, len(side), len(side), len(images)) for parts in zip(*cells, strict=True)
    )
    defined = np.where(np.isfinite(truth).all((1, 2, 3)), 1.0, np.nan)
    accuracy = defined[:, None, None] * (choices == labels).mean(-1)
    probability = truth.mean(-1, dtype=np.float64)
    diagonal = np.arange(reach, 2 * reach + 1)
    steps = [  # of equal number, so that the mean over both axes is the mean of the means
        (choices[:, 1:] != choices[:, :-1], np.abs(truth[:, 1:] - truth[:, :-1])),
        (choices[:, :, 1:] != choices[:, :, :-1], np.abs(truth[:, :, 1:] - truth[:, :, :-1])),
    ]
    changed, jaggedness = (
        np.mean([part.mean((1, 2, 3), dtype=np.float64) for part in parts], 0) for parts in zip(*steps, strict=True)
    )
    return ShiftMap(
        accuracy=accuracy,
        probability=probability,
        diagonal_accuracy=accuracy[:, diagonal, diagonal],
        diagonal_probability=probability[:, diagonal, diagonal],
        diagonal_sd=truth[:, diagonal, diagonal].std(1, dtype=np.float64).mean(-1),
        changed=defined * changed,
        jaggedness=jaggedness,
        reach=reach,
        circular=circular,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BorderDistance:
    """Accuracy with the object moved towards the border.

    Attributes:
      accuracy: [seeds, reach + 1]; column d: its bounding box lies d pixels from a side, mean over the four sides.
      images: how many images were used.
    """

    accuracy: np.ndarray
    images: int

    @property
    def protocol(self) -> str:
        """One sentence."""
        return (
            f"{self.images} test images, each moved straight to one side until its bounding box of non-black pixels "
            f"lies d = 0 to {self.accuracy.shape[1] - 1} pixels from it, black coming in, mean over the four sides."
        )


def border_distance(predict: Predict, images: np.ndarray, labels: np.ndarray, reach: int = 4) -> BorderDistance:
    """Accuracy by the distance of the object from the border, by 4 (reach + 1) predictions.

    Nothing of an object is cut off. Images without an object, and those whose object has no room to lie `reach` pixels
    from every side, are left out at all distances, so that all distances have the same images.

    Args:
      predict: see the module.
      images: uint8 [N, H, W, C], objects on black.
      labels: [N].
      reach: pixels.

    Raises:
      UserError: no image is left.
    """
    ink = images.any(-1)
    top, bottom = _margins(ink.any(2))
    left, right = _margins(ink.any(1))
    chosen = ink.any((1, 2)) & (top + bottom >= reach) & (left + right >= reach)
    if not chosen.any():
        raise UserError(
            f"border distance: no image has an object on black with {reach} pixels to spare along both axes; "
            "measure it with a smaller reach or on other data"
        )
    images, labels = images[chosen], labels[chosen]
    top, bottom, left, right = (margin[chosen] for margin in (top, bottom, left, right))
    curve = []
    for distance in range(reach + 1):
        moves = ((distance - top, 0), (bottom - distance, 0), (0, distance - left), (0, right - distance))
        accuracies = []
        for move in moves:
            choices, defined = _decisions(predict(shifted(images, *move)))
            accuracies.append(defined * (choices == labels).mean(-1))
        curve.append(np.mean(accuracies, 0))
    return BorderDistance(accuracy=np.stack(curve, 1), images=len(images))


def _margins(ink):
    """Black lines before and after the ink of each image: bool [N, lines] to two [N]."""
    return ink.argmax(1), ink[:, ::-1].argmax(1)


def _decisions(probabilities):
    """Classes [seeds, N], and for each seed 1, or NaN where a probability is not finite."""
    probabilities = np.asarray(probabilities)
    return probabilities.argmax(-1), np.where(np.isfinite(probabilities).all((1, 2)), 1.0, np.nan)


def _answers(predict, images, labels):
    """Decisions, int32, and the true class's probabilities, float32, both [seeds, N]."""
    probabilities = np.asarray(predict(images))
    return probabilities.argmax(-1).astype(np.int32), probabilities[:, np.arange(len(labels)), labels]


def _kind(circular):
    return "circular shifts" if circular else "shifts in black"
