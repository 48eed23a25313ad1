"""A person's own images, in one folder for each class.

<path>/train/CLASS/...  and  <path>/test/CLASS/...  and, where wanted, <path>/val/CLASS/...
<path>/CLASS/...        about a fifth of each class, always the same, is kept for testing

The names of the first three are known in any case and in the usual spellings, see `split_of`.
"""

import collections
import dataclasses
import functools
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnn_jax import buckets, files, randomness
from cnn_jax.data import subsets
from cnn_jax.data.datasets.base import TEST_SHARE, Source, sized
from cnn_jax.data.datasets.catalog import data_root
from cnn_jax.data.facts import Facts
from cnn_jax.data.identity import Identity
from cnn_jax.data.images.asked import HEIF_SUFFIXES, suffixes
from cnn_jax.data.images.reader import ImageSource, Reading, Unreadable
from cnn_jax.data.images.records import near
from cnn_jax.errors import UsageError, UserError
from cnn_jax.files import printable
from cnn_jax.progress import Counter

LITTER = {"__macosx", "thumbs.db", "desktop.ini", "icon\r"}  # of file managers; names that begin with a dot besides

SPELLINGS = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "tst"),
}
WORDS = {word: split for split, words in SPELLINGS.items() for word in words}
FILLING = "(?:set|sets|data|dataset|images|image|imgs|img|pictures|photos|folder|split)*"
SHOWN = 5  # names in a message
SEEN = 200  # images whose heads tell what all are like


class Folder(Source):
    """The images at data.path, each read as the square from its middle."""

    def facts(self) -> Facts:
        listing = self.listing
        names = tuple(map(printable, listing.classes))
        tested = "test" if "test" in listing.parts else "train"
        about = {"tested": tested, "exact": False, "validated": self._is_validated()}
        return Facts(self.shape, names, {}, "", **about)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a stored image."""
        kind = self.data.kind
        for_colour = max(len(self.data.mean), len(self.data.std)) == 3
        channels = kind.channels or (1 if not for_colour and looked_at(self.listing).grey else 3)
        return (kind.side, kind.side, channels)

    @property
    def _reading(self):
        return Reading(self.data.kind.exif, self.data.kind.ground, self.shape[2])

    def notes(self) -> list[str]:
        found, side, lines = looked_at(self.listing), self.data.kind.side, []
        if found.sides and found.sides[0] < side:
            few, many = found.sides
            sizes = f"{few}" if few == many else f"{few} to {many}"
            sizes = f"the shorter side of the images has {sizes} pixels"
            lines.append(f"{sizes}: smaller ones are enlarged to {side} (data.side)")
        if found.moving:
            lines.append(f"{found.moving} of {found.images} images looked at hold several frames: the first counts")
        return lines

    def training_examples(self) -> int:
        labels = self.listing.labels("train")
        tested = self.tested(labels, self.listing.names("train"))
        return len(labels) - (0 if tested is None else len(tested))

    def prepare(self, download: bool, experiment: str) -> str:
        train, whole = self.training_examples(), len(self.listing.labels("train"))
        test = whole - train or len(self.listing.labels("test"))
        return f"folder needs no preparation: {train:,} train and {test:,} test examples"

    def tested(self, labels: np.ndarray, names: Sequence[str]) -> np.ndarray | None:
        if "test" in self.listing.parts:
            return None
        if self.data.subsets == "digest":
            return subsets.shared(labels, TEST_SHARE, subsets.digests_of_names(names))
        digests = subsets.digests_of_numbers(len(labels), randomness.FOLDER_TEST_SPLIT)
        return subsets.stratified(labels, len(labels) // TEST_SHARE, digests)

    def _is_validated(self):
        return "validation" in self.listing.parts and self.data.subsets == "digest"

    def files(self) -> dict[str, dict[str, tuple[int, str]]]:
        listing = self.listing
        return sized(
            {
                part: {name: folder / name for name in listing.names(part)}
                for part, folder in listing.folders.items()
                if part != "validation" or self._is_validated()
            }
        )

    def left_out(self) -> dict[str, int]:
        return self.listing.left_out

    def unseen(self, known: Identity, now: Identity) -> ImageSource:
        """Returns the images that a run was neither trained on nor chosen by.

        Args:
          known: the data of the run.
          now: those that lie here.

        Raises:
          UserError: there are none, or classes that the run does not know.
        """
        listing = self.listing
        label_of = {name: label for label, name in enumerate(known.class_names)}
        strange = [name for name in listing.classes if printable(name) not in label_of]
        if strange:
            raise UserError(
                f"{printable(str(listing.root))} has classes that the run does not know, {some(strange)}; its own are "
                f"{some(known.class_names)}"
            )
        digests, seen = known.seen()
        names, labels = [], []
        for part in now.files:
            for name, (_, digest) in now.files[part].items():
                if digest in digests or not (digest and digests) and name in seen:
                    continue
                names.append((listing.folders[part] / name).relative_to(listing.root).as_posix())
                labels.append(label_of[printable(name.partition("/")[0])])
        if not names:
            raise UserError(
                f"the run was trained on every image in {printable(str(listing.root))}: there is none to measure it on"
            )
        side, _, channels = known.shape
        reading = dataclasses.replace(self._reading, channels=channels)
        found = np.array(labels, np.int32)
        return image_source(self.data.kind.path, listing.root, names, found, "unseen", side, reading)

    def images(self, stored: str) -> ImageSource:
        listing, kind = self.listing, self.data.kind
        names, labels = listing.names(stored), listing.labels(stored)
        return image_source(kind.path, listing.folders[stored], names, labels, stored, kind.side, self._reading)

    def cache_folder(self) -> Path:
        return data_root(self.data) / "folder" / cache_name(self.data.kind.path)

    @property
    def listing(self) -> "Listing":
        """What lies at data.path."""
        root = _root(self.data.kind.path)
        return scan(root, _times(root))


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """What lies in a folder of images; nothing is opened.

    Attributes:
      root: the folder.
      classes: names of the class folders, sorted; their place is the label.
      folders: of each part, "train" and, where they have a folder of their own, "validation" and "test".
      parts: of each part the images of each class, paths from the class folder, sorted.
      left_out: what is no image or lies outside the class folders, in words, and how many.
    """

    root: Path
    classes: tuple[str, ...]
    folders: dict[str, Path]
    parts: dict[str, dict[str, list[str]]]
    left_out: dict[str, int]

    def names(self, part: str) -> list[str]:
        """Returns the names of a part's images, such as "cat/1.png", class by class."""
        return [f"{name}/{file}" for name in self.classes for file in self.parts[part][name]]

    def labels(self, part: str) -> np.ndarray:
        """Returns their labels, int32 [N]."""
        counts = [len(self.parts[part][name]) for name in self.classes]
        return np.repeat(np.arange(len(self.classes), dtype=np.int32), counts)


