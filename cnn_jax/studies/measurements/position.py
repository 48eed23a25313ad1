"""Position read from the last maps by a linear probe (Islam 2020)."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cnn_jax import randomness
from cnn_jax.studies.measurements.base import Column, Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Bars, Figure
from cnn_jax.studies.measurements.shifts import shifted

FOLDS = 5
MOST = 512  # images that the probe reads
AT_ONCE = 64  # of them, whose maps are there at the same time


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionLeak(Measurement):
    """A linear reading of the position from a layer's maps, after PosENet (Islam 2020), with a convolution of 1x1.

    Digits are centred, so what is seen would tell where it is. Each image is therefore first rolled round by a random
    number of pixels along both axes, uniform over its sides: every position then sees the same, except for the padding.

    Attributes:
      seed: of the random rolls; the same rolls for every arm and seed of a study.
    """

    section = Section("position", "Position leak")
    columns = (
        Column("position_spearman", "position, rank correlation", lambda found: found.spearman, digits=2),
        Column("position_error", "position, error", lambda found: found.error, digits=3),
    )
    seed: int = 0

    def measure(self, context: Context) -> Result:
        """Measures the last layer that has a stride in the context; it needs 5 images and maps of 2x2.

        Returns:
          spearman: [seeds], rank correlation of read and true coordinate, mean of the two axes; 0 for no leak.
          error: [seeds], mean absolute error of the coordinates, in units of the map's side.
          chance: the error of always answering the centre.
          layer: the layer's name.
          images: how many images were used.
          height, width: of the layer's maps.
        """
        layer = list(context.strides)[-1]
        images = context.images[np.unique(np.linspace(0, len(context.images) - 1, MOST).round().astype(int))]
        words = randomness.words(self.seed, randomness.MEASUREMENT, 2 * len(images), randomness.ROLLS).reshape(2, -1)
        down, right = (row % np.uint64(side) for row, side in zip(words, images.shape[1:3], strict=True))
        moved = shifted(images, down.astype(np.int64), right.astype(np.int64), circular=True)
        cuts = range(AT_ONCE, len(moved), AT_ONCE)
        features = np.concatenate([context.maps(part)[layer] for part in np.split(moved, cuts)], axis=1)
        _, count, height, width, _ = features.shape
        grid = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
        places = np.tile(np.stack(grid, -1).reshape(-1, 2), (count, 1))  # [images x positions, 2]
        of_image = np.repeat(np.arange(count), height * width)
        spearman, error = _readings(features, places, of_image)
        chance = float(np.abs(places - 0.5).mean())
        return Result(
            spearman=spearman, error=error, chance=chance, layer=layer, images=count, height=height, width=width
        )

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        return (
            f"Ridge regression from the channels at each position of {found.layer} to the position's row and column "
            f"(0 to 1), {FOLDS}-fold cross-validated over {found.images} test images, each rolled round at random so "
            "that what is seen says nothing about where."
        )

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Returns the rank correlation of each seed."""
        chance = " or ".join(f"{error:.3f}" for error in sorted({each.chance for each in found.values()}))
        return [
            Bars(
                name="position",
                values={arm: each.spearman for arm, each in found.items()},
                axis="rank correlation",
                digits=2,
                caption="Rank correlation of the position read and the true one: 0 is no leak, 1 a map of coordinates. "
                f"{protocol} A dot for each seed, mean and 95% interval. The error of a guess of the centre is "
                f"{chance}; the table above has the arms'. {_sizes(found)}A probe tells what can be read, not what "
                "the network uses: Lin et al. (2022, arXiv 2206.01202) find such probes unreliable.",
            )
        ]


def _sizes(found):
    """A sentence where the arms' maps differ in size; results of before November 2026 do not say theirs."""
    sizes = {arm: (each.height, each.width) for arm, each in found.items() if hasattr(each, "height")}
    if len(set(sizes.values())) < 2:
        return ""
    by_size = {size: [arm for arm in sizes if sizes[arm] == size] for size in dict.fromkeys(sizes.values())}
    words = "; ".join(f"{height} × {width}: {', '.join(arms)}" for (height, width), arms in by_size.items())
    return f"The maps differ in size ({words}), and readings from maps of different sizes cannot be compared. "


def _readings(features, places, of_image):
    """Rank correlation and error of a linear probe, [seeds] each; NaN for a seed whose training diverged."""
    from scipy import stats
    from sklearn.linear_model import Ridge  # a second to import, for this measurement alone
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    correlation = lambda read, true: stats.spearmanr(read, true).statistic if np.ptp(read) else 0.0
    probe = make_pipeline(StandardScaler(), Ridge())
    spearman, error = np.full((2, len(features)), np.nan)
    samples = np.asarray(features, np.float64).reshape(len(features), -1, features.shape[-1])
    for index, values in enumerate(samples):
        if np.isfinite(values).all():
            read = cross_val_predict(probe, values, places, groups=of_image, cv=GroupKFold(FOLDS))
            spearman[index] = np.mean([correlation(read[:, axis], places[:, axis]) for axis in (0, 1)])
            error[index] = np.abs(read - places).mean()
    return spearman, error


MEASUREMENT = PositionLeak()
