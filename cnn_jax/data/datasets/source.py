"""Datasets as arrays of images: prepared once on disk in TFDS's own format, then loaded decoded or decoded when read.

Only what has to be prepared or decoded imports tensorflow_datasets, which takes half a second.
"""

import http.client
import os
import shlex
from pathlib import Path

import numpy as np

from cnn_jax import config, randomness
from cnn_jax.data.batches import order
from cnn_jax.data.datasets import catalog, cifar, fake, folder, idx, red_green
from cnn_jax.data.datasets.catalog import data_root
from cnn_jax.data.images import decoded, placement, records
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.data.images.reader import Store, Unreadable
from cnn_jax.errors import UsageError, UserError

SPLITS = ("train", "validation", "test")


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
    if not is_prepared(data):
        if data.name != "digits":
            raise UserError(_not_prepared(data, experiment))
        _build(data, download=False, experiment=experiment)
    facts = catalog.facts(data)
    stored = facts.tested if split == "test" else "train"
    about = {"class_names": facts.class_names, "name": data.name, "split": split}
    if data.name in catalog.DATASETS and data.placement != "stream":
        images, labels = decoded.read(_folder(data), data.name, stored, facts)
        if data.validation and split != "test":
            chosen = _rows(data, split, labels)
            images, labels = images[chosen], labels[chosen]
            images.flags.writeable = labels.flags.writeable = False
        kept = slice(data.limit or None)
        return Dataset(images[kept], labels[kept], **about)
    store = _store(data, stored, facts)
    rows = _rows(data, split, store.labels)
    cached = _cache(data, stored, store)
    images, where, reason = placement.place(data, store, rows, cached)
    labels = store.labels[rows]
    labels.flags.writeable = False
    return Dataset(images, labels, **about, where=where, reason=reason)


facts = catalog.facts


def training_examples(data: config.Data) -> int | None:
    """The number of stored training examples, by listing files; None where nothing tells it before it is prepared.

    Raises:
      UserError: `folder`: there are no class folders at data.path.
    """
    if data.name == "folder":
        return len(folder.files(data.kind.path, "train")[0])
    if data.name == "imagenet2012" and is_prepared(data):
        return records.describe(_folder(data), data.name, "train")["examples"]
    return catalog.facts(data).splits.get("train")


def _rows(data, split, labels):
    """Which stored examples a split consists of, ascending."""
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


def _store(data, stored, facts) -> Store:
    """A stored split, its images decoded when they are read."""
    if data.name == "fake":
        return fake.store(stored, facts.splits[stored], facts.classes, data.kind.side)
    if data.name == "red_green":
        return red_green.store(stored, facts.splits[stored])
    if data.name == "folder":
        return folder.store(data.kind.path, stored, data.kind.side)
    from cnn_jax.data.images import decode  # Pillow, only here

    fixed = data.name in catalog.DATASETS

    def read(row):
        try:
            example = examples[row]
        except (RuntimeError, ValueError, OSError, KeyError) as error:  # of ArrayRecord and of the files
            raise Unreadable(f"example {row} ({error})") from error
        name = example["file_name"].decode() if "file_name" in example else f"example {row}"
        if fixed:
            return decode.exact(example["image"], facts.shape, name)
        return decode.square(example["image"], facts.shape[0], name)

    with decoded.damage_reported(_folder(data), stored):
        examples = records.Records(_folder(data), data.name, stored)
        labels = examples.labels()
        if not len(labels) or labels.min() < 0 or labels.max() >= facts.classes:
            raise ValueError(f"{len(labels)} examples found; labels from 0 to {facts.classes - 1} expected")
    origin = examples.origin | {"decoding": decode.FORMAT, "side": facts.shape[0]}
    return Store(examples.title, facts.shape, labels, read, origin)


