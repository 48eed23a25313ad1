"""Prepared TFDS data, example by example in any order, without TensorFlow.

ArrayRecord is read as TFDS reads it. TFRecord, which TFDS wrote for years and has no random access, is read through
the positions of its records, found once and kept with the labels in <folder>/decoded/<split>_index.npz.
"""

import contextlib
import functools
import hashlib
import json
import os
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnn_jax import buckets, files
from cnn_jax.progress import Counter

CHUNK = 1024  # examples read at a time while looking for labels
INDEX = "_index.npz"  # how the file with the labels of a split ends
CACHE_FORMAT = 1  # raise it when the cached arrays change their meaning
SPARE_FILES = 256  # that the rest of the process may have open
# What damaged files raise. RuntimeError: ArrayRecord; ValueError: JSON, TFDS, this package; KeyError: missing entries.
DAMAGED = (RuntimeError, ValueError, OSError, KeyError)


class Records:
    """One stored split, with its images still encoded.

    Attributes:
      origin: the split as its files describe it; what is derived from it is stale when this has changed.
      title: dataset and split, for people.

    Args:
      folder: <data_dir>/<name>/<version>.
      name: the dataset's name.
      split: stored split, such as "train".

    Raises:
      OSError, ValueError, KeyError, RuntimeError: the files are damaged.
    """

    def __init__(self, folder: Path, name: str, split: str):
        self.origin = describe(folder, name, split)
        self.title = f"{name} {split}"
        self._folder = folder
        self._index = decoded_folder(folder) / f"{split}{INDEX}"

    @functools.cached_property
    def _opened(self):
        """The encoded records and what decodes one; opened late, as nobody asks where all is decoded already."""
        import tensorflow_datasets as tfds  # 0.4 s
        from google.protobuf.message import DecodeError

        paths = [self._folder / shard for shard in self.origin["file_bytes"]]
        found = FORMATS[self.origin["file_format"]](paths)
        if len(found) != len(self):
            raise ValueError(f"{len(found)} examples found, {len(self)} expected")
        try:
            features = tfds.builder_from_directory(self._folder).info.features
        except Exception as error:  # TFDS and protobuf raise whatever meets them in files that are not theirs
            raise ValueError(f"TFDS cannot read its description: {' '.join(str(error).split())[:200]}") from error
        encoded = {"image": tfds.decode.SkipDecoding()}

        def example(record):
            try:
                return features.deserialize_example_np(record, decoders=encoded)
            except DecodeError as error:
                raise ValueError(f"not an example: {error}") from error

        return found, example

    def __len__(self):
        return self.origin["examples"]

    def __getitem__(self, row: int) -> dict:
        """One example, as TFDS gives it with its image left encoded. Safe to call from many threads.

        Raises:
          OSError, ValueError, KeyError, RuntimeError: the files are damaged.
        """
        found, example = self._opened
        return example(found[row])

    def several(self, rows: list[int]) -> list[dict | Exception]:
        """Returns some examples, each as by its own row; in place of one that is damaged, what it raises.

        A call has a cost of its own, with ArrayRecord that of decoding a small image. Safe to call from many threads.
        """
        found, example = self._opened
        try:
            return [example(record) for record in found.__getitems__(rows)]
        except DAMAGED:
            return [self._attempt(row) for row in rows]

    def _attempt(self, row):
        try:
            return self[row]
        except DAMAGED as error:
            return error

    def __iter__(self) -> Iterator[dict]:
        found, example = self._opened
        for start in range(0, len(self), CHUNK):
            yield from map(example, found.__getitems__(list(range(start, min(start + CHUNK, len(self))))))

    def labels(self) -> np.ndarray:
        """Returns the label of every example, int32 [N]; all are read the first time, and remembered if possible."""
        known = self._known_labels()
        if known is not None:
            return known
        labels = np.empty(len(self), np.int32)
        with Counter(f"reading the labels of {self.title}", len(self)) as counter:
            for row, example in enumerate(self):
                labels[row] = example["label"]
                if row % CHUNK == CHUNK - 1:
                    counter.advance(CHUNK)
        try:
            write_labels(self._index, self.origin, labels)
        except OSError:
            pass  # read-only or full: they are read anew next time
        return labels

    def _known_labels(self):
        # A set in a bucket may bring them along.
        for path in dict.fromkeys((self._index, self._folder / "decoded" / self._index.name)):
            try:
                stored = files.read_arrays(path)
                labels = stored["labels"]
                known = json.loads(str(stored["origin"])) == self.origin and labels.shape == (len(self),)
                if known and labels.dtype.kind in "iu":
                    return labels.astype(np.int32)
            except (OSError, ValueError, KeyError, RecursionError):
                pass  # absent, or not what was written
        return None


def disk_root() -> Path:
    """Returns the disk's folder of prepared datasets: $TFDS_DATA_DIR, or ~/tensorflow_datasets if that is a bucket."""
    root = os.environ.get("TFDS_DATA_DIR", "")
    return Path("~/tensorflow_datasets" if not root or buckets.is_far(root) else root).expanduser().absolute()


def near(far: Path) -> Path:
    """Returns the folder on the disk for what a bucket's data become: in $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Args:
      far: the folder of the data in the bucket.
    """
    return disk_root() / "bucket" / f"{far.name}-{hashlib.sha256(str(far).encode()).hexdigest()[:12]}"


def decoded_folder(folder: Path) -> Path:
    """Returns the folder, on the disk, of what is kept of a prepared dataset: its decoded images and its labels."""
    return (near(folder) if buckets.is_far(folder) else folder) / "decoded"


