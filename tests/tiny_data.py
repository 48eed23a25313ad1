"""A few real digits under the name of any dataset, for tests that need prepared data and must not wait for it."""

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np

from cnn_jax import config
from cnn_jax.data.batches import order
from cnn_jax.data.datasets import builders, catalog

TINY_MNIST = 120, 40  # examples of the fixture `mnist`: training, test
PURPOSE = 1000  # apart from every purpose of the package


def tiny_arrays(train: int = 64, test: int = 32, seed: int = 0) -> builders.Arrays:
    """Images that can be told apart: scikit-learn's digits, the first of a random order of each of their splits.

    Args:
      train: training examples, at most 1,437.
      test: test examples, at most 360.
      seed: which of them.

    Returns:
      Split name to (uint8 images [N, 28, 28, 1], int64 labels [N]).
    """
    arrays = {}
    for (split, (images, labels)), count in zip(builders.digits_arrays().items(), (train, test)):
        assert 0 < count <= len(labels), f"{split} = {count} must be from 1 to {len(labels)}"
        chosen = order.random_order(len(labels), seed, PURPOSE)[:count]
        arrays[split] = (images[chosen], labels[chosen])
    return arrays


def write_tiny(name: str, data_dir: str | Path, train: int = 64, test: int = 32, seed: int = 0) -> None:
    """Prepares a tiny dataset as TFDS would, so that `--set data.name=... data.data_dir=...` finds it.

    Args:
      name: "mnist", "fashion_mnist" or "digits".
      data_dir: root of the prepared datasets; must not hold this one yet.
      train, test, seed: as in `tiny_arrays`.
    """
    builders.build(name, data_dir, tiny_arrays(train, test, seed))


def folder_of(data: config.Data) -> Path:
    """Where a published dataset lies when it is prepared."""
    return Path(data.data_dir) / data.name / catalog.DATASETS[data.name].version


def pairs(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    """Images and labels in an order of their own, to compare sets whatever order they are stored in."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def encode_idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes, written from the description of the format."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def publish(monkeypatch, name: str, folder: Path, arrays: builders.Arrays) -> None:
    """Writes four IDX files that pass for the published ones: the catalogue's address and checksums become theirs.

    Args:
      monkeypatch: pytest's fixture, which undoes it.
      name: "mnist" or "fashion_mnist".
      folder: where to write; created.
      arrays: split name to (images [N, 28, 28, 1], labels [N]).
    """
    folder.mkdir(exist_ok=True)
    facts = catalog.DATASETS[name]
    checksums = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[split]
        for kind, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
            file, raw = f"{prefix}-{kind}-ubyte.gz", encode_idx(array)
            packed = gzip.compress(raw, mtime=0)
            (folder / file).write_bytes(packed)
            checksums[file] = hashlib.sha256(raw if facts.files.unpacked else packed).hexdigest()
    files = dataclasses.replace(facts.files, url=f"{folder.as_uri()}/", sha256=checksums)
    monkeypatch.setitem(catalog.DATASETS, name, dataclasses.replace(facts, files=files))
