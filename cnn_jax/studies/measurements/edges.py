"""Activation at the edge of each layer's maps."""

from collections.abc import Mapping

import numpy as np

from cnn_jax.studies.measurements.base import Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Figure, LayerTable


class EdgeActivation(Measurement):
    """Mean magnitude of activations at the edge against the centre, of every layer whose maps have a centre."""

    section = Section("edges", "Edges")
    columns = ()

    def measure(self, context: Context) -> Result:
        """Measures the layers whose maps are 3x3 and larger, on images and on a black one.

        Returns:
          edge: for each layer, [seeds], mean magnitude in the outermost ring of the maps.
          centre: likewise, in all the rest.
          blank_edge: likewise, in the ring, of a black image: what padding alone does (Alsallakh 2021).
          blank_centre: likewise, in the rest, of a black image.
          images: how many images were used.
        """
        images = context.few
        edge, centre = _ring_and_rest(context.maps(images))
        blank_edge, blank_centre = _ring_and_rest(context.maps(np.zeros_like(images[:1])))
        return Result(edge=edge, centre=centre, blank_edge=blank_edge, blank_centre=blank_centre, images=len(images))

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        return (
            "Mean absolute activation in the outermost ring of a layer's maps and in all the rest, over "
            f"{found.images} test images and over a black one."
        )

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Draws activation at the edge over that in the centre, of images and of black."""
        blank = "The same for a black image: what padding alone does. – where the centre is silent. "
        return [
            LayerTable(
                values={arm: _ratios(each.edge, each.centre) for arm, each in found.items()},
                digits=2,
                caption="Activation at the edge over that in the centre, test images. " + protocol,
            ),
            LayerTable(
                values={arm: _ratios(each.blank_edge, each.blank_centre) for arm, each in found.items()},
                digits=2,
                caption=blank + protocol,
            ),
        ]


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


def _ratios(edge, centre):
    """Activation at the edge over that in the centre, by layer; NaN or infinite where the centre is silent."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {layer: values / centre[layer] for layer, values in edge.items()}


MEASUREMENT = EdgeActivation()
