"""Prepared TFDS data as arrays: decoded once, then memory-mapped from .npy files beside it.

    <folder>/dataset_info.json, <name>-<split>.array_record-*    written by TFDS
    <folder>/decoded/<split>_images.npy, <split>_labels.npy      the same examples, decoded, in stored order
    <folder>/decoded/<split>.json                                what they were decoded from

The cache is trusted only while it fits what it was decoded from; otherwise it is made anew. Where the folder is
read-only the arrays simply stay in memory. With a sound cache neither TFDS nor Pillow is imported.
"""

import io
import json
import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnn_jax.data.catalog import Facts
from cnn_jax.errors import UserError

CHUNK = 4096  # examples read at a time
CACHE_FORMAT = 1  # raise it when the cached arrays change their meaning


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
    try:
        origin = _origin(folder, name, split)
        cached = _read_cache(folder / "decoded", split, origin, facts)
        if cached is None:
            cached = _decode(folder, split, origin, facts)
            _write_cache(folder / "decoded", split, origin, *cached)
    # RuntimeError: ArrayRecord; ValueError: JSON, TFDS, this module; OSError: files, Pillow; KeyError: missing entries.
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise UserError(
            f"the prepared dataset in {folder} is damaged: cannot read its {split} split ({error}). "
            "Delete that folder and prepare it again with --mode=prepare"
        ) from error
    for array in cached:
        array.flags.writeable = False
    return cached


def _origin(folder, name, split):
    """What a split's cache depends on: its examples, their bytes, and its files (whose size alone tells little:
    ArrayRecord fills up 64 KiB blocks)."""
    info = json.loads((folder / "dataset_info.json").read_text())
    entry = {entry["name"]: entry for entry in info["splits"]}[split]
    shards = sorted(folder.glob(f"{name}-{split}.*-of-*"))
    if len(shards) != len(entry["shardLengths"]):
        raise ValueError(f"{len(entry['shardLengths'])} files expected, {len(shards)} found")
    return {
        "cache_format": CACHE_FORMAT,
        "file_format": info.get("fileFormat", "tfrecord"),  # TFDS wrote no field while it knew one format
        "examples": sum(map(int, entry["shardLengths"])),
        "example_bytes": int(entry["numBytes"]),
        "file_bytes": {shard.name: shard.stat().st_size for shard in shards},
    }


def _decode(folder, split, origin, facts):
    from PIL import Image  # only where there is no cache yet

    images = np.empty((origin["examples"], *facts.shape), np.uint8)
    labels = np.empty(origin["examples"], np.int32)
    count = 0
    for example in _examples(folder, split, origin):
        image = np.asarray(Image.open(io.BytesIO(example["image"])))
        if count == len(images) or image.dtype != np.uint8 or image.size != images[0].size:
            raise ValueError(
                f"example {count} of {len(images)} is {image.dtype} {image.shape}, expected uint8 {facts.shape}"
            )
        images[count], labels[count] = image.reshape(facts.shape), example["label"]
        count += 1
    if count != len(images) or not count or labels.min() < 0 or labels.max() >= facts.classes:
        raise ValueError(f"{count} examples found, {len(images)} expected, with labels from 0 to {facts.classes - 1}")
    return images, labels


def _examples(folder, split, origin) -> Iterator[dict]:
    """Examples with the image still encoded."""
    import tensorflow_datasets as tfds  # 0.4 s, only where there is no cache yet

    builder = tfds.builder_from_directory(folder)
    skip = {"image": tfds.decode.SkipDecoding()}
    if origin["file_format"] == "tfrecord":
        for shard in origin["file_bytes"]:
            for record in _tfrecords(folder / shard):
                yield builder.info.features.deserialize_example_np(record, decoders=skip)
        return
    records = builder.as_data_source(split, decoders=skip)
    for start in range(0, len(records), CHUNK):
        yield from records.__getitems__(list(range(start, min(start + CHUNK, len(records)))))


def _tfrecords(path) -> Iterator[bytes]:
    """Records of a TFRecord file: length (8 bytes), its checksum (4), data, its checksum (4), one after the other.

    Data prepared by the stock TFDS is read this way without TensorFlow. The checksums are CRC-32C, which the standard
    library lacks; a PNG brings its own.
    """
    content = path.read_bytes()
    position = 0
    while position < len(content):
        if position + 12 > len(content):
            raise ValueError(f"{path.name} is cut short")
        begin = position + 12
        end = begin + struct.unpack_from("<Q", content, position)[0]
        if end + 4 > len(content):
            raise ValueError(f"{path.name} is cut short")
        yield content[begin:end]
        position = end + 4


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
        _replace(cache / f"{split}_images.npy", lambda file: np.save(file, images))
        _replace(cache / f"{split}_labels.npy", lambda file: np.save(file, labels))
        _replace(cache / f"{split}.json", lambda file: file.write(json.dumps(origin, indent=1).encode()))
    except OSError:
        return  # read-only or full: the arrays are in memory, the next run decodes again


def _replace(path, write):
    """Writes a file so that it appears under its name only when whole, whoever else writes it at the same time."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(partial, "xb") as file:
            write(file)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
