import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from tiny_data import tiny_arrays, write_tiny

from cnn_jax import config
from cnn_jax.data.datasets import catalog, source
from cnn_jax.errors import UserError

TRAIN, TEST = 120, 40


@pytest.fixture
def mnist(tmp_path):
    """A tiny prepared `mnist`; returns a function that makes the data settings for it."""
    write_tiny("mnist", tmp_path, TRAIN, TEST)
    return lambda **changes: config.Data.of(name="mnist", data_dir=str(tmp_path), **changes)


def folder_of(data):
    return Path(data.data_dir) / data.name / catalog.DATASETS[data.name].version


def pairs(images, labels):
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def test_stored_order_is_that_of_tfds(mnist):
    import tensorflow_datasets as tfds

    data = mnist()
    theirs = tfds.builder_from_directory(folder_of(data)).as_data_source("train")
    ours = source.load(data, "train")
    assert [int(example["label"]) for example in theirs] == ours.labels.tolist()
    np.testing.assert_array_equal(np.stack([example["image"] for example in theirs]), ours.images)


def damage_truncate(cache):
    path = cache / "train_images.npy"
    path.write_bytes(path.read_bytes()[:-100])


def damage_empty(cache):
    (cache / "train_labels.npy").write_bytes(b"")


def damage_header(cache):
    (cache / "train_images.npy").write_bytes(b"\0" * 1000)


def damage_dtype(cache):
    np.save(cache / "train_labels.npy", np.zeros(TRAIN, np.float64))


def damage_count(cache):
    np.save(cache / "train_images.npy", np.zeros((TRAIN - 1, 28, 28, 1), np.uint8))


def damage_missing(cache):
    (cache / "train_images.npy").unlink()


def damage_json(cache):
    (cache / "train.json").write_text("{")


def damage_origin(cache):
    origin = json.loads((cache / "train.json").read_text())
    (cache / "train.json").write_text(json.dumps(origin | {"cache_format": 0}))


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_cache_is_made_anew(mnist, damage):
    data = mnist()
    sound = source.load(data, "train")
    cache = folder_of(data) / "decoded"
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    damage(cache)
    again = source.load(data, "train")
    np.testing.assert_array_equal(again.images, sound.images)
    np.testing.assert_array_equal(again.labels, sound.labels)
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before


def test_cache_of_other_data_is_not_used(mnist, tmp_path):
    data = mnist()
    source.load(data, "train")
    (folder_of(data) / "decoded").rename(tmp_path / "kept")
    for path in folder_of(data).iterdir():
        path.unlink()
    folder_of(data).rmdir()
    write_tiny("mnist", tmp_path, TRAIN, TEST, seed=1)
    (tmp_path / "kept").rename(folder_of(data) / "decoded")
    dataset = source.load(data, "train")
    assert pairs(dataset.images, dataset.labels) == pairs(*tiny_arrays(TRAIN, TEST, seed=1)["train"])


def test_load_works_where_no_cache_can_be_written(mnist):
    data = mnist()
    (folder_of(data) / "decoded").write_text("a file in the way, which stops even root")
    dataset = source.load(data, "train")
    assert pairs(dataset.images, dataset.labels) == pairs(*tiny_arrays(TRAIN, TEST)["train"])


def shard(data, split="train"):
    return next(folder_of(data).glob(f"mnist-{split}.array_record-*"))


def ruin_truncate(data):
    path = shard(data)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def ruin_empty(data):
    shard(data).write_bytes(b"")


def ruin_noise(data):
    path = shard(data)
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(range(100))
    path.write_bytes(content)


def ruin_swap(data):
    shard(data).write_bytes(shard(data, "test").read_bytes())


def ruin_missing(data):
    shard(data).unlink()


def ruin_features(data):
    (folder_of(data) / "features.json").unlink()


def ruin_info(data):
    (folder_of(data) / "dataset_info.json").write_text('{"name": "mn')


RUINS = [value for name, value in sorted(globals().items()) if name.startswith("ruin_")]


@pytest.mark.parametrize("ruin", RUINS, ids=lambda ruin: ruin.__name__)
def test_damaged_dataset_is_reported(mnist, ruin):
    data = mnist()
    ruin(data)
    for attempt in (lambda: source.load(data, "train"), lambda: source.prepare(data)):
        with pytest.raises(UserError) as error:
            attempt()
        message = str(error.value)
        assert f"the prepared dataset in {folder_of(data)} is damaged" in message and "Delete that folder" in message


def test_damage_is_seen_behind_a_warm_cache(mnist):
    data = mnist()
    source.load(data, "train")
    ruin_truncate(data)
    with pytest.raises(UserError, match="is damaged"):
        source.load(data, "train")


def test_tfrecords_of_stock_tfds_are_read(mnist):
    data = mnist()
    expected = source.load(data, "test")
    import tensorflow_datasets as tfds

    raw = tfds.builder_from_directory(folder_of(data)).as_data_source(
        "test", deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    old = shard(data, "test")
    path = old.with_name(old.name.replace("array_record", "tfrecord"))
    path.write_bytes(b"".join(struct.pack("<QI", len(record), 0) + record + struct.pack("<I", 0) for record in raw))
    old.unlink()
    info = folder_of(data) / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    dataset = source.load(data, "test")
    np.testing.assert_array_equal(dataset.images, expected.images)
    np.testing.assert_array_equal(dataset.labels, expected.labels)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="cut short"):
        source.load(data, "test")


def test_wrong_examples_are_refused(mnist, monkeypatch):
    # The same files under other expectations: fewer classes, another size.
    changes = (({"class_names": ("0", "1")}, "labels from 0 to 1"), ({"shape": (32, 32, 1)}, "expected uint8"))
    for change, message in changes:
        with monkeypatch.context() as patch:
            patch.setitem(catalog.DATASETS, "mnist", dataclasses.replace(catalog.DATASETS["mnist"], **change))
            with pytest.raises(UserError, match=message):
                source.load(mnist(), "train")
