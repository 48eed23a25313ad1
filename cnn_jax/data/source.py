"""Datasets as arrays: prepared once on disk in TFDS's own format, then loaded decoded.

Only what has to be prepared or decoded imports tensorflow_datasets, which takes half a second.
"""

import dataclasses
import http.client
import os
import shlex
from pathlib import Path

import numpy as np

from cnn_jax import config
from cnn_jax.data import catalog, decoded, idx, plan
from cnn_jax.errors import UsageError, UserError

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split, decoded, at its stored size.

    Attributes:
      images: uint8 [N, H, W, C], read-only.
      labels: int32 [N], read-only.
      class_names: what each label, from 0, stands for.
      name: the dataset, such as "mnist".
      split: "train", "validation" or "test".
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    split: str


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
        if catalog.DATASETS[data.name].files:
            raise UserError(_not_prepared(data, experiment))
        _build(data, download=False, experiment=experiment)
    images, labels = _read(data, "test" if split == "test" else "train")
    if data.validation and split != "test":
        if data.validation >= len(labels):
            raise UsageError(
                f"data.validation = {data.validation} must be smaller than the {len(labels)} training examples "
                f"of {data.name} it is taken from"
            )
        held_out = np.zeros(len(labels), bool)
        held_out[plan.stratified(labels, data.validation, plan.VALIDATION_SPLIT)] = True
        chosen = np.flatnonzero(held_out if split == "validation" else ~held_out)
        chosen = chosen[: data.limit or None]
        images, labels = images[chosen], labels[chosen]
        images.flags.writeable = labels.flags.writeable = False
    kept = slice(data.limit or None)
    return Dataset(images[kept], labels[kept], catalog.DATASETS[data.name].class_names, data.name, split)


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
    state = "already prepared" if is_prepared(data) else "prepared"
    if state == "prepared":
        _build(data, download, experiment)
    counts = [f"{len(_read(data, split)[1]):,} {split}" for split in catalog.DATASETS[data.name].splits]
    return f"{data.name} is {state} in {_folder(data)}: {' and '.join(counts)} examples"


def is_prepared(data: config.Data) -> bool:
    """Whether the dataset lies ready in the data folder."""
    return (_folder(data) / "dataset_info.json").is_file()


def data_root(data: config.Data) -> Path:
    """The folder of all prepared datasets: data.data_dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
      UsageError: it is not a local folder.
    """
    root = data.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    if "://" in root:
        raise UsageError(f"data_dir = {root!r} must be a local folder; choose one with --set data.data_dir=FOLDER")
    return Path(root).expanduser().absolute()


def _folder(data):
    return data_root(data) / data.name / catalog.DATASETS[data.name].version


def _read(data, split):
    return decoded.read(_folder(data), data.name, split, catalog.DATASETS[data.name])


def _build(data, download, experiment):
    """Writes a dataset that is not there yet."""
    root, folder = data_root(data), _folder(data)
    if folder.exists():
        raise UserError(f"{folder} exists but holds no complete dataset: delete that folder and prepare it again")
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise PermissionError(f"no permission to write to {root}")
        from cnn_jax.data import builders  # half a second, and only needed here

        arrays = _arrays(data, download, experiment) if catalog.DATASETS[data.name].files else builders.digits_arrays()
        builders.build(data.name, root, arrays)
    except OSError as error:
        raise UserError(
            f"cannot write the {data.name} dataset to the data folder {root} ({error}): "
            "choose another with --set data.data_dir=FOLDER"
        ) from error


def _arrays(data, download, experiment):
    """The published files' contents, from manual_dir or the network."""
    if data.manual_dir:
        return idx.read_folder(data.name, Path(data.manual_dir).expanduser())
    if not download:
        raise UserError(_not_prepared(data, experiment))
    fetched = data_root(data) / "downloads" / data.name
    try:
        idx.download(data.name, fetched)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(_not_prepared(data, experiment, failure=error)) from error
    return idx.read_folder(data.name, fetched)


def _not_prepared(data, experiment, failure=None):
    """What is missing and every way to get it, with commands to copy."""
    files = catalog.DATASETS[data.name].files
    command = f"python launch.py --experiment={experiment or 'NAME'} --mode=prepare"
    if data.data_dir:
        command += f" --set data.data_dir={shlex.quote(data.data_dir)}"
    if failure:
        first = f"the download from {files.url} failed ({failure})."
    else:
        first = f"Prepare it once, with a network ({files.megabytes} MB):\n  {command}"
    names = "".join(f"\n  {name}" for name in files.sha256)
    return (
        f"{data.name} is not prepared in {data_root(data)}{', and ' if failure else '. '}{first}\n"
        f"Without a network, put these {len(files.sha256)} files, published at {files.url}, into a folder:{names}\n"
        f"and name that folder:\n  {command} --set data.manual_dir=FOLDER"
    )
