"""Datasets as arrays of images: prepared once on disk in TFDS's own format, then loaded decoded or decoded when read.

Only what has to be prepared or decoded imports tensorflow_datasets, which takes half a second.
"""

import numpy as np

from cnn_jax import config, randomness
from cnn_jax.config import data as declared
from cnn_jax.data.batches import order
from cnn_jax.data.datasets import fake, folder, imagenet, published, red_green, tfds
from cnn_jax.data.datasets.base import Source
from cnn_jax.data.facts import Facts
from cnn_jax.data.images import placement
from cnn_jax.data.images.cache import Cache
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.errors import UsageError

SPLITS = ("train", "validation", "test")
SOURCES = {
    declared.Digits: published.Digits,
    declared.Mnist: published.Published,
    declared.FashionMnist: published.Published,
    declared.Cifar10: published.Cifar10,
    declared.ImageNet: imagenet.ImageNet,
    declared.Tfds: tfds.Tfds,
    declared.Folder: folder.Folder,
    declared.Fake: fake.Fake,
    declared.RedGreen: red_green.RedGreen,
}


def of(data: config.Data) -> Source:
    """Returns the source of the images that the settings name."""
    return SOURCES[type(data.kind)](data)


def facts(data: config.Data) -> Facts:
    """Returns the fixed properties of a dataset, known before an image is read.

    Raises:
      UserError: `folder`: there are no class folders at data.path; `tfds:NAME`: it is not prepared.
    """
    return of(data).facts()


def load(data: config.Data, split: str, experiment: str = "") -> Dataset:
    """One split of a prepared dataset; `digits`, which needs no file, is prepared on first use.

    "validation" is a stratified subset of the stored training split, the same for every run, and "train" is the rest
    in stored order. `data.limit` then keeps the first examples of each.

    Args:
      data: which data, and how much of it.
      split: "train", "validation" or "test".
      experiment: the experiment's name, for the command that a message tells to run.

    Raises:
      UsageError: there is no such validation split.
      UserError: the data is not prepared, or damaged.
      ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split = {split!r} must be one of {', '.join(SPLITS)}")
    if split == "validation" and not data.validation:
        raise UsageError("there is no validation split: hold out training examples with --set data.validation=NUMBER")
    source = of(data)
    source.make_ready(experiment)
    known = source.facts()
    stored = known.tested if split == "test" else "train"
    about = {"class_names": known.class_names, "name": data.name, "split": split}
    images_of = source.images(stored)
    rows = _rows(data, split, images_of.labels)
    decoded = source.cache_folder()
    cached = None if decoded is None else Cache(images_of, decoded, stored)
    images, where, reason = placement.place(data, images_of, rows, cached)
    labels = images_of.labels[rows]
    labels.flags.writeable = False
    return Dataset(images, labels, **about, where=where, reason=reason)


def prepare(data: config.Data, download: bool = True, experiment: str = "") -> str:
    """Gets a dataset ready to be loaded, once: fetches, verifies, writes, and decodes it.

    The files come from `data.manual_dir` where it is given, else from the address of their publisher. What is already
    prepared is read through instead.

    Args:
      data: which data, and where it lies or shall lie.
      download: whether the network may be used.
      experiment: the experiment's name, for the command that a message tells to run.

    Returns:
      A sentence: where the data is, and how many examples each split has.

    Raises:
      UserError: files are missing, damaged or not the published ones, or the folder cannot be written.
    """
    source = of(data)
    sentence = source.prepare(download, experiment)
    if data.limit or source.cache_folder() is None:
        return sentence
    parts = [load(data, split) for split in ("train", "test")]  # decodes what will be needed decoded
    how = {"cache": "", "stream": "decoded at every use, "}
    return sentence + "".join(f"\n{part.split}: {how[part.where]}{part.reason}" for part in parts if part.reason)


def _rows(data, split, labels):
    """Returns the indices of the stored examples that make up a split, ascending."""
    chosen = np.arange(len(labels))
    if data.validation and split != "test":
        if data.validation >= len(labels):
            raise UsageError(
                f"data.validation = {data.validation} must be smaller than the {len(labels)} training examples "
                f"of {data.name} it is taken from"
            )
        held_out = np.zeros(len(labels), bool)
        held_out[order.stratified(labels, data.validation, randomness.VALIDATION_SPLIT)] = True
        chosen = np.flatnonzero(held_out if split == "validation" else ~held_out)
    return chosen[: data.limit or None]
