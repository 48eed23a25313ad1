"""red_green: accuracy with the squares where the other class had them (Kayhan and van Gemert 2020)."""

from collections.abc import Mapping

from cnn_jax.data.datasets import red_green
from cnn_jax.studies.measurements.base import Column, Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Bars, Figure
from cnn_jax.studies.measurements.shifts import accuracy

DATA = "red_green"


class Swapped(Measurement):
    """Accuracy on red_green with the squares where the other class had them in training."""

    section = Section("swapped", "Squares swapped")
    columns = (Column("swapped_accuracy", "swapped accuracy", lambda found: found.accuracy, "%", latex="swapped"),)

    def measure(self, context: Context) -> Result:
        """Measures as many test images as the context has.

        Returns:
          accuracy: [seeds], 0 to 1.
          images: how many images were used.
        """
        count = len(context.images)
        moved, wanted = red_green.images("test", count, swapped=True)
        return Result(accuracy=accuracy(context.predict(moved), wanted), images=count)

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        return f"{found.images} images of the test, their squares moved to the rows where the other class has them."

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Returns the accuracy of each seed."""
        return [
            Bars(
                name="swapped",
                values={arm: 100 * each.accuracy for arm, each in found.items()},
                axis="accuracy, %",
                caption="Accuracy in %: a network that reads the place instead of the order fails here. "
                f"{protocol} A dot for each seed, mean and 95% interval.",
            )
        ]


MEASUREMENT = Swapped()
