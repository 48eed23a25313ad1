"""Looks into a network: its filters, what excites them, and images on their way through it."""

from typing import NamedTuple

import numpy as np

from cnn_jax import attribution
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.errors import UsageError
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.dense import RadialBasis, digit_bitmaps
from cnn_jax.layers.pooling.base import Pooling
from cnn_jax.reports.parts import Example, Filters, Stage
from cnn_jax.run import as_seen
from cnn_jax.training.learner import Learner
from cnn_jax.training.state import Variables
from cnn_jax.training.step import prepare_images

SEARCHED = 1000  # images among which those are looked for that excite a filter most
EXCITING = 9  # of them shown for each filter
FILTERS = 16  # of a layer, whose images are shown
PIECE = 32  # pixels along the side of a piece of an image, at most


class Followed(NamedTuple):
    """An image to follow through the network.

    Attributes:
      name: in words.
      label: its class; "" where nobody has said it.
      image: uint8 [height, width, channels], as stored.
    """

    name: str
    label: str
    image: np.ndarray


def of_split(dataset: Dataset, number: int) -> Followed:
    """Returns an image of a split, to be followed through the network.

    Raises:
      UsageError: there are not so many.
    """
    if number >= len(dataset.labels):
        raise UsageError(
            f"--images={number}: the {dataset.split} images are numbered from 0 to {len(dataset.labels) - 1}"
        )
    label = dataset.class_names[dataset.labels[number]]
    return Followed(f"{dataset.split} image {number}", label, dataset.images[number])


def example(learner: Learner, variables: Variables, followed: Followed) -> Example:
    """Follows an image through a network.

    Args:
      learner: the network.
      variables: of one network, on this process.
      followed: the image.
    """
    model = learner.model
    image = np.asarray(followed.image)[None]
    maps, logits, state = learner.look(variables, image)
    names, probabilities = learner.facts.class_names, np.exp(logits - logits.max())
    answer = int(logits.argmax())
    label = names.index(followed.label) if followed.label in names else answer
    found = attribution.evidence(
        learner.settings, learner.network, variables, np.asarray(prepare_images(learner.settings, image))[0], label
    )
    about = {"occlusion": found.occlusion, "gradient times input": found.gradient_input}
    if found.class_activation.any():
        about["class activation"] = found.class_activation
    compared = bitmaps(learner) is not None
    return Example(
        name=followed.name,
        label=followed.label,
        image=as_seen(learner.settings, image)[0],
        probabilities=probabilities / probabilities.sum(),
        stages=_stages(model, maps),
        evidence=about,
        state=state if compared else None,
        distances=-logits if compared else None,
    )


def filters(learner: Learner, variables: Variables, images: np.ndarray) -> list[Filters]:
    """Returns the convolutions of a network, with pieces of images, as it sees them, that excite their filters most.

    Args:
      learner: the network.
      variables: of one network, on this process.
      images: uint8 [N, height, width, channels], as stored; N = 0: nothing is looked for.
    """
    model, found = learner.model, []
    convolutions = [layer for layer in model.parts() if isinstance(layer, Convolution)]
    names = [layer.name for layer in convolutions]
    excited = {}
    if len(images) and names:
        excited = attribution.exciting(learner.settings, learner.network, variables, images, names, EXCITING)
    for layer in convolutions:
        kernels = np.asarray(variables.params[layer.name]["kernel"], np.float32)
        if layer.connections is not None:
            kernels = _spread(kernels, layer.connections, layer.input_shape[2])
        pieces = []
        if layer.name in excited:
            best = excited[layer.name]
            window = attribution.window_of(model, layer.name)
            pieces = [
                _pieces(as_seen(learner.settings, images[best.images[k]]), best.rows[k], best.columns[k], window)
                for k in range(min(kernels.shape[-1], FILTERS))
            ]
        found.append(Filters(name=layer.name, kernels=kernels, reads=layer.connections, exciting=pieces))
    return found


def bitmaps(learner: Learner) -> np.ndarray | None:
    """Returns what the answers of a network with a radial basis output are compared with, float [K, height, width]."""
    return digit_bitmaps().reshape(-1, 12, 7) if isinstance(learner.model.parts()[-1], RadialBasis) else None


def _spread(kernels, connections, inputs):
    """Kernels [height, width, pairs] of a table as [height, width, inputs, features], 0 where nothing is read."""
    whole = np.zeros((*kernels.shape[:2], inputs, len(connections)), np.float32)
    pairs = [(channel, feature) for feature, read in enumerate(connections) for channel in read]
    for place, (channel, feature) in enumerate(pairs):
        whole[:, :, channel, feature] = kernels[:, :, place]
    return whole


def _pieces(images, rows, columns, window):
    """What a filter sees of each image, black beyond the edges, and no larger than `PIECE` pixels."""
    if window is None:
        found = images
    else:
        side, apart, start = window
        around = np.pad(images, ((0, 0), (side, side), (side, side), (0, 0)))
        corners = [(side + start + apart * row, side + start + apart * column) for row, column in zip(rows, columns)]
        found = np.stack([each[y : y + side, x : x + side] for each, (y, x) in zip(around, corners)])
    step = -(-found.shape[1] // PIECE)
    return found[:, ::step, ::step]


def _stages(model, maps):
    """Every layer with maps, each with the pooling that follows it."""
    parts = [layer for layer in model.parts() if layer.name in maps]
    stages = []
    for layer, after in zip(parts, [*parts[1:], None]):
        if isinstance(layer, Pooling):
            continue
        if isinstance(after, Pooling):
            pooled = {"pooling": after.describe(), "pooled": maps[after.name]}
        else:
            pooled = {}
        stages.append(Stage(name=layer.name, maps=maps[layer.name], **pooled))
    return stages
