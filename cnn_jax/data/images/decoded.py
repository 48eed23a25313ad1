"""Prepared TFDS data as arrays: decoded once, then memory-mapped from .npy files beside it.

    <folder>/dataset_info.json, <name>-<split>.array_record-*    written by TFDS
    <folder>/decoded/<split>_images.npy, <split>_labels.npy      the same examples, decoded, in stored order
    <folder>/decoded/<split>.json                                what they were decoded from

The cache is trusted only while it fits what it was decoded from; otherwise it is made anew. Where the folder is
read-only the arrays simply stay in memory. With a sound cache neither TFDS nor Pillow is imported.
"""

import contextlib
import json
from pathlib import Path

import numpy as np

from cnn_jax import files
from cnn_jax.data.facts import Facts
from cnn_jax.data.images import records
from cnn_jax.errors import UserError


def read(folder: Path, name: str, split: str, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """A stored split, decoded.

    Args:
      folder: <data_dir>/<name>/<version>.
      name: the dataset's name.
      split: stored split, such as "train".
      facts: the dataset's fixed properties.

    Returns:
      (images, labels): uint8 [N, H, W, C] and int32 [N], read-only, in stored order.

    Raises:
      UserError: the prepared dataset is damaged.
    """
    with damage_reported(folder, split):
        origin = records.describe(folder, name, split)
        cached = _read_cache(folder / "decoded", split, origin, facts)
        if cached is None:
            cached = _decode(folder, name, split, facts)
            _write_cache(folder / "decoded", split, origin, *cached)
    for array in cached:
        array.flags.writeable = False
    return cached


@contextlib.contextmanager
def damage_reported(folder: Path, split: str):
    """Turns what damaged files raise into one message."""
    try:
        yield
    # RuntimeError: ArrayRecord; ValueError: JSON, TFDS, this package; OSError: files; KeyError: missing entries.
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise UserError(
            f"the prepared dataset in {folder} is damaged: cannot read its {split} split ({error}). "
            "Delete that folder and prepare it again with --mode=prepare"
        ) from error


def _decode(folder, name, split, facts):
    from cnn_jax.data.images import decode  # Pillow, only where there is no cache yet

    examples = records.Records(folder, name, split)
    images = np.empty((len(examples), *facts.shape), np.uint8)
    labels = np.empty(len(examples), np.int32)
    for row, example in enumerate(examples):
        try:
            images[row] = decode.exact(example["image"], facts.shape, f"example {row} of {len(examples)}")
        except decode.Unreadable as error:
            raise ValueError(str(error)) from error
        labels[row] = example["label"]
    if not len(labels) or labels.min() < 0 or labels.max() >= facts.classes:
        raise ValueError(f"{len(labels)} examples found; labels from 0 to {facts.classes - 1} expected")
    return images, labels


def _read_cache(cache, split, origin, facts):
    """The cached arrays, or None where there are none that fit."""
    try:
        if json.loads((cache / f"{split}.json").read_text()) != origin:
            return None
        images = np.lib.format.open_memmap(cache / f"{split}_images.npy", mode="r")
        labels = np.load(cache / f"{split}_labels.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = images.shape == (origin["examples"], *facts.shape) and labels.shape == images.shape[:1]
    fits = fits and images.dtype == np.uint8 and labels.dtype == np.int32
    # A plain array over the mapping: np.memmap's own class makes every slice slower.
    return (np.asarray(images), labels) if fits else None


def _write_cache(cache, split, origin, images, labels):
    try:
        cache.mkdir(exist_ok=True)
        # The description goes last: while an older one stands, the arrays beside it are not trusted.
        files.replace(cache / f"{split}_images.npy", lambda file: np.save(file, images))
        files.replace(cache / f"{split}_labels.npy", lambda file: np.save(file, labels))
        files.replace(cache / f"{split}.json", lambda file: file.write(json.dumps(origin, indent=1).encode()))
    except OSError:
        return  # read-only or full: the arrays are in memory, the next run decodes again