def image_source(
    path: str, folder: Path, names: list[str], labels: np.ndarray, split: str, side: int, reading: Reading
) -> ImageSource:
    """Returns some images of a folder, decoded when they are read.

    Args:
      path: data.path.
      folder: what the names are relative to.
      names: of the images.
      labels: int32 [N].
      split: what they are called together.
      side: of the stored squares, pixels.
      reading: what is made of an image.
    """
    from cnn_jax.data.images import decode  # Pillow, only here

    def read(row):
        return decode.square(read_file(folder / names[row]), side, printable(str(folder / names[row])), reading)

    listing = hashlib.sha256()
    for name in names:
        size, time = _size_and_time(folder / name)
        listing.update(os.fsencode(f"{name}\0{size}\0{time}\n"))
    origin = {"decoding": decode.FORMAT, **dataclasses.asdict(reading), "side": side}
    origin |= {"examples": len(names), "files": listing.hexdigest()}
    title = f"{printable(_root(path).name)} {split}"
    return ImageSource(title, (side, side, reading.channels), labels, read, origin, names=names)


@dataclasses.dataclass(frozen=True)
class Looked:
    """What some images are like.

    Attributes:
      images: how many could be read.
      grey: whether all are in shades of grey.
      sides: the smallest and the largest shorter side, pixels; empty where none can be read.
      moving: how many hold several frames.
    """

    images: int
    grey: bool
    sides: tuple[int, ...]
    moving: int


