"""A user's own images, in one folder for each class.

<path>/train/CLASS/...  and  <path>/test/CLASS/...  (or val, or validation)
<path>/CLASS/...        a fifth of each class, always the same, is kept for testing
"""

import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from cnn_jax import randomness
from cnn_jax.data.batches import order
from cnn_jax.data.datasets.base import TEST_SHARE, Source
from cnn_jax.data.datasets.catalog import data_root
from cnn_jax.data.facts import Facts
from cnn_jax.data.images.reader import ImageSource, Unreadable
from cnn_jax.errors import UsageError, UserError

TESTED = ("test", "val", "validation")  # names of the folder that is tested on, the first found counts
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


class Folder(Source):
    """The images at data.path, each read as the square from its middle."""

    def facts(self) -> Facts:
        return Facts(self.data.kind.shape, class_names(self.data.kind.path), {}, "", exact=False)

    def training_examples(self) -> int:
        return len(files(self.data.kind.path, "train")[0])

    def images(self, stored: str) -> ImageSource:
        return image_source(self.data.kind.path, stored, self.data.kind.side)

    def cache_folder(self) -> Path:
        return data_root(self.data) / "folder" / cache_name(self.data.kind.path)


def class_names(path: str) -> tuple[str, ...]:
    """The names of the class folders, sorted; their place is the label.

    Raises:
      UserError: there are no class folders, or train and test have different ones.
    """
    return _scan(_root(path))[0]


def files(path: str, split: str) -> tuple[list[Path], np.ndarray]:
    """The images of "train" or "test", class by class in order of their names, and their labels, int32 [N].

    Raises:
      UserError: as `class_names`.
    """
    names, parts = _scan(_root(path))
    where = parts["train" if split == "train" or "test" not in parts else "test"]
    paths = [file for name in names for file in where[name]]
    labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(where[name]) for name in names])
    if "test" in parts:
        return paths, labels
    tested = order.stratified(labels, len(labels) // TEST_SHARE, randomness.FOLDER_TEST_SPLIT)
    chosen = tested if split == "test" else np.setdiff1d(np.arange(len(labels)), tested)
    return [paths[row] for row in chosen], labels[chosen]


def image_source(path: str, split: str, side: int) -> ImageSource:
    """One split, decoded when it is read."""
    from cnn_jax.data.images import decode  # Pillow, only here

    root = _root(path)
    paths, labels = files(path, split)

    def read(row):
        try:
            encoded = paths[row].read_bytes()
        except OSError as error:
            raise Unreadable(f"{paths[row]} ({error.strerror})") from error
        return decode.square(encoded, side, str(paths[row]))

    listing = hashlib.sha256()
    for file in paths:
        status = file.stat()
        listing.update(f"{file.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    origin = {"decoding": decode.FORMAT, "side": side, "examples": len(paths), "files": listing.hexdigest()}
    return ImageSource(f"{root.name} {split}", (side, side, 3), labels, read, origin)


def cache_name(path: str) -> str:
    """A name for the folder of decoded images: that of the data, and a checksum of where it lies."""
    root = _root(path)
    return f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"


def _root(path):
    if not path:
        raise UsageError(
            "data.name = 'folder' needs the folder whose subfolders are the classes: --set data.path=FOLDER"
        )
    return Path(path).expanduser().absolute()


@functools.lru_cache(maxsize=4)
def _scan(root):
    """Class names, and for "train" and, where it has a folder of its own, "test": class name to sorted files."""
    if not root.is_dir():
        raise UserError(f"data.path = {str(root)!r} is not a folder: --set data.path=FOLDER")
    tested = next((root / name for name in TESTED if (root / name).is_dir()), None)
    trained = root / "train"
    if not trained.is_dir():
        parts = {"train": _classes(root)}
    elif tested is None:
        raise UserError(f"{root} has a folder train and none to test on: add test, val or validation beside it")
    else:
        parts = {"train": _classes(trained), "test": _classes(tested)}
        lacking = [
            f"{folder} lacks {', '.join(sorted(set(theirs) - set(ours)))}"
            for folder, ours, theirs in (
                (trained, parts["train"], parts["test"]),
                (tested, parts["test"], parts["train"]),
            )
            if set(theirs) - set(ours)
        ]
        if lacking:
            raise UserError(f"train and test must have the same classes: {'; '.join(lacking)}")
    return tuple(parts["train"]), parts


def _classes(folder):
    found = {}
    for entry in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found[entry.name] = sorted(
            Path(where, name)
            for where, _, names in os.walk(entry)
            for name in names
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        )
        if not found[entry.name]:
            raise UserError(f"the class folder {entry} holds no image ({', '.join(sorted(SUFFIXES))})")
    if len(found) < 2:
        raise UserError(
            f"{folder} holds {len(found)} class folders, and at least 2 are needed: one subfolder for each class, "
            "its images inside"
        )
    return found
