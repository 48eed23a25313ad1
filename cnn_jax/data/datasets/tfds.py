"""Any image set of TFDS, such as tfds:kmnist: prepared by TFDS elsewhere, or here where what it needs is installed."""

import contextlib
import functools
import re
import sys
from pathlib import Path

import numpy as np

from cnn_jax import randomness
from cnn_jax.data import subsets
from cnn_jax.data.datasets.base import TEST_SHARE, Stored
from cnn_jax.data.datasets.catalog import data_root, manual_folder
from cnn_jax.data.facts import Facts
from cnn_jax.data.images.reader import ImageSource
from cnn_jax.errors import UsageError, UserError

TESTED = ("test", "validation")  # splits that can be tested on; the first one that a set has counts


class Tfds(Stored):
    """A set whose examples have an image and a label; of images that differ in size the square from the middle.

    Of a set that has a training split alone, a fifth of each class, always the same, is kept for testing.
    """

    @property
    def set_name(self) -> str:
        """The name in TFDS, with the configuration where the set has several: "kmnist", "emnist/letters"."""
        return self.data.name.partition(":")[2]

    @property
    def stem(self) -> str:
        return self.set_name.partition("/")[0]

    @property
    def folder(self) -> Path:
        place = data_root(self.data) / self.set_name
        return max(_versions(place), key=_version, default=place)

    def facts(self) -> Facts:
        if not self.is_prepared():
            raise UserError(self.missing(""))
        info = _info(self.folder)
        features = info.features
        if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
            raise UserError(
                f"{self.data.name} cannot be classified: an image and a label are needed, and its examples have "
                f"{', '.join(features)}"
            )
        *sides, channels = features["image"].shape
        side, exact = self.data.kind.side, None not in sides
        shape = (*sides, channels) if exact else (side, side, 3)
        splits = {name: split.num_examples for name, split in info.splits.items()}
        tested = next((name for name in TESTED if name in splits), "test")
        return Facts(shape, tuple(features["label"].names), splits, str(info.version), tested=tested, exact=exact)

    def training_examples(self) -> int:
        splits = self.facts().splits
        count = splits.get("train", 0)
        return count if len(splits) > 1 else count - count // TEST_SHARE

    def images(self, stored: str) -> ImageSource:
        splits = self.facts().splits
        if stored in splits and len(splits) > 1 or [*splits] == [stored] == ["test"]:
            return super().images(stored)
        if "train" not in splits:
            raise UsageError(
                f"{self.data.name} has no split to train on, only {', '.join(splits)}: measure a trained network on it "
                "with --mode=eval --init_from=WORKDIR"
            )
        whole = super().images("train")
        digests = subsets.digests_of_numbers(len(whole.labels), randomness.TFDS_TEST_SPLIT)
        tested = subsets.stratified(whole.labels, len(whole.labels) // TEST_SHARE, digests)
        return part(whole, tested if stored == "test" else np.setdiff1d(np.arange(len(whole.labels)), tested), stored)

    def missing(self, experiment: str) -> str:
        place = data_root(self.data) / self.set_name
        found = sorted(f"tfds:{self.stem}/{path.name}" for path in _folders(place) if _versions(path))
        if found:
            return f"{self.data.name} has several configurations: choose one of those prepared, {', '.join(found)}"
        return (
            f"{self.data.name} is not prepared in {data_root(self.data)}. Prepare it once, with a network:\n"
            f"  {self.command(experiment)}\n"
            "or, where TFDS has prepared it elsewhere, copy its folder there or name the folder that holds it:\n"
            "  --set data.data_dir=FOLDER"
        )

    def build(self, download: bool, experiment: str) -> None:
        import tensorflow_datasets as tfds  # 0.4 s

        if not download:
            raise UserError(self.missing(experiment))
        manual = {"manual_dir": str(manual_folder(self.data))} if self.data.manual_dir else {}
        settings = tfds.download.DownloadConfig(try_download_gcs=False, **manual)
        try:
            builder = tfds.builder(self.set_name, data_dir=str(data_root(self.data)), file_format="array_record")
            with contextlib.redirect_stdout(sys.stderr):  # where all progress goes
                builder.download_and_prepare(download_config=settings)
        except tfds.core.DatasetNotFoundError:
            raise UserError(
                f"data.name = {self.data.name!r}: TFDS {tfds.__version__} has no set {self.stem!r}; its catalogue is "
                "at https://www.tensorflow.org/datasets/catalog"
            ) from None
        except ImportError as error:
            raise UserError(
                f"TFDS needs {error.name or error} to prepare {self.set_name}: install it beside cnn_jax "
                f"(pip install {error.name or 'tensorflow'}), or let TFDS prepare the set on another machine and name "
                "the folder that holds it with --set data.data_dir=FOLDER"
            ) from error
        # OSError: network and disk; AssertionError: files to be put in place by hand; the others: a set's own script.
        except (OSError, AssertionError, ValueError, RuntimeError, tfds.download.DownloadError) as error:
            raise UserError(f"TFDS cannot prepare {self.set_name} in {data_root(self.data)}: {error}") from error


def part(whole: ImageSource, rows: np.ndarray, name: str) -> ImageSource:
    """Returns some rows of a source, as a source of their own.

    Args:
      whole: all of its images.
      rows: int [N], ascending.
      name: "train" or "test".
    """
    labels, origin = whole.labels[rows], whole.origin | {"part": name}
    title = f"{whole.title.rpartition(' ')[0]} {name}"
    fetch = lambda some: whole.fetch(rows[some].tolist())
    return ImageSource(title, whole.shape, labels, whole.read, origin, exact=whole.exact, fetch=fetch)


@functools.lru_cache(maxsize=4)
def _info(folder):
    """Returns the `DatasetInfo` that TFDS wrote of a prepared set."""
    import tensorflow_datasets as tfds  # 0.4 s

    try:
        return tfds.builder_from_directory(folder).info
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"the prepared dataset in {folder} is damaged ({error}). Delete that folder and prepare it again"
        ) from error


def _folders(place):
    return [path for path in place.iterdir() if path.is_dir()] if place.is_dir() else []


def _versions(place):
    """The folders of prepared versions."""
    return [path for path in _folders(place) if _version(path) and (path / "dataset_info.json").is_file()]


def _version(path):
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", path.name)
    return tuple(map(int, found.groups())) if found else ()
