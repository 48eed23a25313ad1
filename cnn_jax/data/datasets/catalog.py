"""The published datasets: what is known of them before a byte is read. Imports nothing heavy."""

import os
from pathlib import Path

from cnn_jax import files
from cnn_jax.data.facts import Facts, Files

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


def data_root(data) -> Path:
    """Returns the folder of all prepared datasets: data.data_dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
      UsageError: it is neither on a disk nor in a bucket.
    """
    if data.data_dir:
        return files.place(data.data_dir, f"data.data_dir = {data.data_dir!r}")
    root = os.environ.get("TFDS_DATA_DIR")
    return files.place(root, f"TFDS_DATA_DIR={root}") if root else Path("~/tensorflow_datasets").expanduser()


def manual_folder(data) -> Path:
    """Returns the folder of the files that a person has put there, data.manual_dir.

    Raises:
      UsageError: it is neither on a disk nor in a bucket.
    """
    return files.place(data.manual_dir, f"data.manual_dir = {data.manual_dir!r}")
