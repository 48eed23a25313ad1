"""What an answer rests on, and what a filter looks for: maps over an image, and the images that excite a filter most.

Images are given as the network sees them, float32 [N, height, width, channels]; `prepare_images` makes them so.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import config
from cnn_jax.layers.activations import Activation
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.normalisation import BatchNorm, LocalResponseNormalization
from cnn_jax.models.network import Layers
from cnn_jax.training.state import Network, Variables
from cnn_jax.training.step import forward, prepare_images

PARTS = 7  # patches along a side, where no window is given: the images of MNIST are covered by 4x4 pixels at a time
BATCH = 64


class Evidence(NamedTuple):
    """What an answer rests on; float32 [height, width] each.

    Attributes:
      occlusion: by how much the log-odds of the class, log(p / (1 - p)), fall where a patch is covered: the mean of the
        patches that cover a pixel (Zeiler and Fergus, 2014, who show p itself, which hardly moves where it is near 1).
      gradient_input: each pixel times the derivative of the class's logit by it, summed over the channels; the sum of
        all is the logit's first-order change from an image of zeros (Shrikumar et al., 2017).
      class_activation: the maps of the last convolution that has more than one pixel, each weighted by the mean
        derivative of the class's logit by it, summed, and cut off below 0; of those maps' size (Grad-CAM: Selvaraju et
        al., 2017). Zeros where there is none.
    """

    occlusion: np.ndarray
    gradient_input: np.ndarray
    class_activation: np.ndarray


def evidence(
    settings: config.Config, network: Network, variables: Variables, image: np.ndarray, label: int, window: int = 0
) -> Evidence:
    """Returns what speaks for a class in an image.

    Args:
      settings: of the network.
      network: without its variables.
      variables: parameters and statistics.
      image: float32 [height, width, channels].
      label: the class, from 0.
      window: side of the covered patches, pixels; they lie half of it apart. 0: a seventh of the image's.
    """
    covered, places = _covered(image, window or max(1, min(image.shape[:2]) // PARTS))
    found = _log_odds(settings, network, variables, np.concatenate([image[None], covered]), label)
    drops, total, count = found[0] - found[1:], np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    for (rows, columns), drop in zip(places, drops):
        total[rows, columns] += drop
        count[rows, columns] += 1
    product, cam = _slopes(settings, network)(variables, image, label)
    return Evidence(*(np.asarray(each, np.float32) for each in (total / count, product, cam)))


def _covered(image, window):
    """Copies of an image, each with a patch of its mean colour, and where the patches are."""
    height, width, _ = image.shape
    starts = lambda size: sorted({*range(0, max(size - window, 0) + 1, max(1, window // 2)), max(size - window, 0)})
    places = [
        (slice(row, row + window), slice(column, column + window)) for row in starts(height) for column in starts(width)
    ]
    copies = np.repeat(image[None], len(places), axis=0)
    for copy, place in zip(copies, places):
        copy[place] = image.mean((0, 1))
    return copies, places


def _log_odds(settings, network, variables, images, label):
    parts = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        filled = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)])  # one program
        parts.append(np.asarray(_odds(settings, network)(variables, filled, label))[: len(part)])
    return np.concatenate(parts)


@functools.lru_cache(8)
def _odds(settings, network):
    def compute(variables, images, label):
        logits = forward(settings, network, variables, images)[0].astype(jnp.float32)
        others = jnp.where(jnp.arange(logits.shape[-1]) == label, -jnp.inf, logits)
        return logits[:, label] - jax.nn.logsumexp(others, axis=-1)

    return jax.jit(compute)


@functools.lru_cache(8)
def _slopes(settings, network):
    """The compiled function of variables, image and label: the gradient times the input, and the class activation."""

    def compute(variables, image, label):
        model = network.model(variables)
        wide = [layer for layer in model.parts() if isinstance(layer, Convolution) and layer.output_shape[:2] != (1, 1)]
        last = [layer.name for layer in wide]
        after = _activated(model, last[-1]) if last else None

        def logit(image):
            return forward(settings, network, variables, image[None])[0][0, label]

        product = jnp.sum(image * jax.grad(logit)(image), axis=-1)
        if after is None:
            return product, jnp.zeros((1, 1))
        maps = model.through(model.from_images(image[None]), None, after)
        slope = jax.grad(lambda maps: model.through(maps, after, None)[0, label])(maps)
        maps, slope = (model.to_images(each)[0] for each in (maps, slope))
        return product, jax.nn.relu(jnp.sum(maps * slope.mean((0, 1)), axis=-1))

    return jax.jit(compute)


def _activated(model: Layers, name: str) -> str:
    """The layer after which the maps of a convolution have been through its activation, and are not pooled yet."""
    names = list(model.names)
    for layer in model.parts()[names.index(name) + 1 :]:
        if not isinstance(layer, Activation | BatchNorm | LocalResponseNormalization):
            break
        name = layer.name
    return name


class Exciting(NamedTuple):
    """The images that excite each filter of a layer most, the most exciting first; [filters, count] each.

    Attributes:
      images: their numbers, int.
      rows: where in the layer's map, int.
      columns: likewise.
      values: of the map there.
    """

    images: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def exciting(
    settings: config.Config,
    network: Network,
    variables: Variables,
    images: np.ndarray,
    layers: Sequence[str],
    count: int,
) -> dict[str, Exciting]:
    """Finds the images in which each filter's map has its largest values; of each image its largest value counts.

    Args:
      settings: of the network.
      network: without its variables.
      variables: parameters and statistics.
      images: uint8 [N, height, width, channels], as stored.
      layers: some that have maps; all are looked at in one pass.
      count: images for each filter, up to N.
    """
    peaks, parts = _peaks(settings, network, tuple(layers)), []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        filled = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)])
        found = jax.device_get(peaks(variables, filled))
        parts.append(jax.tree.map(lambda each, size=len(part): each[:size], found))
    joined = jax.tree.map(lambda *each: np.concatenate(each).T, *parts)  # [filters, N]
    return {layer: _best(*joined[layer], count) for layer in layers}


def _best(values, rows, columns, count):
    """Of arrays [filters, N], those of the images that excite each filter most."""
    best = np.argsort(-values, axis=1, kind="stable")[:, :count]
    pick = lambda array: np.take_along_axis(array, best, axis=1)
    return Exciting(best, pick(rows), pick(columns), pick(values))


@functools.lru_cache(8)
def _peaks(settings, network, layers):
    def peak(maps):
        flat = maps.reshape(len(maps), -1, maps.shape[-1])
        return flat.max(1), *jnp.divmod(flat.argmax(1), maps.shape[2])

    def compute(variables, images):
        maps = forward(settings, network, variables, prepare_images(settings, images))[1]
        return {layer: peak(maps[layer]) for layer in layers}

    return jax.jit(compute)


def window_of(model: Layers, name: str) -> tuple[int, int, int] | None:
    """Returns the window of the image that one number of a layer's map depends on, a square.

    Args:
      model: the network.
      name: of the layer.

    Returns:
      Its side; the distance between the windows of neighbours; where the first one begins, at or left of 0. None where
      a layer on the way has no one window, or another height than width.
    """
    side, apart, start = 1, 1, 0
    for layer in model.parts():
        placed = getattr(layer, "geometry", None)
        if placed is None and tuple(layer.input_shape[:2]) != tuple(layer.output_shape[:2]):
            return None
        if placed is not None:
            (rows, columns), (down, across), ((top, _), (left, _)) = placed.window, placed.stride, placed.pads
            whole = placed.output_size == tuple(layer.output_shape[:2])
            if not whole or (rows, down, top) != (columns, across, left):
                return None
            side, start, apart = side + (rows - 1) * apart, start - top * apart, apart * down
        if layer.name == name:
            return side, apart, start
    return None
