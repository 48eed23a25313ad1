"""ImageNet: ILSVRC 2012. `imagenet_writer` prepares it."""

import functools
import importlib.util
from pathlib import Path

from cnn_jax.data.datasets.base import Stored
from cnn_jax.data.datasets.catalog import data_root
from cnn_jax.data.facts import Facts

NAME = "imagenet2012"
VERSION = "5.1.0"  # of TFDS's imagenet2012
SPLITS = {"train": 1_281_167, "validation": 50_000}


class ImageNet(Stored):
    """Photographs of many sizes, each stored as the square from its middle."""

    def facts(self) -> Facts:
        return Facts(self.data.kind.shape, class_names(), SPLITS, VERSION, tested="validation", exact=False)

    def training_examples(self) -> int | None:
        return self.lengths()["train"] if self.is_prepared() else super().training_examples()

    def prepare(self, download: bool, experiment: str) -> str:
        sentence = super().prepare(download, experiment)
        if self.lengths() != SPLITS:
            whole = " and ".join(f"{count:,}" for count in SPLITS.values())
            sentence += f"\nwarning: the whole of ImageNet has {whole}; this is another set"
        return sentence

    def write(self, root: Path, download: bool, experiment: str) -> None:
        from cnn_jax.data.datasets import imagenet_writer  # Pillow, only here

        imagenet_writer.prepare(root, self.data.manual_dir, f"{self.command(experiment)} --set data.manual_dir=FOLDER")

    def missing(self, experiment: str) -> str:
        from cnn_jax.data.datasets import imagenet_writer

        command = f"{self.command(experiment)} --set data.manual_dir=FOLDER"
        return imagenet_writer.missing(data_root(self.data), command, "nothing of it is there")


def synsets() -> tuple[str, ...]:
    """Returns the WordNet ids of ImageNet's 1,000 classes, by label, from the list that TFDS brings along."""
    return _brought_along("labels.txt")


def validation_synsets() -> tuple[str, ...]:
    """Returns the WordNet id of each of ImageNet's 50,000 validation images, by number from 1, from TFDS's list."""
    return _brought_along("validation_labels.txt")


@functools.cache
def _brought_along(name):
    package = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent  # found, not imported
    return tuple((package / "datasets" / "imagenet2012" / name).read_text().split())


@functools.cache
def class_names() -> tuple[str, ...]:
    """ImageNet's 1,000 classes in words, by label, as torchvision has them: no two are alike."""
    lines = (Path(__file__).parent / "imagenet_words.txt").read_text(encoding="utf-8").splitlines()
    words = dict(line.split(" ", 1) for line in lines)
    return tuple(words[synset] for synset in synsets())