@functools.lru_cache(maxsize=4)
def looked_at(listing: "Listing") -> Looked:
    """Looks at the heads of some images of a folder, always the same ones, `SEEN` or all."""
    from cnn_jax.data.images import decode  # Pillow, only here

    names, labels = listing.names("train"), listing.labels("train")
    rows = range(len(names))
    if len(names) > SEEN:
        rows = subsets.stratified(labels, SEEN, subsets.digests_of_names(names))
    heads = [decode.head(_read_or_none(listing.folders["train"] / names[row])) for row in rows]
    known = [head for head in heads if head]
    sides = sorted(min(head.size) for head in known)
    grey = bool(known) and all(head.mode in decode.GREY for head in known)
    moving = sum(head.frames > 1 for head in known)
    return Looked(len(known), grey, (sides[0], sides[-1]) if sides else (), moving)


def _read_or_none(path):
    """Returns the bytes of an image's file, None where it cannot be read."""
    try:
        return read_file(path)
    except Unreadable:
        return None


def read_file(path: Path) -> bytes:
    """Returns the bytes of an image's file.

    Raises:
      Unreadable: it cannot be read, or is no plain file: reading a pipe or a device might never end.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unreadable(f"{printable(str(path))} (it is not a plain file)")
            return file.read()
    except OSError as error:
        raise Unreadable(f"{printable(str(path))} ({error.strerror})") from error


def _size_and_time(path):
    """Bytes and time of a file; -1 of one that is not there, as at the end of a broken link."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def cache_name(path: str) -> str:
    """Returns a name for the folder of decoded images: that of the data, and a checksum of where it lies."""
    root = _root(path)
    return f"{printable(root.name)}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"


def _root(path):
    if not path:
        raise UsageError(
            "data.name = 'folder' needs the folder whose subfolders are the classes: --set data.path=FOLDER"
        )
    place = files.place(path, f"data.path = {path!r}")
    return _mirrored(place) if buckets.is_far(place) else place


@functools.cache
def _mirrored(place):
    """A folder on the disk with the images of one in a bucket, as they are at the start of this process."""
    root = near(place) / place.name
    buckets.mirror(place, root, lambda count: Counter(f"copying {place}, once, to {root}", count))
    return root


def split_of(name: str) -> str | None:
    """Returns the split that a folder is named after, such as "train" for "Training" or "train_images", or None."""
    signs = re.sub("[^a-z]", "", name.lower())
    found = re.fullmatch(f"{FILLING}({'|'.join(WORDS)}){FILLING}", signs)
    return WORDS[found[1]] if found else None


def _is_like_a_split(name):
    return split_of(name) is not None or any(word in WORDS for word in re.findall("[a-z]+", name.lower()))


def _times(root):
    """When the folders of the splits and of the classes last changed: what they hold is looked at anew after that."""
    try:
        inside = _folders(root)
        every = [root, *inside, *(each for path in inside if _is_like_a_split(path.name) for each in _folders(path))]
        return tuple(path.stat().st_mtime_ns for path in every)
    except (OSError, UserError):
        return ()  # `scan` says what is wrong


@functools.lru_cache(maxsize=4)
def scan(root: Path, times: tuple[int, ...]) -> Listing:
    """Looks at what lies in a folder of images.

    Args:
      root: the folder.
      times: of its last changes; a listing is kept while they are the same.

    Raises:
      UserError: there are no class folders, or no images in one; splits have different classes; or folders look like
        splits and are not known as such.
    """
    if not root.is_dir():
        raise UserError(f"data.path = {printable(str(root))!r} is not a folder: --set data.path=FOLDER")
    inside = _folders(root)
    alike = [path for path in inside if _is_like_a_split(path.name)]
    left_out: collections.Counter = collections.Counter()
    if any(_folders(path) and not _has_images(path) for path in alike) or len(alike) == len(inside) > 1:
        folders = _split_folders(root, alike)
        for path in inside:
            if path not in folders.values():
                left_out[f"files in {printable(path.name)}, which is no split"] += len(_files(path))
    else:
        folders = {"train": root}
    parts = {split: _classes(folder, left_out) for split, folder in folders.items()}
    if folders["train"] != root:
        _leave_out(root, left_out)
    for split, ours in parts.items():
        for there, mine, theirs in ((folders[split], ours, parts["train"]), (folders["train"], parts["train"], ours)):
            lacking = sorted(set(theirs) - set(mine))
            if lacking:
                raise UserError(
                    f"the splits of {printable(str(root))} must have the same classes: {printable(there.name)} lacks "
                    + some(lacking)
                )
    if "test" not in parts:
        alone = [name for name, files in parts["train"].items() if len(files) < 2]
        if alone:
            raise UserError(
                f"the class folder {printable(str(folders['train'] / alone[0]))} holds one image, and at least 2 are "
                "needed: one to train on and one to test on"
            )
    return Listing(root, tuple(parts["train"]), folders, parts, {what: left_out[what] for what in sorted(left_out)})


