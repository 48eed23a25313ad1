"""Decisions at two random shifts in black agree (Zhang 2019)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cnn_jax import randomness
from cnn_jax.studies.measurements.base import Column, Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Figure, Scatter
from cnn_jax.studies.measurements.shifts import decisions, shifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consistency(Measurement):
    """Decisions at two random shifts of the same image.

    The shifts depend on the reach or margin, draws, seed and the number of images only: every arm and seed of a study
    sees the same.

    Attributes:
      name: of the figure, see `Scatter`.
      title: of the figure.
      columns: see `Measurement`.
      manner: "black": what comes in is black; "circular": what leaves on one side comes in on the other; "crops": two
        squares are cut from the stored image, as large as the network's input, at offsets from 0 to the margin - 1.
      seed: of the random shifts.
    """

    section = Section(
        "consistency", "Accuracy and consistency", "Is there a trade-off between accuracy and consistency?"
    )
    name: str = "consistency"
    title: str = "consistency"
    columns: Sequence[Column] = ()
    manner: str = "black"
    seed: int = 0

    def measure(self, context: Context) -> Result:
        """Measures consistency, stability and accuracy under random shifts, by 2 x draws predictions.

        Returns:
          Shares from 0 to 1, [seeds] each, and the protocol.
            agreement: the two decisions are equal (Zhang 2019's consistency).
            stability: they are equal and correct (TIPS 2025).
            accuracy: a decision on a shifted image is correct.
            reach: shifts are uniform in [-reach, reach] along each axis, pixels; of crops, offsets are in [0, reach].
            manner, draws: see the class, and `Context`.
        """
        images, labels, draws = context.images, context.labels, context.draws
        crops = self.manner == "crops"
        places = context.margin if crops else 2 * context.reach + 1
        middle = context.margin // 2 if crops else context.reach
        raw = randomness.words(self.seed, randomness.MEASUREMENT, draws * 4 * len(images), randomness.SHIFTS)
        places_drawn = (raw % np.uint64(places)).astype(np.int64).reshape(draws, 2, 2, len(images))
        # The network is given the middle of an image: moving that is cutting elsewhere.
        shifts = middle - places_drawn if crops else places_drawn - middle
        moved = lambda down, right: shifted(images, down, right, self.manner != "black")
        agreement, stability, accuracy = [], [], []
        for pair in shifts:
            (one, defined), (other, _) = (decisions(context.predict(moved(down, right))) for down, right in pair)
            agreement.append(defined * (one == other).mean(-1))
            stability.append(defined * ((one == other) & (one == labels)).mean(-1))
            accuracy.append(defined * ((one == labels).mean(-1) + (other == labels).mean(-1)) / 2)
        return Result(
            agreement=np.mean(agreement, 0),
            stability=np.mean(stability, 0),
            accuracy=np.mean(accuracy, 0),
            reach=places - 1 if crops else context.reach,
            manner=self.manner,
            draws=draws,
        )

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        manner = _manner(found)
        where = f"shifts in black, each uniform in -{found.reach} to {found.reach} pixels along both axes"
        if manner == "circular":
            where = where.replace("shifts in black", "circular shifts")
        if manner == "crops":
            where = f"crops of the stored image, offsets uniform in 0 to {found.reach} pixels along both axes"
        return f"Share of test images classified alike at two random {where}, mean over {found.draws} pairs an image."

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Draws accuracy against consistency."""
        return [
            Scatter(
                name=self.name,
                values={arm: 100 * each.agreement for arm, each in found.items()},
                title=self.title,
                caption=f"Up and to the right is better. {protocol} Lines are 95% intervals of the mean over seeds, "
                "where they fit; a diamond at the edge lies beyond it.",
            )
        ]


def _manner(found):
    """How shifts were made; results of before November 2026 say only whether they were circular."""
    return getattr(found, "manner", "") or ("circular" if found.circular else "black")


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
