"""What the sections on the inside of a network show: its filters, examples on their way through it, its layers."""

import math
import typing
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax.reports import figures
from cnn_jax.reports.page import filter_pictures, stage_pictures
from cnn_jax.reports.parts import Example, Filters

if typing.TYPE_CHECKING:
    from cnn_jax.models.summary import Row

NETWORK = Path(__file__).parent  # where the template of these sections lies

CHANNELS = 32  # maps shown of one layer
FILTERS = 96  # AlexNet's first layer, shown whole
PLANES = 24  # filters, and maps that they read, shown of a deeper convolution
ANSWERS = 5  # shown of an example


class Network(typing.Protocol):
    """A network of K classes, looked into.

    Attributes:
      class_names: K names.
      layers: the layer table, input to output.
      filters: the convolutions, input to output.
      searched: among how many images those were looked for that excite a filter most.
      examples: images on their way through the network.
      bitmaps: what the answers of a network with a radial basis output are compared with, float [K, height, width].
    """

    class_names: tuple[str, ...]
    layers: "list[Row]"
    filters: list[Filters]
    searched: int
    examples: list[Example]
    bitmaps: np.ndarray | None


def inside(network: Network) -> dict[str, Any]:
    """Returns what `sections.html.jinja` needs besides the network itself, `c`."""
    return {
        "filters": filter_pictures(network.filters[0].kernels, FILTERS) if network.filters else None,
        "deeper": [_deeper(layer) for layer in network.filters[1:]],
        "exciting": [_exciting(layer) for layer in network.filters if layer.exciting],
        "tables": [(layer.name, _read_table(layer)) for layer in network.filters if layer.reads],
        "examples": [_example(network, each) for each in network.examples],
    }


def _deeper(layer):
    """The kernels of a convolution as one picture: a column for each filter, a row for each map that it reads."""
    shown = layer.kernels[:, :, :PLANES, :PLANES]
    limit = float(np.max(np.abs(np.nan_to_num(shown)), initial=0.0))
    height, width, inputs, features = layer.kernels.shape
    return {
        "name": layer.name,
        "picture": figures.mosaic(shown.transpose(2, 3, 0, 1), limit),
        "limit": limit,
        "size": (height, width),
        "inputs": inputs,
        "features": features,
        "shown": shown.shape[2:],
        "width": shown.shape[3] * (width + 1),
    }


def _exciting(layer):
    """For each filter its pieces of images, three by three."""
    pictures = []
    for pieces in layer.exciting:
        side = math.isqrt(len(pieces))
        pictures.append(figures.tiled(pieces[: side * side].reshape(side, side, *pieces.shape[1:])))
    return {"name": layer.name, "pictures": pictures, "count": layer.kernels.shape[-1]}


def _read_table(layer):
    """For each input whether each feature reads it, as in table I of 1998."""
    inputs = layer.kernels.shape[2]
    return [[channel in read for read in layer.reads] for channel in range(inputs)]


def _example(contents, example):
    best = np.argsort(-example.probabilities, kind="stable")[:ANSWERS]
    return {
        "name": example.name,
        "label": example.label,
        "image": example.image,
        "answers": [(contents.class_names[k], float(np.nan_to_num(example.probabilities[k]))) for k in best],
        "evidence": [(what, *_evidence(values)) for what, values in example.evidence.items()],
        "stages": [stage_pictures(stage, CHANNELS) for stage in example.stages],
        "distances": _distances(contents, example),
    }


def _evidence(values):
    limit = float(np.max(np.abs(np.nan_to_num(values)), initial=0.0))
    return figures.signed_picture(values, limit), limit


def _distances(contents, example):
    """The state that is compared as a picture; of each class, its bitmap, the distance to it, and if it is nearest."""
    if example.state is None or example.distances is None or contents.bitmaps is None:
        return None
    height, width = contents.bitmaps.shape[1:]
    state = example.state.reshape(height, width)
    nearest = int(np.argmin(example.distances))
    rows = [
        (name, figures.signed_picture(bitmap, 1.0), float(distance), k == nearest)
        for k, (name, bitmap, distance) in enumerate(zip(contents.class_names, contents.bitmaps, example.distances))
    ]
    return {"state": figures.signed_picture(state, 1.7159), "rows": rows}
