"""What is known of each dataset before a byte of it is read. Imports nothing heavy."""

import collections
import functools
import importlib.util
import os
from pathlib import Path

from cnn_jax.data.facts import Facts, Files
from cnn_jax.errors import UsageError

DIGITS = tuple("0123456789")


# Checksums of the four files as LeCun published them, decompressed.
MNIST_FILES = Files(
    url="https://storage.googleapis.com/cvdf-datasets/mnist/",
    megabytes=12,
    sha256={
        "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    unpacked=True,
)

# Address and checksums that TFDS 4.9.10 records for fashion_mnist/3.0.1 (url_checksums/fashion_mnist.txt).
FASHION_MNIST_FILES = Files(
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    megabytes=31,
    sha256={
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    unpacked=False,
)

# Address and checksum that TFDS 4.9.10 records for cifar10/3.0.2 (url_checksums/cifar10.txt).
CIFAR10_FILES = Files(
    url="https://www.cs.toronto.edu/~kriz/",
    megabytes=170,
    sha256={"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    unpacked=False,
)

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DATASETS = {
    "digits": Facts((28, 28, 1), DIGITS, {"train": 1437, "test": 360}, "1.0.0"),
    "mnist": Facts((28, 28, 1), DIGITS, {"train": 60_000, "test": 10_000}, "3.0.1", MNIST_FILES),
    "fashion_mnist": Facts((28, 28, 1), CLOTHES, {"train": 60_000, "test": 10_000}, "3.0.1", FASHION_MNIST_FILES),
    "cifar10": Facts((32, 32, 3), THINGS, {"train": 50_000, "test": 10_000}, "3.0.2", CIFAR10_FILES),
}

GENERATED = ("fake", "red_green")  # made as they are read

# These have properties that follow from the settings, or from files: see `facts`.
NAMES = (*DATASETS, "imagenet2012", "folder", *GENERATED)

IMAGENET_VERSION = "5.1.0"  # of TFDS's imagenet2012
IMAGENET_SPLITS = {"train": 1_281_167, "validation": 50_000}
WORDS_FILE = "LOC_synset_mapping.txt"  # ImageNet's "n01440764 tench, Tinca tinca", one synset a line, as Kaggle has it


def facts(data) -> Facts:
    """What is fixed of the dataset that a `config.Data` names.

    Args:
      data: `config.Data`, its name one of `NAMES`.

    Raises:
      UserError: `folder`: there are no class folders at data.path.
    """
    shape = data.kind.shape
    examples = getattr(data.kind, "examples", 0)
    generated = {"train": examples, "test": -(-examples // 5)}
    if data.name == "fake":
        names = tuple(f"class {label}" for label in range(data.kind.classes))
        return Facts(shape, names, generated, "")
    if data.name == "red_green":
        return Facts((32, 32, 3), ("red left of green", "green left of red"), generated, "")
    if data.name == "folder":
        from cnn_jax.data.datasets import folder  # it needs NumPy for more than this

        return Facts(shape, folder.class_names(data.kind.path), {}, "")
    if data.name == "imagenet2012":
        return Facts(shape, imagenet_names(data), IMAGENET_SPLITS, IMAGENET_VERSION, tested="validation")
    return DATASETS[data.name]


def data_root(data) -> Path:
    """The folder of all prepared datasets: data.data_dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
      UsageError: it is not a local folder.
    """
    root = data.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    if "://" in root:
        raise UsageError(f"data_dir = {root!r} must be a local folder; choose one with --set data.data_dir=FOLDER")
    return Path(root).expanduser().absolute()


def synsets() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes, by label, from the list that TFDS brings along."""
    return _brought_along("labels.txt")


def validation_synsets() -> tuple[str, ...]:
    """The WordNet id of each of ImageNet's 50,000 validation images, by number from 1, from TFDS's list."""
    return _brought_along("validation_labels.txt")


@functools.cache
def _brought_along(name):
    package = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent  # found, not imported
    return tuple((package / "datasets" / "imagenet2012" / name).read_text().split())


def imagenet_names(data) -> tuple[str, ...]:
    """ImageNet's classes in words where the words file lies with the prepared data or in data.manual_dir, else as ids.

    A class is called by the first of its words; where two classes share it, both have their id added.
    """
    folders = [data_root(data) / "imagenet2012" / IMAGENET_VERSION]
    if data.manual_dir:
        folders.append(Path(data.manual_dir).expanduser())
    for folder in folders:
        if (folder / WORDS_FILE).is_file():
            lines = (folder / WORDS_FILE).read_text().splitlines()
            words = {line.split(" ", 1)[0]: line.split(" ", 1)[1].split(",")[0] for line in lines if " " in line}
            counts = collections.Counter(words.values())
            apart = {synset: name if counts[name] == 1 else f"{name} {synset}" for synset, name in words.items()}
            return tuple(apart.get(synset, synset) for synset in synsets())
    return synsets()
