"""The table of layers: output shapes, parameters, multiply-adds. Counted from shapes, the same on every device."""

import dataclasses
import math

import jax
from flax import nnx


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One layer.

    Attributes:
      name: the layer's name.
      kind: what it does, in words.
      output: height, width, channels, or (units,).
      parameters: trainable numbers.
      multiply_adds: of one image; bias, pooling and activation not counted.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def summarise(model: nnx.Module) -> list[Row]:
    """One row per layer, in order."""
    return [
        Row(
            name=layer.name,
            kind=layer.describe(),
            output=tuple(layer.output_shape),
            parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))),
            multiply_adds=layer.multiply_adds,
        )
        for layer in model.parts()
    ]


def table(rows: list[Row]) -> str:
    """The rows and their totals as plain text."""
    heads = ("layer", "kind", "output", "parameters", "multiply-adds")
    cells = [
        (row.name, row.kind, "x".join(map(str, row.output)), f"{row.parameters:,}", f"{row.multiply_adds:,}")
        for row in rows
    ]
    totals = ("total", "", "", f"{sum(r.parameters for r in rows):,}", f"{sum(r.multiply_adds for r in rows):,}")
    widths = [max(len(line[column]) for line in [heads, *cells, totals]) for column in range(5)]
    rule = "  ".join("-" * width for width in widths)
    lines = [_line(heads, widths), rule, *(_line(line, widths) for line in cells), rule, _line(totals, widths)]
    return "\n".join(lines)


def _line(cells, widths):
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:])]
    return "  ".join(left + right).rstrip()
