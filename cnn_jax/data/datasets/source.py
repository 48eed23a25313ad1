"""Datasets as arrays of images: prepared once on disk in TFDS's own format, then loaded decoded or decoded when read.

Only what has to be prepared or decoded imports tensorflow_datasets, which takes half a second.
"""

import numpy as np

from cnn_jax import config
from cnn_jax.config import data as declared
from cnn_jax.data import subsets
from cnn_jax.data.datasets import fake, folder, imagenet, published, quadrants, red_green, tfds
from cnn_jax.data.datasets.base import Source
from cnn_jax.data.facts import Facts
from cnn_jax.data.identity import Identity
from cnn_jax.data.images import placement
from cnn_jax.data.images.cache import Cache
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.data.images.reader import ImageSource, Reading
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
    declared.Quadrants: quadrants.Quadrants,
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


def identity(data: config.Data) -> Identity:
    """Returns what the data are that lie there now; files below 1 GB are read.

    Raises:
      UserError: see `facts`.
    """
    source = of(data)
    known, stored, splits = source.facts(), source.files(), {}
    for split in SPLITS:
        if split == "validation" and not validates(data, known):
            continue
        images = _stored(source, split)
        if images.names:
            splits[split] = [images.names[row] for row in _rows(source, split, images, digests_of(images))]
        else:
            break
    return Identity(
        name=data.name,
        shape=known.shape,
        class_names=known.class_names,
        validated=known.validated,
        files=stored,
        splits=splits,
        left_out=source.left_out(),
        notes=source.notes(),
    )


def validates(data: config.Data, known: Facts) -> bool:
    """Tells whether there is a validation split: held out of the training images, or of the dataset's own."""
    return data.validation > 0 or known.validated


def has_validation(settings: config.Config) -> bool:
    """Tells whether there are validation images under the settings of a run; its data are asked."""
    return validates(settings.data, facts(settings.data))


def reading(data: config.Data, known: Facts) -> tuple[Reading, bool]:
    """Returns how a picture is read as the images of a dataset are.

    Returns:
      What is made of a file, and whether it is a drawing to be cut out and centred, as in sets like MNIST: of images
      that are stored at their size, in shades of grey.
    """
    channels = known.shape[2]
    if isinstance(data.kind, declared.Folder):
        return Reading(data.kind.exif, data.kind.ground, channels), False
    return Reading(channels=channels), channels == 1


def load_unseen(data: config.Data, known: Identity, now: Identity) -> Dataset:
    """Returns the images, of data other than a run's, that it was neither trained on nor chosen by.

    Args:
      data: which data.
      known: the data of the run.
      now: those that `data` names.

    Raises:
      UserError: there are none, or there are classes that the run does not know.
    """
    source = of(data)
    if not isinstance(source, folder.Folder):
        return load(data, "test")
    images = source.unseen(known, now)
    found, where, reason = placement.place(data, images, np.arange(len(images.labels)), None)
    about = {"class_names": known.class_names, "name": data.name, "split": "test"}
    return Dataset(found, images.labels, **about, where=where, reason=reason)


def load(data: config.Data, split: str, experiment: str = "", known: Identity | None = None) -> Dataset:
    """Returns one split of a prepared dataset; `digits`, which needs no file, is prepared on first use.

    "validation" is a stratified subset of the stored training split, the same for every run, and "train" is the rest
    in stored order. `data.limit` then keeps as many examples of each, see `subsets`.

    Args:
      data: which data, and how much of it.
      split: "train", "validation" or "test".
      experiment: the experiment's name, for the command that a message tells to run.
      known: the data of a run, whose list decides which images a split has.

    Raises:
      UsageError: there is no such validation split.
      UserError: the data is not prepared, or damaged.
      ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split = {split!r} must be one of {', '.join(SPLITS)}")
    source = of(data)
    source.make_ready(experiment)
    about = source.facts()
    if split == "validation" and not validates(data, about):
        raise UsageError("there is no validation split: hold out training examples with --set data.validation=NUMBER")
    images_of = _stored(source, split)
    digests = digests_of(images_of)
    if known and split in known.splits:
        rows = known.rows(split, images_of.names)
    else:
        rows = _rows(source, split, images_of, digests)
    decoded = source.cache_folder()
    cached = None if decoded is None else Cache(images_of, decoded, stored_split(about, split))
    images, where, reason = placement.place(data, images_of, rows, cached)
    labels = images_of.labels[rows]
    labels.flags.writeable = False
    return Dataset(
        images,
        labels,
        class_names=about.class_names,
        name=data.name,
        split=split,
        where=where,
        reason=reason,
        digests=digests[rows] if data.subsets == "digest" else None,
    )


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


def digests_of(images: ImageSource) -> np.ndarray:
    """Returns the digest of each example, by its name or else its number, uint64 [N]."""
    return subsets.digests_of_names(images.names) if images.names else subsets.digests_of_numbers(len(images.labels))


def stored_split(known: Facts, split: str) -> str:
    """Returns the stored split that a split is taken from."""
    if split == "test":
        return known.tested
    return "validation" if split == "validation" and known.validated else "train"


def _stored(source, split):
    return source.images(stored_split(source.facts(), split))


def _rows(source, split, images, digests):
    """Returns the indices of the stored examples that make up a split, ascending."""
    data, labels = source.data, images.labels
    chosen, tested = np.arange(len(labels)), source.tested(labels, images.names)
    if tested is not None:
        chosen = tested if split == "test" else np.setdiff1d(chosen, tested)
    by_digest = data.subsets == "digest"
    if data.validation and split != "test" and not source.facts().validated:
        if data.validation >= len(chosen):
            raise UsageError(
                f"data.validation = {data.validation} must be smaller than the {len(chosen)} training examples "
                f"of {data.name} it is taken from"
            )
        numbers = digests[chosen] if by_digest else subsets.digests_of_numbers(len(chosen))
        held_out = chosen[subsets.stratified(labels[chosen], data.validation, numbers)]
        chosen = held_out if split == "validation" else np.setdiff1d(chosen, held_out)
    if not data.limit or data.limit >= len(chosen):
        return chosen
    if by_digest:
        return chosen[subsets.stratified(labels[chosen], data.limit, digests[chosen])]
    return chosen[: data.limit]
