"""Weights and batches from NumPy seeds: what the golden values, and the tests against them, begin with.

Needs NumPy alone, so that the scripts run where PyTorch or Keras is installed and JAX is not.
"""

import json
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent
CLASSES = 10


def generator(seed: int) -> np.random.Generator:
    """Philox, the same numbers on every machine and with every version of NumPy."""
    return np.random.Generator(np.random.Philox(seed))


def weights(shapes: dict, seed: int) -> dict:
    """Float32 arrays by name: of two axes and more N(0, 1 / fan-in), else uniform in [-0.1, 0.1].

    So drawn, the logits are of the order of 1 and a few steps of training do not blow rounding errors up.

    Args:
      shapes: by name; the last axis of each is the outputs'.
      seed: of the generator.
    """
    draw, made = generator(seed), {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            scale = np.float32(np.sqrt(1 / np.prod(shape[:-1])))
            made[name] = draw.standard_normal(shape, np.float32) * scale
        else:
            made[name] = draw.uniform(-0.1, 0.1, shape).astype(np.float32)
    return made


def batches(steps: int, size: int, shape: tuple, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [steps, size, *shape] and int32 labels [steps, size].

    An image is noise about a grey that grows with its label, so that there is something to learn; grey all in all.
    """
    draw = generator(seed)
    labels = draw.integers(0, CLASSES, (steps, size), np.int32)
    noise = draw.integers(0, 192, (steps, size, *shape), np.uint8)
    return noise + (7 * labels).astype(np.uint8).reshape(steps, size, *[1] * len(shape)), labels


def centred(images: np.ndarray) -> np.ndarray:
    """uint8 images as the networks see them: float32 in [-1, 1]."""
    return images.astype(np.float32) / np.float32(127.5) - 1


def save(name: str, values: dict) -> None:
    """Writes golden values beside this file."""
    (FOLDER / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")


def saved(name: str) -> dict:
    """Golden values written by `save`."""
    return json.loads((FOLDER / f"{name}.json").read_text())
