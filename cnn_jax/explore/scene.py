"""One network or two, as the live page asks about them: an image's way through the layers, and single numbers of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn_jax import api, config
from cnn_jax.config.sizes import by
from cnn_jax.data.datasets import source
from cnn_jax.data.images import pictures
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.errors import UsageError, UserError
from cnn_jax.explore import units
from cnn_jax.layers.activations import Activation
from cnn_jax.layers.dense import Dropout, Flatten
from cnn_jax.layers.layer import Layer

CHANNELS = 64  # maps of a layer that are sent; AlexNet's later layers have up to 384


class Stage(NamedTuple):
    """A layer that is shown, and the activation that follows it.

    Attributes:
      layer: the layer.
      before: name of the part whose output it reads; None: the image.
      after: the activation; None: none follows.
    """

    layer: Layer
    before: str | None
    after: Activation | None

    @property
    def shown(self) -> str:
        """Name of the part whose output is shown."""
        return self.after.name if self.after else self.layer.name


class Actor:
    """A network on the page.

    Attributes:
      name: of it, on the page.
      network: the network.
      stages: its layers, from input to output.
    """

    def __init__(self, name: str, network: api.Network):
        self.name = name
        self.network = network
        self.stages = _stages(network.model.parts())
        self._variables = jax.device_get(network.variables)

    def look(self, pixels: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Follows an image through the network.

        Args:
          pixels: uint8 [height, width, channels], as stored.

        Returns:
          The image as the first layer reads it, float32 [height, width, channels]; and by name what each part puts
          out, float32 [height, width, channels] or [units].
        """
        images, parts = self.network.trace(pixels[None])
        return images[0], {name: value[0] for name, value in parts.items()}

    def unit(self, pixels: np.ndarray, name: str, place: tuple[int, ...]) -> units.Unit:
        """Explains one number of a layer.

        Args:
          pixels: uint8 [height, width, channels], as stored.
          name: of the layer.
          place: row, column and channel, or (unit,).

        Raises:
          UsageError: there is no such layer or number.
        """
        stage = next((stage for stage in self.stages if stage.layer.name == name), None)
        if stage is None:
            raise UsageError(f"there is no layer {name!r}")
        image, parts = self.look(pixels)
        x, y = image if stage.before is None else parts[stage.before], parts[name]
        if len(place) != y.ndim or not all(0 <= each < side for each, side in zip(place, y.shape)):
            raise UsageError(f"{name} has no number {place}: its output is {y.shape}")
        params, stats = (group.get(name, {}) for group in (self._variables.params, self._variables.batch_stats))
        return units.explain(stage.layer, params, stats, x, y, place, stage.after)


def _stages(parts):
    stages, before = [], None
    for layer, following in zip(parts, [*parts[1:], None]):
        if not isinstance(layer, Activation | Flatten | Dropout):
            after = following if isinstance(following, Activation) else None
            stages.append(Stage(layer, before, after))
        before = layer.name
    return stages


class Scene:
    """All that the page shows.

    Args:
      networks: one or two, by the names that the page gives them; with the same stored images and classes.

    Raises:
      UsageError: there are more, or they do not go together.
    """

    def __init__(self, networks: Mapping[str, api.Network]):
        if len(networks) not in (1, 2):
            raise UsageError(f"the live page shows one network or two, not {len(networks)}")
        first, *rest = networks.values()
        for other in rest:
            if other.facts.shape != first.facts.shape or other.class_names != first.class_names:
                raise UsageError(
                    f"{' and '.join(networks)} cannot be shown side by side: they have images of "
                    f"{by(first.facts.shape)} and {by(other.facts.shape)}, or other classes"
                )
        self.actors = [Actor(name, network) for name, network in networks.items()]
        self.shape = first.facts.shape
        self.class_names = first.class_names
        self._first = first
        self.examples, self.examples_are = _examples(first.settings, self.shape, self.class_names)
        for actor in self.actors:  # compiled before the first stroke
            actor.look(np.zeros(self.shape, np.uint8))

    def describe(self) -> dict[str, Any]:
        """Returns what the page is made from: images, classes, and the layers of each network."""
        return {
            "shape": self.shape,
            "classes": self.class_names,
            "examples": 0 if self.examples is None else len(self.examples.labels),
            "examples_are": self.examples_are,
            "networks": [_described(actor) for actor in self.actors],
        }

    def example(self, number: int) -> tuple[np.ndarray, str]:
        """Returns a test image, uint8 [height, width, channels], and its label in words.

        Raises:
          UsageError: there is none of this number.
        """
        if self.examples is None or not 0 <= number < len(self.examples.labels):
            raise UsageError(f"there is no test image {number}")
        return self.examples.images[number], self.class_names[self.examples.labels[number]]

    def picture(self, path: str) -> np.ndarray:
        """Returns the picture in a file as the network's images are stored, uint8 [height, width, channels].

        Raises:
          UserError: it cannot be read.
        """
        reading, drawn = source.reading(self._first.settings.data, self._first.facts)
        return pictures.read_picture(path, self.shape, reading, drawn).pixels

    def pixels(self, data: bytes) -> np.ndarray:
        """Returns the image uint8 [height, width, channels] that the page has sent.

        Raises:
          UsageError: it has another size.
        """
        if len(data) != int(np.prod(self.shape)):
            raise UsageError(f"an image of {by(self.shape)} has {np.prod(self.shape)} bytes, not {len(data)}")
        return np.frombuffer(data, np.uint8).reshape(self.shape)


def _described(actor):
    rows = {row.name: row for row in actor.network.layers}
    layers = []
    for stage in actor.stages:
        row = rows[stage.layer.name]
        layers.append(
            {
                "name": row.name,
                "kind": row.kind,
                "activation": stage.after.describe() if stage.after else "",
                "shape": row.output,
                "parameters": row.parameters,
                "sizes": row.sizes,
            }
        )
    about = actor.network.about
    measured = f", {100 * about.test['accuracy']:.2f} % of its test images right" if about.test else ""
    return {
        "name": actor.name,
        "experiment": actor.network.settings.experiment,
        "about": about.rule + measured,
        "input": actor.network.image_shape,
        "layers": layers,
        "parameters": sum(row.parameters for row in rows.values()),
    }


def _examples(settings: config.Config, shape, class_names) -> tuple[Dataset | None, str]:
    """The test images of the data, where they lie ready; else scikit-learn's digits, for those who know digits."""
    if source.of(settings.data).is_prepared():
        try:
            return api.dataset(settings, "test"), f"test images of {settings.data.name}"
        except UserError:
            pass  # they were moved or damaged; one can draw all the same
    digits = dataclasses.replace(settings.data, kind=config.Data.of(name="digits").kind, validation=0, limit=0)
    known = source.facts(digits)
    if known.shape == shape and known.class_names == class_names:
        return api.dataset(dataclasses.replace(settings, data=digits), "test"), "test images of scikit-learn's digits"
    return None, ""
