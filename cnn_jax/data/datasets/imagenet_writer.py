"""ImageNet (ILSVRC 2012) from its two official archives to what the stock TFDS class reads, without TensorFlow.

The archives are not unpacked: where each image lies in them is found first, then the examples are copied to ArrayRecord
files in one fixed random order, file after file. What is there after a kill is kept. Random, so that the first N
examples are a fair sample (data.limit), and neighbours are of different classes as in TFDS's own files.

    <manual_dir>/ILSVRC2012_img_train.tar    of 1,000 archives n01440764.tar, ..., one for each class
    <manual_dir>/ILSVRC2012_img_val.tar      of ILSVRC2012_val_00000001.JPEG, ...
"""

import dataclasses
import io
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_jax import buckets, files, randomness
from cnn_jax.data.batches import order
from cnn_jax.data.datasets.imagenet import NAME, SPLITS, VERSION, synsets, validation_synsets
from cnn_jax.data.images import records
from cnn_jax.data.images.decode import DAMAGED, FORMATS
from cnn_jax.errors import UserError
from cnn_jax.progress import Counter

ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
SIZES = {"train": "138 GB", "validation": "6.3 GB"}
HOMEPAGE = "https://image-net.org/download-images"
SHARD_BYTES = 2**28  # of the images in one file: about 520 files for training
QUALITY = 95  # of the JPEGs that stand for the few images that are PNG or CMYK


@dataclasses.dataclass(frozen=True)
class Member:
    """An image in an archive.

    Attributes:
      name: of its file.
      label: from 0.
      begin: its first byte, counted from the beginning of the archive.
      size: bytes.
    """

    name: str
    label: int
    begin: int
    size: int


def prepare(root: Path, manual_dir: str, command: str) -> None:
    """Writes <root>/imagenet2012/5.1.0, or goes on with it.

    Args:
      root: of the prepared datasets.
      manual_dir: the folder of the archives.
      command: how the user starts the preparation, for messages.

    Raises:
      UserError: an archive is missing or damaged, or the disk is full.
    """
    final = root / NAME / VERSION
    staging = root / NAME / f"{VERSION}.partial"  # a name that TFDS does not take for a version
    archives = _archives(manual_dir, root, command)
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(root / NAME / "prepare.lock", f"prepare {NAME}"):
            if final.exists():  # by another process, meanwhile
                return
            _fill(staging, archives, command)
            staging.rename(final)
    # ArrayRecord reports a full disk as ValueError or RuntimeError.
    except (OSError, ValueError, RuntimeError) as error:
        free = files.gigabytes(files.free_bytes(staging))
        raise UserError(
            f"cannot write {NAME} to {staging} ({error}; {free} free on its disk); "
            f"the same command goes on from there:\n  {command}"
        ) from error


def missing(root: Path, command: str, problem: str) -> str:
    """Returns a message: the problem, which files to fetch, where to put them and which command to run."""
    listing = "".join(f"\n  {ARCHIVES[split]}  ({SIZES[split]})" for split in ARCHIVES)
    return (
        f"{NAME} is not prepared in {root}: {problem}. Put these two files, to be had after registration at "
        f"{HOMEPAGE}, into a folder:{listing}\n"
        f"and name that folder; another 150 GB are needed in {root}:\n  {command}\n"
        f"Data that TFDS itself prepared is used as it is: --set data.data_dir=FOLDER, where FOLDER/{NAME}/"
        f"{VERSION} is"
    )


def _archives(manual_dir, root, command):
    if not manual_dir:
        raise UserError(missing(root, command, "no folder with the official archives was given"))
    folder = files.place(manual_dir, f"data.manual_dir = {manual_dir!r}")
    absent = [name for name in ARCHIVES.values() if not (folder / name).is_file()]
    if absent:
        raise UserError(missing(root, command, f"{folder} lacks {' and '.join(absent)}"))
    if not buckets.is_far(folder):
        return {split: folder / name for split, name in ARCHIVES.items()}
    # Images are copied in a random order, for which a disk is needed.
    near = {split: root / "downloads" / NAME / name for split, name in ARCHIVES.items()}
    needed = sum(files.size(folder / path.name) for path in near.values() if not path.exists())
    files.check_space(root, needed, f"the archives of {NAME}", f"choose another disk:\n  {command}")
    for path in near.values():
        print(f"copying {folder / path.name} to {path}", file=sys.stderr, flush=True)
        buckets.fetch(folder / path.name, path)
    return near


def _fill(staging, archives, command):
    """Everything that belongs into the folder, without what is already there."""
    members = {split: _index(split, path) for split, path in archives.items()}
    _start(staging, {split: [len(found), archives[split].stat().st_size] for split, found in members.items()})
    total = sum(member.size for found in members.values() for member in found)
    present = sum(path.stat().st_size for path in staging.glob(f"{NAME}-*-of-*"))
    files.check_space(staging, total - present, f"the examples of {NAME}", f"choose another disk:\n  {command}")
    serialise = _serialiser()
    lengths = {
        split: _write_split(staging, split, archives[split], found, serialise) for split, found in members.items()
    }
    _write_info(staging, lengths)
    for split, found in members.items():
        labels = np.array([member.label for member in _in_order(found)], np.int32)
        records.write_labels(staging / "decoded" / f"{split}_index.npz", records.describe(staging, NAME, split), labels)


def _start(staging, archives):
    """An empty folder, or the one of an earlier start with the same archives."""
    note = staging / "archives.json"
    try:
        same = files.read_json(note) == archives
    except (OSError, ValueError):
        same = False
    if staging.exists() and not same:
        shutil.rmtree(staging)
    staging.mkdir(exist_ok=True)
    files.replace(note, lambda file: file.write(json.dumps(archives).encode()))