def _split_folders(root, alike):
    """The folder of each split.

    Raises:
      UserError: one is missing, named in a way that is not known, or there twice.
    """
    place = printable(str(root))
    unknown = [path.name for path in alike if split_of(path.name) is None]
    if unknown:
        raise UserError(
            f"{place} holds folders that look like splits, {some(unknown)}, and are not known as such: call them "
            "train, test and, where there is one, val; folders of classes must have other names"
        )
    found: dict[str, Path] = {}
    for path in alike:
        split = split_of(path.name)
        if split in found:
            raise UserError(f"{place} holds two folders of {split} images, {some([found[split].name, path.name])}")
        found[split] = path
    if "train" not in found:
        raise UserError(f"{place} holds {some([path.name for path in alike])}, and no folder train beside it")
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    if "test" not in found:
        raise UserError(f"{place} has a folder {printable(found['train'].name)} and none to test on: add test or val")
    flat = [path.name for path in found.values() if not _folders(path)]
    if flat:
        raise UserError(
            f"{some(flat)} in {place} must hold a folder for each class, with the images inside, and there are none"
        )
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _is_litter(name):
    return name.startswith(".") or name.lower() in LITTER


def _folders(folder):
    """The folders in one, sorted by name, without those of file managers."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_litter(path.name))
    except OSError as error:
        _refuse(error)


def _is_image(name):
    return Path(name).suffix.lower() in suffixes()


def _has_images(folder):
    return any(_is_image(path.name) and not path.is_dir() and not _is_litter(path.name) for path in folder.iterdir())


def _files(folder):
    """Every file below a folder, as a path from there, sorted, without those of file managers."""
    found = []
    for where, inner, names in os.walk(folder, onerror=_refuse):
        inner[:] = [name for name in inner if not _is_litter(name)]
        found += [Path(where, name).relative_to(folder) for name in names if not _is_litter(name)]
    return sorted(found)


def _refuse(error):
    raise UserError(f"cannot list {printable(str(error.filename))}: {error.strerror}") from error


def _leave_out(folder, left_out):
    """Counts the files that lie beside the class folders."""
    for path in folder.iterdir():
        if not path.is_dir() and not _is_litter(path.name):
            what = "images outside the class folders" if _is_image(path.name) else _kind(path.name)
            left_out[what] += 1


def _kind(name):
    suffix = Path(name).suffix.lower()
    hint = " (pip install 'cnn_jax[heic]' reads them)" if suffix in HEIF_SUFFIXES else ""
    return f"{printable(suffix)} files{hint}" if suffix else "files without a suffix"


def _classes(folder, left_out):
    """The images of each class folder in a folder, sorted; what else is there is counted."""
    found = {}
    for place in _folders(folder):
        files = _files(place)
        images = [file for file in files if _is_image(file.name)]
        others = collections.Counter(_kind(file.name) for file in files if not _is_image(file.name))
        if not images:
            beside = "".join(f", only {count} {what}" for what, count in sorted(others.items()))
            raise UserError(
                f"the class folder {printable(str(place))} holds no image{beside} ({', '.join(sorted(suffixes()))})"
            )
        left_out.update(others)
        found[place.name] = [file.as_posix() for file in images]
    _leave_out(folder, left_out)
    if len(found) < 2:
        inside = [path for path in _folders(folder) if len(_folders(path)) > 1]
        hint = f"; is it {printable(str(inside[0]))} that is meant?" if len(inside) == 1 else ""
        raise UserError(
            f"{printable(str(folder))} holds {len(found)} class folders, and at least 2 are needed: one subfolder for "
            f"each class, its images inside{hint}"
        )
    return found


def some(names):
    """Returns a few of some names, in words."""
    return ", ".join(map(printable, names[:SHOWN])) + f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