def is_published(path: Path) -> bool:
    """Tells whether a file belongs to a copy of a prepared dataset, and is not made from it where it is used."""
    return path.parent.name != "decoded" or path.name.endswith(INDEX)


def write_labels(path: Path, origin: dict, labels: np.ndarray) -> None:
    """Keeps the labels of a split in <folder>/decoded/<split>_index.npz.

    Raises:
      OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, lambda file: np.savez(file, origin=np.array(json.dumps(origin)), labels=labels))


def describe(folder: Path, name: str, split: str) -> dict:
    """Returns what data derived from a split depend on: its examples, their bytes, and its files (whose size alone
    tells little: ArrayRecord fills up 64 KiB blocks).

    Raises:
      OSError, ValueError, KeyError: the files are damaged.
    """
    info = files.read_json(folder / "dataset_info.json")
    try:
        entry = {entry["name"]: entry for entry in info["splits"]}[split]
        lengths, example_bytes = [*map(int, entry["shardLengths"])], int(entry["numBytes"])
        file_format = info.get("fileFormat", "tfrecord")  # TFDS wrote no field while it knew one format
    except (TypeError, AttributeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"dataset_info.json does not describe a split {split!r}") from error
    if not isinstance(file_format, str) or file_format not in FORMATS:
        raise ValueError(f"its file format is {file_format!r:.40}; known are {', '.join(FORMATS)}")
    if min([example_bytes, *lengths]) < 0:
        raise ValueError(f"it has {lengths} examples in {example_bytes} bytes")
    shards = sorted(folder.glob(f"{name}-{split}.*-of-*"))
    if len(shards) != len(lengths):
        raise ValueError(f"{len(lengths)} files expected, {len(shards)} found")
    return {
        "cache_format": CACHE_FORMAT,
        "file_format": file_format,
        "examples": sum(lengths),
        "example_bytes": example_bytes,
        "file_bytes": {shard.name: files.size(shard) for shard in shards},
    }


def digests(paths: list[Path]) -> dict[str, str]:
    """Returns a digest of the examples in each of some files of a prepared set, by name.

    It is one of the examples, whatever the order of their fields, and not of the bytes: of the same images TFDS makes
    other bytes in every process, as protobuf orders fields by chance. What was found is kept beside the decoded images
    for as long as the files stay what they are.

    Raises:
      OSError, ValueError, KeyError, RuntimeError: a file is damaged.
    """
    place = decoded_folder(paths[0].parent) / "digests.json"
    versions = {path.name: files.version(path) for path in paths}
    try:
        known = files.read_json(place)
    except (OSError, ValueError):
        known = {}
    found = {name: known.get(f"{name} {version}") for name, version in versions.items()}
    new = [path for path in paths if not isinstance(found[path.name], str)]
    found |= {path.name: _digest(path) for path in new}
    if new:
        with contextlib.suppress(OSError):  # read-only or full
            place.parent.mkdir(parents=True, exist_ok=True)
            kept = {f"{name} {version}": found[name] for name, version in versions.items()}
            files.write_json(place, known | kept)
    return found


def _digest(path):
    found, total = FORMATS["array_record" if ".array_record" in path.name else "tfrecord"]([path]), hashlib.sha256()
    for start in range(0, len(found), CHUNK):
        for record in found.__getitems__(list(range(start, min(start + CHUNK, len(found))))):
            try:
                total.update(b"".join(sorted(_fields(record))))
            except IndexError:
                raise ValueError(f"{path.name} holds something else than examples") from None
    return f"examples:{total.hexdigest()[:32]}"


def _fields(record):
    """The fields of a serialised `tf.train.Example`, a map: each as its tag, its length and its content.

    Source: protobuf's encoding, https://protobuf.dev/programming-guides/encoding.
    """
    place = _after_varint(record, 1)[1]
    while place < len(record):
        length, begin = _after_varint(record, place + 1)
        yield record[place : begin + length]
        place = begin + length


def _after_varint(record, place):
    """A number written 7 bits at a time, and where it ends."""
    value = shift = 0
    while True:
        byte = record[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _array_records(paths):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    _allow_open_files(len(paths))
    return ArrayRecordDataSource([str(path) for path in paths])


def _allow_open_files(count):
    """Random access keeps every file open, and ImageNet as TFDS writes it has 1,024, the usual limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if soft != resource.RLIM_INFINITY and wanted > soft:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class TFRecordFiles:
    """Random access to TFRecord files: length (8 bytes), its checksum (4), data, its checksum (4), over and over.

    The checksums are CRC-32C, which the standard library lacks; a PNG brings its own.

    Args:
      paths: the files, in order.

    Raises:
      ValueError: a file is cut short.
    """

    def __init__(self, paths: list[Path]):
        self._paths = paths
        found = [(file, *place) for file, path in enumerate(paths) for place in _places(path)]
        self._places = np.array(found, np.int64).reshape(-1, 3)

    def __len__(self):
        return len(self._places)

    def __getitem__(self, row: int) -> bytes:
        file, begin, length = self._places[row]
        with open(self._paths[file], "rb") as opened:
            return os.pread(opened.fileno(), length, begin)

    def __getitems__(self, rows: list[int]) -> list[bytes]:
        return [self[row] for row in rows]


def _places(path):
    """Yields the offset and the length of each record's data."""
    size, position = path.stat().st_size, 0
    with open(path, "rb", buffering=0) as file:
        while position < size:
            head = os.pread(file.fileno(), 8, position)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if position + length + 16 > size:
                raise ValueError(f"{path.name} is cut short")
            yield position + 12, length
            position += length + 16


FORMATS = {"tfrecord": TFRecordFiles, "array_record": _array_records}