def _index(split, path) -> list[Member]:
    """Every image of an archive."""
    found = []
    try:
        with (
            open(path, "rb") as file,
            Counter(f"looking through {path.name}", SPLITS[split]) as counter,
        ):
            for member in _train_members(file) if split == "train" else _validation_members(file):
                found.append(member)
                if len(found) % 1000 == 0:
                    counter.advance(1000)
            size = os.fstat(file.fileno()).st_size
            if any(member.begin + member.size > size for member in found):
                raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        raise UserError(
            f"{path} is damaged or cut short ({error}): compare its size with the {SIZES[split]} at {HOMEPAGE}, and "
            "fetch it again"
        ) from error
    if not found:
        raise UserError(f"{path} holds no image")
    return found


def _train_members(file):
    labels = {synset: label for label, synset in enumerate(synsets())}
    for archive in tarfile.open(fileobj=file, mode="r:"):
        synset = Path(archive.name).stem
        if not archive.isfile() or Path(archive.name).suffix != ".tar":
            continue
        if synset not in labels:
            raise UserError(f"{file.name} holds {archive.name}, which is none of ImageNet's 1,000 classes")
        file.seek(archive.offset_data)  # tarfile counts from the file's beginning, wherever it is opened
        for image in tarfile.open(fileobj=file, mode="r:"):
            if image.isfile():
                yield Member(Path(image.name).name, labels[synset], image.offset_data, image.size)


def _validation_members(file):
    labels = {synset: label for label, synset in enumerate(synsets())}
    truth = validation_synsets()
    for image in tarfile.open(fileobj=file, mode="r:"):
        name = Path(image.name).name
        if not image.isfile():
            continue
        number = name.removeprefix("ILSVRC2012_val_").removesuffix(".JPEG")
        if not number.isdecimal() or not 1 <= int(number) <= len(truth):
            raise UserError(f"{file.name} holds {name}; expected ILSVRC2012_val_00000001.JPEG to ..._00050000.JPEG")
        yield Member(name, labels[truth[int(number) - 1]], image.offset_data, image.size)


def _in_order(members):
    """The examples as they are stored. Sorted by name first: the order of an archive is an accident."""
    members = sorted(members, key=lambda member: member.name)
    return [members[row] for row in order.random_order(len(members), 0, randomness.STORED_ORDER)]


def _write_split(staging, split, archive, members, serialise):
    """The files of a split that are not there yet; the number of examples in each, and the bytes of all."""
    count = -(-sum(member.size for member in members) // SHARD_BYTES)
    parts = np.array_split(np.arange(len(members)), min(count, len(members)))
    ordered = _in_order(members)
    names = [f"{NAME}-{split}.array_record-{number:05d}-of-{len(parts):05d}" for number in range(len(parts))]
    done = sum(len(part) for name, part in zip(names, parts) if (staging / name).exists())
    with open(archive, "rb") as file, Counter(f"writing {NAME} {split}", len(members), done) as counter:
        for name, part in zip(names, parts):
            if not (staging / name).exists():
                examples = (_example(file, ordered[row]) for row in part)
                _write_shard(staging / name, (serialise(example) for example in examples), counter)
    return [len(part) for part in parts], sum((staging / name).stat().st_size for name in names)


def _write_shard(path, serialised, counter):
    """One file; it appears under its name once it is whole."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    partial = path.with_name(f".{path.name}")
    writer, count = ArrayRecordWriter(str(partial), "group_size:1"), 0
    for example in serialised:
        writer.write(example)
        count += 1
        counter.advance(1)
    writer.close()
    reader = ArrayRecordReader(str(partial))
    written = reader.num_records()
    reader.close()
    if written != count:
        raise ValueError(f"{partial} holds {written} of {count} examples")
    descriptor = os.open(partial, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    partial.rename(path)


def _example(file, member):
    encoded = os.pread(file.fileno(), member.size, member.begin)
    return {"image": io.BytesIO(_as_rgb_jpeg(encoded)), "label": member.label, "file_name": member.name}


def _as_rgb_jpeg(encoded):
    """JPEG as it is; the 22 CMYK images and the PNG among ImageNet's encoded anew. What is no image stays what it is,
    to be named when it is decoded."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                return encoded
            anew = io.BytesIO()
            image.convert("RGB").save(anew, "jpeg", quality=QUALITY, subsampling=0)
            return anew.getvalue()
    except DAMAGED:
        return encoded


def _features():
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=list(synsets())),
            "file_name": tfds.features.Text(),
        }
    )


def _serialiser():
    import tensorflow_datasets as tfds

    features = _features()
    serialiser = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    return lambda example: serialiser.serialize_example(features.encode_example(example))


def _write_info(folder, lengths):
    """dataset_info.json, features.json and the labels, as TFDS writes them."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    version = tfds.core.Version(VERSION)
    identity = DatasetIdentity(name=NAME, version=version, data_dir=str(folder), module_name=__name__)
    info = tfds.core.DatasetInfo(
        builder=identity,
        description="ILSVRC 2012, commonly known as ImageNet.",
        features=_features(),
        supervised_keys=("image", "label"),
        homepage="https://image-net.org/",
    )
    info.set_file_format("array_record")
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name=NAME, filetype_suffix="array_record")
    info.set_splits(
        tfds.core.splits.SplitDict(
            [
                tfds.core.SplitInfo(
                    name=split, shard_lengths=shards, num_bytes=size, filename_template=template.replace(split=split)
                )
                for split, (shards, size) in lengths.items()
            ]
        )
    )
    info.write_to_directory(folder)
