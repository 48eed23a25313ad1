"""The table of layers: output shapes, parameters, multiply-adds. Counted from shapes, the same on every device."""

import dataclasses
import math

import jax
from flax import nnx

from cnn_jax.models.network import Layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One layer, or the images that the first one reads.

    Attributes:
      name: the layer's name.
      kind: what it does, in words.
      output: height, width, channels, or (units,).
      parameters: trainable numbers.
      multiply_adds: of one image; bias, pooling, normalisation and activation not counted.
      statistics: numbers that are not trained: running means and variances of batch normalisation.
      sizes: of convolutions and poolings, the sum that gives the output's side; see `Placed.arithmetic`.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    statistics: int = 0
    sizes: str = ""


def summarise(model: Layers) -> list[Row]:
    """Returns one row for the images, and one for each layer, in order."""
    layers = model.parts()
    images = Row(name="input", kind="images", output=layers[0].input_shape, parameters=0, multiply_adds=0)
    return [images] + [
        Row(
            name=layer.name,
            kind=layer.describe(),
            output=tuple(layer.output_shape),
            parameters=_numbers(layer, nnx.Param),
            multiply_adds=layer.multiply_adds,
            statistics=_numbers(layer, nnx.BatchStat),
            sizes=_sizes(layer),
        )
        for layer in layers
    ]


def _sizes(layer):
    placed = getattr(layer, "geometry", None)
    # A pooling of several steps has no one sum.
    return placed.arithmetic() if placed and placed.output_size == tuple(layer.output_shape[:2]) else ""


def _numbers(layer, kind):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(layer, kind)))


def sizes(rows: list[Row]) -> str:
    """Returns the sums that give the sides of maps, a line each; "" where there are none."""
    found = {row.name: row.sizes for row in rows if row.sizes}
    width = max(map(len, found), default=0)
    return "\n".join(f"{name:<{width}}  {line}" for name, line in found.items())


def table(rows: list[Row]) -> str:
    """Returns the rows and their totals as plain text; a column of statistics where there are any."""
    counts = ["parameters", *["statistics"] * any(row.statistics for row in rows), "multiply_adds"]
    heads = ["layer", "kind", "output", *(count.replace("_", "-") for count in counts)]
    numbers = [[getattr(row, count) for count in counts] for row in rows]
    words = [[row.name, row.kind, "x".join(map(str, row.output))] for row in rows]
    cells = [[*left, *(f"{number:,}" for number in right)] for left, right in zip(words, numbers)]
    totals = ["total", "", "", *(f"{sum(column):,}" for column in zip(*numbers))]
    widths = [max(map(len, column)) for column in zip(heads, *cells, totals)]
    rule = "  ".join("-" * width for width in widths)
    lines = [_line(heads, widths), rule, *(_line(line, widths) for line in cells), rule, _line(totals, widths)]
    return "\n".join(lines)


def _line(cells, widths):
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:])]
    return "  ".join(left + right).rstrip()
