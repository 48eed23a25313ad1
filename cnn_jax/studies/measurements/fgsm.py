"""Accuracy on images changed against each network by the fast gradient sign method (Goodfellow et al. 2015)."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cnn_jax.studies.measurements.base import Column, Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Bars, Figure
from cnn_jax.studies.measurements.shifts import decisions


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastGradientSign(Measurement):
    """One step of every pixel in the direction in which the loss grows; each network has images of its own."""

    section = Section("fgsm", "Adversarial images")
    columns = (
        Column("fgsm_accuracy", "accuracy against FGSM", lambda found: found.accuracy, "%", latex="FGSM"),
        Column("fgsm_clean", "on the same images, unchanged", lambda found: found.clean, "%"),
    )

    def measure(self, context: Context) -> Result:
        """Measures accuracy before and after, by a gradient and as many predictions as there are seeds.

        Returns:
          accuracy: [seeds], 0 to 1, of x + e sign(gradient of the loss), rounded to whole grey levels within 0 to 255.
          clean: [seeds], of x.
          epsilon: e, grey levels of 255.
          images: how many were used.
        """
        images, labels = context.images, context.labels
        choices, defined = decisions(context.predict(images))
        found = []
        for seed, signs in enumerate(context.uphill(images, labels)):
            moved = np.clip(images.astype(np.int16) + context.epsilon * signs, 0, 255).astype(np.uint8)
            against, _ = decisions(context.predict(moved))
            found.append((against[seed] == labels).mean())
        return Result(
            accuracy=defined * np.array(found),
            clean=defined * (choices == labels).mean(-1),
            epsilon=context.epsilon,
            images=len(images),
        )

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        return (
            f"Every pixel of {found.images:,} test images is moved by {found.epsilon} of 255 grey levels in the "
            "direction in which that network's loss grows, one step (study.epsilon)."
        )

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Draws the accuracy of each seed."""
        return [
            Bars(
                name="fgsm",
                values={arm: 100 * each.accuracy for arm, each in found.items()},
                axis="accuracy, %",
                caption=f"{protocol} A dot for each seed, mean and 95% interval. A single step is a weak attack: what "
                "withstands it may fail under a stronger one.",
            )
        ]


MEASUREMENT = FastGradientSign()
