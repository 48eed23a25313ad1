"""Decisions at two random shifts in black agree (Zhang 2019)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cnn_jax import randomness
from cnn_jax.studies.measurements.base import Column, Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Figure, Scatter
from cnn_jax.studies.measurements.shifts import decisions, in_words, shifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consistency(Measurement):
    """Decisions at two random shifts of the same image.

    The shifts depend on the reach, draws, seed and the number of images only: every arm and seed of a study sees the
    same.

    Attributes:
      name: of the figure, see `Scatter`.
      title: of the figure.
      columns: see `Measurement`.
      circular: shift circularly, else in black.
      draws: pairs of shifts for each image.
      seed: of the random shifts.
    """

    section = Section(
        "consistency", "Accuracy and consistency", "Is there a trade-off between accuracy and consistency?"
    )
    name: str = "consistency"
    title: str = "consistency"
    columns: Sequence[Column] = ()
    circular: bool = False
    draws: int = 5
    seed: int = 0

    def measure(self, context: Context) -> Result:
        """Measures consistency, stability and accuracy under random shifts, by 2 x draws predictions.

        Returns:
          Shares from 0 to 1, [seeds] each, and the protocol.
            agreement: the two decisions are equal (Zhang 2019's consistency).
            stability: they are equal and correct (TIPS 2025).
            accuracy: a decision on a shifted image is correct.
            reach: shifts are uniform in [-reach, reach] along each axis, pixels.
            circular, draws: see the class.
        """
        images, labels, reach = context.images, context.labels, context.reach
        count = self.draws * 4 * len(images)
        raw = randomness.words(self.seed, randomness.MEASUREMENT, count, randomness.SHIFTS)
        words = raw % np.uint64(2 * reach + 1)
        shifts = words.astype(np.int64).reshape(self.draws, 2, 2, len(images)) - reach
        agreement, stability, accuracy = [], [], []
        for pair in shifts:
            (one, defined), (other, _) = (
                decisions(context.predict(shifted(images, down, right, self.circular))) for down, right in pair
            )
            agreement.append(defined * (one == other).mean(-1))
            stability.append(defined * ((one == other) & (one == labels)).mean(-1))
            accuracy.append(defined * ((one == labels).mean(-1) + (other == labels).mean(-1)) / 2)
        return Result(
            agreement=np.mean(agreement, 0),
            stability=np.mean(stability, 0),
            accuracy=np.mean(accuracy, 0),
            reach=reach,
            circular=self.circular,
            draws=self.draws,
        )

    def protocol(self, found: Result) -> str:
        """One sentence."""
        return (
            f"Share of test images classified alike at two random {in_words(found.circular)}, each uniform in "
            f"-{found.reach} to {found.reach} pixels along both axes, mean over {found.draws} pairs an image."
        )

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Accuracy against consistency."""
        return [
            Scatter(
                name=self.name,
                values={arm: 100 * each.agreement for arm, each in found.items()},
                title=self.title,
                caption=f"Up and to the right is better. {protocol} Lines are 95% intervals of the mean over seeds, "
                "where they fit; a diamond at the edge lies beyond it.",
            )
        ]


MEASUREMENT = Consistency(
    columns=(
        Column(
            "consistency", "consistency", lambda found: found.agreement, "%", latex="consistency",
            sentence="Two shifted copies of an image get the same answer in {} of the cases",
        ),
        Column("stability", "consistent and correct", lambda found: found.stability, "%"),
        Column("shifted_accuracy", "accuracy under shifts", lambda found: found.accuracy, "%"),
    )
)  # fmt: skip