def _cache(data, stored, store):
    """Where the decoded images of a large set are kept; None for those that take no reading."""
    if data.name == "imagenet2012":
        return placement.cache_for(store, _folder(data) / "decoded", stored)
    if data.name == "folder":
        return placement.cache_for(store, data_root(data) / "folder" / folder.cache_name(data.kind.path), stored)
    return None


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
    if data.name in ("folder", *catalog.GENERATED):
        counts = [f"{len(_store(data, split, catalog.facts(data)).labels):,} {split}" for split in ("train", "test")]
        return f"{data.name} needs no preparation: {' and '.join(counts)} examples{_decode_all(data)}"
    state = "already prepared" if is_prepared(data) else "prepared"
    if state == "prepared":
        _build(data, download, experiment)
    facts = catalog.facts(data)
    if data.name == "imagenet2012":
        lengths = {split: records.describe(_folder(data), data.name, split)["examples"] for split in facts.splits}
    else:
        lengths = {split: len(decoded.read(_folder(data), data.name, split, facts)[1]) for split in facts.splits}
    counts = " and ".join(f"{count:,} {split}" for split, count in lengths.items())
    sentence = f"{data.name} is {state} in {_folder(data)}: {counts} examples"
    if data.name == "imagenet2012" and lengths != facts.splits:
        whole = " and ".join(f"{count:,}" for count in facts.splits.values())
        sentence += f"\nwarning: the whole of ImageNet has {whole}; this is another set"
    return sentence + _decode_all(data)


def _decode_all(data):
    """Decodes what will be needed decoded, once; a clause that says where it is."""
    if data.name not in ("imagenet2012", "folder") or data.limit:
        return ""
    parts = [load(data, split) for split in ("train", "test")]
    how = {"cache": "", "stream": "decoded at every use, "}
    return "".join(f"\n{part.split}: {how[part.where]}{part.reason}" for part in parts)


def is_prepared(data: config.Data) -> bool:
    """Whether the dataset lies ready in the data folder, or needs nothing there."""
    return data.name in ("folder", *catalog.GENERATED) or (_folder(data) / "dataset_info.json").is_file()


def _folder(data):
    return data_root(data) / data.name / catalog.facts(data).version


def _build(data, download, experiment):
    """Writes a dataset that is not there yet."""
    root, folder = data_root(data), _folder(data)
    if folder.exists():
        raise UserError(f"{folder} exists but holds no complete dataset: delete that folder and prepare it again")
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise PermissionError(f"no permission to write to {root}")
        if data.name == "imagenet2012":
            from cnn_jax.data.datasets import imagenet  # Pillow, only here

            imagenet.prepare(root, data.manual_dir, _command(data, experiment) + " --set data.manual_dir=FOLDER")
            return
        from cnn_jax.data.datasets import builders  # half a second, and only needed here

        arrays = _arrays(data, download, experiment) if catalog.DATASETS[data.name].files else builders.digits_arrays()
        builders.build(data.name, root, arrays)
    except OSError as error:
        raise UserError(
            f"cannot write the {data.name} dataset to the data folder {root} ({error}): "
            "choose another with --set data.data_dir=FOLDER"
        ) from error


def _arrays(data, download, experiment):
    """The published files' contents, from manual_dir or the network."""
    read_folder = cifar.read_folder if data.name == "cifar10" else idx.read_folder
    if data.manual_dir:
        return read_folder(data.name, Path(data.manual_dir).expanduser())
    if not download:
        raise UserError(_not_prepared(data, experiment))
    fetched = data_root(data) / "downloads" / data.name
    try:
        idx.download(data.name, fetched)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(_not_prepared(data, experiment, failure=error)) from error
    return read_folder(data.name, fetched)


def _not_prepared(data, experiment, failure=None):
    """What is missing and every way to get it, with commands to copy."""
    command = _command(data, experiment)
    if data.name == "imagenet2012":
        from cnn_jax.data.datasets import imagenet  # Pillow, only here

        return imagenet.missing(data_root(data), f"{command} --set data.manual_dir=FOLDER", "nothing of it is there")
    files = catalog.DATASETS[data.name].files
    if failure:
        first = f"the download from {files.url} failed ({failure})."
    else:
        first = f"Prepare it once, with a network ({files.megabytes} MB):\n  {command}"
    names = "".join(f"\n  {name}" for name in files.sha256)
    these = f"these {len(files.sha256)} files" if len(files.sha256) > 1 else "this file"
    return (
        f"{data.name} is not prepared in {data_root(data)}{', and ' if failure else '. '}{first}\n"
        f"Without a network, put {these}, published at {files.url}, into a folder:{names}\n"
        f"and name that folder:\n  {command} --set data.manual_dir=FOLDER"
    )


def _command(data, experiment):
    """What prepares the data, up to where its files lie."""
    command = f"python launch.py --experiment={experiment or 'NAME'} --mode=prepare"
    if not experiment:
        command += f" --set data.name={data.name}"
    return command + (f" --set data.data_dir={shlex.quote(data.data_dir)}" if data.data_dir else "")
