"""Accuracy at every shift, and what one pixel changes (Azulay and Weiss 2019)."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cnn_jax.studies.measurements.base import Column, Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Curves, Figure, Map
from cnn_jax.studies.measurements.shifts import in_words, shifted
from cnn_jax.studies.statistics import REHEARSAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftMap(Measurement):
    """The same images at every shift up to a reach r, along both axes.

    Attributes:
      circular: shift circularly, else in black.
    """

    section = Section("shifts", "Shifts")
    columns = (
        Column("changed_by_a_pixel", "decisions changed by a pixel", lambda found: found.changed, "%"),
        Column("jaggedness", "change between shifts", lambda found: found.jaggedness, digits=3),
        Column("diagonal_sd", "spread along the diagonal", lambda found: found.diagonal_sd, digits=3),
    )
    circular: bool = False

    def measure(self, context: Context) -> Result:
        """Measures accuracy by shift, and what one pixel changes, by (2 r + 1)^2 predictions.

        Decisions and probabilities at every shift are kept, 8 bytes each.

        Returns:
          accuracy: [seeds, 2 r + 1, 2 r + 1], 0 to 1; row r + i, column r + j: i pixels down and j right.
          probability: likewise, mean probability of the true class.
          diagonal_accuracy: [seeds, r + 1], the curve from no shift to r pixels down and right.
          diagonal_probability: likewise.
          diagonal_sd: [seeds], standard deviation of the true class's probability along it, mean over images.
          changed: [seeds], share of decisions that differ between two shifts one pixel apart (Azulay and Weiss 2019).
          jaggedness: [seeds], mean absolute change of the true class's probability between them.
          reach: r, pixels.
          circular: see the class.
        """
        images, labels, reach = context.images, context.labels, context.reach
        side = range(-reach, reach + 1)
        cells = [self._answers(context, down, right) for down in side for right in side]
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
        return Result(
            accuracy=accuracy,
            probability=probability,
            diagonal_accuracy=accuracy[:, diagonal, diagonal],
            diagonal_probability=probability[:, diagonal, diagonal],
            diagonal_sd=truth[:, diagonal, diagonal].std(1, dtype=np.float64).mean(-1),
            changed=defined * changed,
            jaggedness=jaggedness,
            reach=reach,
            circular=self.circular,
        )

    def _answers(self, context, down, right):
        """Decisions, int32, and the true class's probabilities, float32, both [seeds, N]."""
        labels = context.labels
        probabilities = context.predict(shifted(context.images, down, right, self.circular))
        return probabilities.argmax(-1).astype(np.int32), probabilities[:, np.arange(len(labels)), labels]

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        return (
            f"The same test images under all {in_words(found.circular)} of -{found.reach} to {found.reach} pixels "
            "along both axes; changes are counted between all shifts that lie one pixel apart along one axis."
        )

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Draws accuracy at every shift, and along the diagonal."""
        first = next(iter(found.values()))
        return [
            Map(
                values={arm: 100 * each.accuracy for arm, each in found.items()},
                middle="unshifted",
                caption=f"Accuracy by shift; the middle is no shift, {first.reach} pixels up and left is the upper "
                f"left corner. Below each, its difference to the baseline, from {REHEARSAL} seeds on white where the "
                f"95 % interval of the paired differences holds 0. {protocol} Mean over the seeds.",
            ),
            Curves(
                name="diagonal",
                values={arm: 100 * each.diagonal_accuracy for arm, each in found.items()},
                unit="%",
                axis="pixels down and right",
                caption=f"Accuracy along the diagonal of these maps. {protocol}",
            ),
        ]


MEASUREMENT = ShiftMap()
