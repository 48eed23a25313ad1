"""The interface of the datasets. Each is a class in a file, with its declaration in config/data.py, and a line in
`source.SOURCES` that puts the two together."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnn_jax import buckets, config, files, flags
from cnn_jax.config import experiments
from cnn_jax.data.datasets.catalog import data_root
from cnn_jax.data.facts import Facts
from cnn_jax.data.images import records
from cnn_jax.data.images.reader import ImageSource, Reading, Unreadable
from cnn_jax.errors import UserError

TEST_SHARE = 5  # one in so many is kept for testing, of data that come without a test split

LARGE = 10**9  # bytes of a dataset's files, from which their content is not looked at

LEAST = 2**16  # bytes free, below which a write that failed has failed for want of room


class Source:
    """The source of a dataset's images; this base class serves those that need no preparation.

    Attributes:
      data: the settings: which images, and where they lie.
    """

    def __init__(self, data: config.Data):
        self.data = data

    def facts(self) -> Facts:
        """Returns the dataset's fixed properties, known before an image is read."""
        raise NotImplementedError

    def images(self, stored: str) -> ImageSource:
        """Returns a stored split, its images read one by one.

        Args:
          stored: a key of the facts' `splits`, or "train" or "test" where they name none.
        """
        raise NotImplementedError

    def tested(self, labels: np.ndarray, names: Sequence[str]) -> np.ndarray | None:
        """Chooses which stored training examples are kept for testing.

        Args:
          labels: int [N].
          names: as in `ImageSource`.

        Returns:
          Their indices, ascending; None where the test split is stored apart.
        """
        return None

    def cache_folder(self) -> Path | None:
        """Returns the folder where decoded images are kept, or None for a dataset that needs no decoding."""
        return None

    def files(self) -> dict[str, dict[str, tuple[int, str]]]:
        """Returns the files that the images are read from, see `Identity`; none where the settings say everything."""
        return {}

    def left_out(self) -> dict[str, int]:
        """Returns what lies beside the images, unread, in words, and how many; none where nothing was searched."""
        return {}

    def notes(self) -> list[str]:
        """Returns what else is worth saying of the images before training."""
        return []

    def training_examples(self) -> int | None:
        """Returns the number of stored training examples; None where nothing tells it before the set is prepared."""
        return self.facts().splits.get("train")

    def is_prepared(self) -> bool:
        """Tells whether the dataset can be read without further preparation."""
        return True

    def make_ready(self, experiment: str) -> None:
        """Does what takes no file and no network.

        Args:
          experiment: the experiment's name, for the command that a message tells to run.

        Raises:
          UserError: it has to be prepared first.
        """

    def prepare(self, download: bool, experiment: str) -> str:
        """Fetches, verifies and writes it, once; a sentence of what is there.

        Args:
          download: whether the network may be used.
          experiment: as `make_ready`.

        Raises:
          UserError: files are missing, damaged or not the published ones, or the folder cannot be written.
        """
        counts = [f"{len(self.images(split).labels):,} {split}" for split in ("train", "test")]
        return f"{self.data.name} needs no preparation: {' and '.join(counts)} examples"


