"""Distance of each layer's maps from moving with the image."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cnn_jax.studies.measurements.base import Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Curves, Figure, LayerTable
from cnn_jax.studies.measurements.shifts import shifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equivariance(Measurement):
    """||Phi(T_s x) - T_(s / stride) Phi(x)|| / ||Phi(x)|| of each layer, for s from 0 to twice its stride.

    At multiples of the stride the maps move by whole positions; in between, their values are interpolated linearly
    along both axes. Without circular shifts, the rows and columns that a moved map has no values for are left out, and
    so are their counterparts in ||Phi(x)||. Squares are summed over all images before the root. Maps that are all zero
    have an error of zero if they stay so, else infinity.

    Attributes:
      circular: shift circularly, else in black.
    """

    section = Section("equivariance", "Equivariance, layer by layer")
    columns = ()
    circular: bool = False

    def measure(self, context: Context) -> Result:
        """Measures the layers that have a stride in the context.

        Returns:
          error: for each layer, [seeds, 2 stride + 1]; column s: the image is moved by s pixels down and right.
          images: how many images were used.
          circular: see the class.

        Raises:
          ValueError: a layer's maps are no larger than the move.
        """
        images, strides = context.few, context.strides
        at_rest = context.maps(images)
        error = {layer: [] for layer in strides}
        for pixels in range(2 * max(strides.values()) + 1):
            moved = context.maps(shifted(images, pixels, pixels, self.circular))
            for layer, stride in strides.items():
                if pixels <= 2 * stride:
                    error[layer].append(_distance(layer, at_rest[layer], moved[layer], pixels / stride, self.circular))
        error = {layer: np.stack(columns, 1) for layer, columns in error.items()}
        return Result(error=error, images=len(images), circular=self.circular)

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        part = "over whole maps, shifts circular" if found.circular else "where both maps have values, black coming in"
        return (
            "Norm of the maps of the image moved s pixels down and right minus the image's maps moved s / stride, "
            f"interpolated linearly, over the norm of the latter before they move, {part}, over {found.images} images."
        )

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Returns the mean error of every layer, and the error of the last layer that all arms have, by s."""
        first = next(iter(found.values()))
        table = LayerTable(
            values={
                arm: {layer: values[:, 1:].mean(1) for layer, values in each.error.items()}
                for arm, each in found.items()
            },
            digits=2,
            caption="Equivariance error, mean over s = 1 to twice the layer's stride and over the seeds. " + protocol,
        )
        shared = [layer for layer in first.error if all(layer in each.error for each in found.values())]
        if not shared:
            return [table]
        curves = Curves(
            name="equivariance",
            values={arm: each.error[shared[-1]] for arm, each in found.items()},
            axis="s, pixels",
            caption=f"The error of {shared[-1]} by s: a network whose maps moved with the image would have 0 at every "
            f"multiple of the stride. {protocol}",
        )
        return [table, curves]


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


MEASUREMENT = Equivariance()
