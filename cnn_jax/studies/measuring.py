"""What a study measures besides accuracy: by name, of a group of seeds, stored as arrays."""

import dataclasses
from pathlib import Path

import numpy as np

from cnn_jax.config.study import Study
from cnn_jax.data.datasets import red_green
from cnn_jax.data.datasets.source import Dataset
from cnn_jax.layers.windows import Geometry
from cnn_jax.studies import feature_maps, measurements
from cnn_jax.training.learner import Learner

MAPPED_IMAGES = 64  # that measurements of feature maps use
REACH = 4  # pixels, at most; an eighth of the side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swapped:
    """Accuracy on red_green with the squares where the other class had them in training.

    Attributes:
      accuracy: [seeds].
      images: how many images were used.
    """

    accuracy: np.ndarray
    images: int

    @property
    def protocol(self) -> str:
        """One sentence."""
        return f"{self.images} images of the test, their squares moved to the rows where the other class has them."


KINDS = {
    "consistency": measurements.Consistency,
    "circular": measurements.Consistency,
    "shift_map": measurements.ShiftMap,
    "border": measurements.BorderDistance,
    "equivariance": feature_maps.Equivariance,
    "edges": feature_maps.EdgeActivation,
    "position": feature_maps.PositionLeak,
    "swapped": Swapped,
}

# The figures of each measurement that stand in tables: one number for each seed.
FIGURES = {
    "consistency": {"consistency": "agreement", "stability": "stability", "shifted_accuracy": "accuracy"},
    "circular": {"circular_consistency": "agreement", "circular_stability": "stability"},
    "shift_map": {"changed_by_a_pixel": "changed", "jaggedness": "jaggedness", "diagonal_sd": "diagonal_sd"},
    "border": {"accuracy_at_border": "accuracy"},
    "position": {"position_spearman": "spearman", "position_error": "error"},
    "swapped": {"swapped_accuracy": "accuracy"},
}


def measure(study: Study, learner: Learner, predict, maps, test: Dataset) -> dict:
    """The measurements that a study asks for, by name.

    Args:
      study: the study.
      learner: the networks.
      predict: images to probabilities, [seeds, N, classes].
      maps: images to maps by layer, [seeds, N, height, width, channels].
      test: the test split.
    """
    kept = slice(study.study.images or None)
    images, labels = np.asarray(test.images[kept]), test.labels[kept]
    few = images[:MAPPED_IMAGES]
    reach = max(1, min(REACH, images.shape[1] // 8))
    strides = cumulative_strides(learner, maps(few[:1]))

    def one(name):
        match name:
            case "consistency" | "circular":
                return measurements.consistency(predict, images, labels, reach, circular=name == "circular")
            case "shift_map":
                return measurements.shift_map(predict, images, labels, reach)
            case "border":
                return measurements.border_distance(predict, images, labels, reach)
            case "equivariance":
                return feature_maps.equivariance(maps, few, strides)
            case "edges":
                return feature_maps.edge_activation(maps, few)
            case "position":
                return feature_maps.position_leak(maps, few, list(strides)[-1])
            case "swapped":
                moved, wanted = red_green.images("test", len(images), swapped=True)
                answers = predict(moved)
                finite = np.where(np.isfinite(answers).all((1, 2)), 1.0, np.nan)
                return Swapped(accuracy=finite * (answers.argmax(-1) == wanted).mean(-1), images=len(images))

    return {name: one(name) for name in study.study.measurements}


def cumulative_strides(learner: Learner, maps: dict) -> dict[str, int]:
    """For each layer with maps that are large enough to be moved: the product of its own and all earlier strides.

    It ends where a layer has no stride, as fractional pooling.
    """
    strides, product = {}, 1
    for layer in learner.model.parts():
        if layer.name not in maps:
            continue
        stride = _stride(layer)
        if stride is None:
            break
        product *= stride
        if min(layer.output_shape[:2]) > 2:
            strides[layer.name] = product
    return strides


def _stride(layer):
    """By which the layer's maps are smaller than its input; None where that is no whole number of pixels."""
    if not isinstance(getattr(layer, "geometry", None), Geometry):
        return 1  # normalisation
    if not getattr(layer, "stride_1_windows", False):
        return layer.geometry.stride[0]
    ratio = layer.input_shape[0] / layer.output_shape[0]  # windows lie at every pixel, and are sampled afterwards
    return round(ratio) if abs(ratio - round(ratio)) < 0.2 else None


def joined(groups: list[dict]) -> dict:
    """The measurements of several groups of seeds as those of one."""
    return {name: _joined([group[name] for group in groups]) for name in groups[0]}


def _joined(parts):
    def put(values):
        if isinstance(values[0], dict):
            return {key: put([value[key] for value in values]) for key in values[0]}
        return np.concatenate(values) if isinstance(values[0], np.ndarray) else values[0]

    fields = [field.name for field in dataclasses.fields(parts[0])]
    return type(parts[0])(**{name: put([getattr(part, name) for part in parts]) for name in fields})


def store(path: Path, found: dict) -> None:
    """Writes measurements as arrays named MEASUREMENT/FIELD or MEASUREMENT/FIELD/LAYER."""
    arrays = {}
    for name, result in found.items():
        for field in dataclasses.fields(result):
            value = getattr(result, field.name)
            parts = value if isinstance(value, dict) else {"": value}
            arrays |= {"/".join(filter(None, (name, field.name, key))): part for key, part in parts.items()}
    np.savez_compressed(path, **{name: np.asarray(value) for name, value in arrays.items()})


def load(path: Path) -> dict:
    """What `store` wrote."""
    fields: dict = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            name, field, *layer = key.split("/", 2)
            value = arrays[key] if arrays[key].ndim else arrays[key].item()
            held = fields.setdefault(name, {})
            if layer:
                held.setdefault(field, {})[layer[0]] = value
            else:
                held[field] = value
    return {name: KINDS[name](**values) for name, values in fields.items()}


def figures(found: dict) -> dict[str, np.ndarray]:
    """The numbers for tables: [seeds] each, by column."""
    columns = {}
    for name, result in found.items():
        for column, field in FIGURES.get(name, {}).items():
            values = getattr(result, field)
            columns[column] = values if values.ndim == 1 else values[:, 0]
    return columns