class Stored(Source):
    """Images that lie in the data folder in TFDS's own format, once they are prepared."""

    def write(self, root: Path, download: bool, experiment: str) -> None:
        """Writes it, in its folder, into that of all prepared datasets.

        Args:
          root: that folder, which is there.
          download: whether the network may be used.
          experiment: as `Source.make_ready`.
        """
        raise NotImplementedError

    def missing(self, experiment: str) -> str:
        """Returns a message: what is missing and every way to get it, with commands to copy."""
        raise NotImplementedError

    def lengths(self) -> dict[str, int]:
        """Returns the number of examples in each stored split.

        Raises:
          UserError: it is damaged.
        """
        found = {}
        for split in self.facts().splits:
            with self.damage_reported(split):
                found[split] = records.describe(self.folder, self.stem, split)["examples"]
        return found

    def files(self) -> dict[str, dict[str, tuple[int, str]]]:
        sizes, found = {}, {}
        for split in self.facts().splits:
            with self.damage_reported(split):
                sizes[split] = records.describe(self.folder, self.stem, split)["file_bytes"]
        small = sum(size for each in sizes.values() for size in each.values()) < LARGE
        for split, each in sizes.items():
            with self.damage_reported(split):
                digests = records.digests([self.folder / name for name in each]) if small else {}
            found[split] = {name: (size, digests.get(name, "")) for name, size in each.items()}
        return found

    @property
    def stem(self) -> str:
        """The prefix of the dataset's file names."""
        return self.data.name

    @property
    def folder(self) -> Path:
        """The folder of the dataset once it is prepared."""
        return data_root(self.data) / self.data.name / self.facts().version

    def cache_folder(self) -> Path:
        return records.decoded_folder(self.folder)

    def is_prepared(self) -> bool:
        return (self.folder / "dataset_info.json").is_file()

    def make_ready(self, experiment: str) -> None:
        if not self.is_prepared():
            raise UserError(self.missing(experiment))

    def prepare(self, download: bool, experiment: str) -> str:
        state = "already prepared" if self.is_prepared() else "prepared"
        if state == "prepared":
            self.build(download, experiment)
        counts = " and ".join(f"{count:,} {split}" for split, count in self.lengths().items())
        return f"{self.data.name} is {state} in {self.folder}: {counts} examples"

    def build(self, download: bool, experiment: str) -> None:
        """Writes it where it is not there yet, as `prepare`; for a bucket on the disk, from where it is copied."""
        root = data_root(self.data)
        if buckets.is_far(root):
            near = type(self)(dataclasses.replace(self.data, data_dir=str(records.disk_root())))
            print(near.prepare(download, experiment), file=sys.stderr)
            print(f"copying {near.folder} to {self.folder}", file=sys.stderr, flush=True)
            every = [path for path in near.folder.rglob("*") if path.is_file()]
            names = [path.relative_to(near.folder).as_posix() for path in every if records.is_published(path)]
            buckets.upload(near.folder, self.folder, names, last="dataset_info.json")
            return
        if self.folder.exists():
            raise UserError(
                f"{self.folder} exists but holds no complete dataset: delete that folder and prepare it again"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not os.access(root, os.W_OK):
                raise PermissionError(f"no permission to write to {root}")
            self.write(root, download, experiment)
        except (OSError, ValueError, RuntimeError) as error:  # ArrayRecord reports a full disk as the latter two
            reason = " ".join(str(error).split())[:300]
            full = os.strerror(errno.ENOSPC)
            raise UserError(
                f"cannot write the {self.data.name} dataset to the data folder {root} "
                f"({full if full in reason or files.free_bytes(root) < LEAST else reason}): make room there, or choose "
                "another with --set data.data_dir=FOLDER"
            ) from error

    def images(self, stored: str) -> ImageSource:
        facts = self.facts()

        def fetch(rows):
            return list(zip(rows, examples.several(rows), strict=True))

        def read(fetched):
            from cnn_jax.data.images import decode  # Pillow, only where something is to be decoded

            row, example = fetched
            if isinstance(example, Exception):
                raise Unreadable(f"example {row} ({example})") from example
            name = example["file_name"].decode() if "file_name" in example else f"example {row}"
            if facts.exact:
                return decode.exact(example["image"], facts.shape, name)
            return decode.square(example["image"], facts.shape[0], name, reading)

        def read_exact(fetched):
            with self.damage_reported(stored, Unreadable):
                return read(fetched)

        with self.damage_reported(stored):
            examples = records.Records(self.folder, self.stem, stored)
            labels = examples.labels()
            if not len(labels) or labels.min() < 0 or labels.max() >= facts.classes:
                raise ValueError(f"{len(labels)} examples found; labels from 0 to {facts.classes - 1} expected")
        if facts.exact:
            origin = examples.origin | {"shape": list(facts.shape)}
            return ImageSource(examples.title, facts.shape, labels, read_exact, origin, exact=True, fetch=fetch)
        from cnn_jax.data.images.decode import FORMAT  # Pillow

        reading = Reading(self.data.kind.exif, self.data.kind.ground)
        origin = examples.origin | {"decoding": FORMAT, **dataclasses.asdict(reading), "side": facts.shape[0]}
        return ImageSource(examples.title, facts.shape, labels, read, origin, fetch=fetch)

    @contextlib.contextmanager
    def damage_reported(self, split: str, *more: type[Exception]):
        """Turns what damaged files raise, and more, into one message."""
        try:
            yield
        except (*records.DAMAGED, *more) as error:
            raise UserError(
                f"the prepared dataset in {self.folder} is damaged: cannot read its {split} split ({error}). "
                "Delete that folder and prepare it again with --mode=prepare"
            ) from error

    def command(self, experiment: str) -> str:
        """Returns the command that prepares it, up to where its files lie."""
        words = [f"--experiment={experiment or 'NAME'}", "--mode=prepare"]
        if not experiment or _dataset_of(experiment) != self.data.name:
            words += ["--set", f"data.name={self.data.name}"]
        return flags.command(*words, *(["--set", f"data.data_dir={self.data.data_dir}"] * bool(self.data.data_dir)))


def sized(found: dict[str, dict[str, Path]]) -> dict[str, dict[str, tuple[int, str]]]:
    """Bytes and digest of some files, by stored split and name, see `Identity`; -1 and "" of what is no plain file.

    Digests are there where all files together have fewer than `LARGE` bytes: they take reading everything.
    """
    sizes = {part: {name: _size(path) for name, path in paths.items()} for part, paths in found.items()}
    if sum(max(size, 0) for each in sizes.values() for size in each.values()) >= LARGE:
        return {part: {name: (size, "") for name, size in each.items()} for part, each in sizes.items()}
    with concurrent.futures.ThreadPoolExecutor(files.cores()) as pool:
        digests = {part: pool.map(_digest, paths.values()) for part, paths in found.items()}
        return {
            part: {name: (size, digest) for (name, size), digest in zip(each.items(), digests[part], strict=True)}
            for part, each in sizes.items()
        }


def _size(path):
    try:
        status = path.stat()
    except OSError:  # a broken link
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _digest(path):
    """The first half of the SHA-256 of a file's content; "" of one that cannot be read."""
    if _size(path) < 0:
        return ""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ""


def _dataset_of(experiment):
    """The name of the dataset that an experiment has of its own."""
    settings = experiments.load(experiment)
    return getattr(settings, "base", settings).data.name
