"""The arithmetic of one number of a layer: what it reads, by what each number is multiplied, and what comes of it."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn_jax.layers.activations import ACTIVATIONS, Activation
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.dense import Dense, RadialBasis, digit_bitmaps
from cnn_jax.layers.layer import Layer
from cnn_jax.layers.normalisation import BatchNorm, LocalResponseNormalization
from cnn_jax.layers.pooling import basic
from cnn_jax.layers.pooling.base import Pooling

# Of the poolings whose number is a function of the window alone: the function in words.
POOLED = {basic.MaxPool: "max", basic.MinPool: "min", basic.AveragePool: "mean"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """A window of one map that a number reads, or numbers of a vector.

    Attributes:
      channel: of the map, from 0.
      values: float [height, width]; NaN where nothing is read, beyond an edge that is left out.
      weights: by which they are multiplied, float [height, width]; None: they are not.
    """

    channel: int
    values: np.ndarray
    weights: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """One number of a layer.

    Attributes:
      value: the number, after the activation.
      inputs: what it reads.
      window: row, column, height and width of the window on the map before; None: it reads everything.
      lines: how the number comes about, with the numbers filled in.
    """

    value: float
    inputs: list[Input]
    window: tuple[int, int, int, int] | None
    lines: list[str]


def explain(
    layer: Layer,
    params: dict,
    stats: dict,
    x: np.ndarray,
    y: np.ndarray,
    place: tuple[int, ...],
    after: Activation | None,
) -> Unit:
    """Explains one number.

    Args:
      layer: that puts it out.
      params: its parameters, by name.
      stats: its statistics.
      x: what it reads, float [height, width, channels] or [units].
      y: what it puts out, likewise.
      place: row, column and channel of the number, or (unit,).
      after: the activation that follows; None: none does.
    """
    found = float(y[place])
    inputs, window, lines = _reading(layer, params, stats, np.asarray(x, np.float32), place, found)
    value = found
    if after is not None:
        value = float(ACTIVATIONS[after.kind](np.float32(found)))
        lines.append(f"{after.describe()} of {found:.4g} = {value:.4g}")
    return Unit(value=value, inputs=inputs, window=window, lines=lines)


def _reading(layer, params, stats, x, place, found) -> tuple[list[Input], Any, list[str]]:
    if isinstance(layer, Convolution):
        return _convolution(layer, params, x, place, found)
    if isinstance(layer, Pooling):
        return _pooling(layer, params, x, place, found)
    if isinstance(layer, BatchNorm):
        return _batch_norm(layer, params, stats, x, place, found)
    if isinstance(layer, LocalResponseNormalization):
        return _local_response(layer, x, place, found)
    if isinstance(layer, Dense):
        return _dense(params, x, place, found)
    if isinstance(layer, RadialBasis):
        return _radial_basis(x, place, found)
    return [], None, [f"{layer.describe()}: {found:.4g}"]


def _window(layer, place):
    """The window of a number on the map before, and the same on the padded map."""
    placed = layer.geometry
    (down, across), (high, wide) = placed.stride, placed.window
    row, column = place[0] * down, place[1] * across
    (top, _), (left, _) = placed.pads
    return (row - top, column - left, high, wide), (slice(row, row + high), slice(column, column + wide))


def _padded(layer, x, fill, value=0.0):
    placed = dataclasses.replace(layer.geometry, layout="NHWC")
    return np.asarray(placed.pad(jnp.asarray(x[None]), fill, value))[0]


def _convolution(layer, params, x, place, found):
    window, (rows, columns) = _window(layer, place)
    values = _padded(layer, x, layer.fill)[rows, columns]
    feature, kernel = place[2], np.asarray(params["kernel"], np.float32)
    if layer.connections is not None:
        before = sum(map(len, layer.connections[:feature]))
        reads = list(layer.connections[feature])
        weights = kernel[:, :, before : before + len(reads)]
    else:
        each = layer.input_shape[2] // layer.groups
        group = feature // (layer.output_shape[2] // layer.groups)
        reads, weights = list(range(group * each, (group + 1) * each)), kernel[:, :, :, feature]
    inputs = [
        Input(channel=channel, values=values[:, :, channel], weights=weights[:, :, i])
        for i, channel in enumerate(reads)
    ]
    total = float(sum(np.sum(each.values * each.weights) for each in inputs))
    count = f"{weights.size} products" + f", of {len(reads)} maps" * (len(reads) > 1)
    lines = [f"sum of {count}: {_products(inputs)} = {total:.4g}"]
    if layer.fill == "partial":
        inside = float(layer.geometry.inside[place[0], place[1]])
        area = window[2] * window[3]
        if inside != area:
            lines.append(f"times {area} / {inside:.0f}, for the part of the window that lies inside")
    if "bias" in params:
        bias = float(np.asarray(params["bias"])[feature])
        lines.append(f"plus the bias {bias:.4g} = {found:.4g}")
    return inputs, window, lines


def _products(inputs):
    """The first products of a sum, written out."""
    first = inputs[0]
    pairs = list(zip(first.values.ravel(), first.weights.ravel()))
    written = " + ".join(f"{_factor(value)} · {_factor(weight)}" for value, weight in pairs[:3])
    return written + " + …" * (len(pairs) > 3 or len(inputs) > 1)


def _factor(value):
    return f"{value:.3g}" if value >= 0 else f"({value:.3g})"


def _pooling(layer, params, x, place, found):
    whole = layer.geometry.output_size == tuple(layer.output_shape[:2]) and len(place) == 3
    if not whole:
        return [], None, [f"{layer.describe()}: {found:.4g}"]
    window, (rows, columns) = _window(layer, place)
    channel = place[2]
    left_out = type(layer) in POOLED and not getattr(layer, "count_padding", False)
    values = _padded(layer, x, "zero", np.nan if left_out else 0.0)[rows, columns, channel]
    inputs = [Input(channel=channel, values=values)]
    read = values[~np.isnan(values)]
    listed = ", ".join(f"{value:.3g}" for value in read[:16]) + ", …" * (len(read) > 16)
    if type(layer) in POOLED:
        plain = found / layer.times
        lines = [f"{POOLED[type(layer)]}({listed}) = {plain:.4g}"]
    elif isinstance(layer, basic.Subsample):
        coefficient, bias = (float(np.asarray(params[name])[channel]) for name in ("coefficient", "bias"))
        lines = [
            f"sum({listed}) = {read.sum():.4g}",
            f"times {coefficient:.4g}, plus {bias:.4g} = {found / layer.times:.4g}",
        ]
    else:
        lines = [f"{layer.title} of {listed} = {found / layer.times:.4g}"]
    if layer.times != 1:
        lines.append(f"times {layer.times:g} = {found:.4g}")
    return inputs, window, lines


def _one(x, place):
    value = np.asarray([[x[place]]], np.float32)
    window = (place[0], place[1], 1, 1) if len(place) == 3 else None
    return [Input(channel=place[-1], values=value)], window, float(x[place])


def _batch_norm(layer, params, stats, x, place, found):
    inputs, window, value = _one(x, place)
    mean, var = (float(np.asarray(stats[name])[place[-1]]) for name in ("mean", "var"))
    scale, bias = (float(np.asarray(params[name])[place[-1]]) for name in ("scale", "bias"))
    lines = [
        f"({value:.4g} - {mean:.4g}) / sqrt({var:.4g} + {layer.epsilon:g}) "
        f"= {(value - mean) / np.sqrt(var + layer.epsilon):.4g}",
        f"times {scale:.4g}, plus {bias:.4g} = {found:.4g}",
    ]
    return inputs, window, lines


def _local_response(layer, x, place, found):
    channel, reach = place[2], layer.size // 2
    near = range(max(0, channel - reach), min(x.shape[2], channel + reach + 1))
    inputs = [Input(channel=each, values=x[None, None, place[0], place[1], each]) for each in near]
    squares = float(sum(np.sum(each.values**2) for each in inputs))
    lines = [
        f"sum of the squares of {len(near)} channels = {squares:.4g}",
        f"{x[place]:.4g} / ({layer.k:g} + {layer.alpha:g} · {squares:.4g})^{layer.beta:g} = {found:.4g}",
    ]
    return inputs, (place[0], place[1], 1, 1), lines


def _dense(params, x, place, found):
    values = x.reshape(1, -1)
    weights = np.asarray(params["kernel"], np.float32)[:, place[0]].reshape(1, -1)
    bias = float(np.asarray(params["bias"])[place[0]])
    total = float(np.sum(values * weights))
    inputs = [Input(channel=0, values=values, weights=weights)]
    lines = [
        f"sum of {values.size:,} products: {_products(inputs)} = {total:.4g}",
        f"plus the bias {bias:.4g} = {found:.4g}",
    ]
    return inputs, None, lines


def _radial_basis(x, place, found):
    bitmap = digit_bitmaps()[place[0]]
    inputs = [Input(channel=0, values=x.reshape(12, 7), weights=bitmap.reshape(12, 7))]
    lines = [
        f"sum of 84 squares of what is drawn less the bitmap of {place[0]} = {-found:.4g}",
        f"negated: {found:.4g}",
    ]
    return inputs, None, lines
