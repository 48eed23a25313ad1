"""Accuracy with the object moved to the border."""

from collections.abc import Mapping

import numpy as np

from cnn_jax.errors import UserError
from cnn_jax.studies.measurements.base import Column, Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Curves, Figure
from cnn_jax.studies.measurements.shifts import accuracy, shifted


class BorderDistance(Measurement):
    """Accuracy by the distance of the object from the border."""

    section = Section("border", "Near the border")
    columns = (Column("accuracy_at_border", "accuracy at the border", lambda found: found.accuracy[:, 0], "%"),)

    def measure(self, context: Context) -> Result:
        """Measures accuracy with objects moved towards each side, by 4 (reach + 1) predictions.

        Nothing of an object is cut off. Images without an object, and those whose object has no room to lie `reach`
        pixels from every side, are left out at all distances, so that all distances have the same images.

        Returns:
          accuracy: [seeds, reach + 1]; column d: the object's bounding box lies d pixels from a side, mean over the
            four sides.
          images: how many images were used.

        Raises:
          UserError: no image is left.
        """
        images, labels, reach = context.images, context.labels, context.reach
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
            curve.append(np.mean([accuracy(context.predict(shifted(images, *move)), labels) for move in moves], 0))
        return Result(accuracy=np.stack(curve, 1), images=len(images))

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        return (
            f"{found.images} test images, each moved straight to one side until its bounding box of non-black pixels "
            f"lies 0 to {found.accuracy.shape[1] - 1} pixels from it, black coming in, mean over the four sides."
        )

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Draws accuracy by distance."""
        return [
            Curves(
                name="border",
                values={arm: 100 * each.accuracy for arm, each in found.items()},
                unit="%",
                axis="pixels from the border",
                caption=f"Accuracy by distance. {protocol}",
            )
        ]


def _margins(ink):
    """Black lines before and after the ink of each image: bool [N, lines] to two [N]."""
    return ink.argmax(1), ink[:, ::-1].argmax(1)


MEASUREMENT = BorderDistance()
