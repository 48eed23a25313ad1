import dataclasses
import io
import json
import struct

import numpy as np
import pytest
from tiny_data import TINY_MNIST, folder_of, pairs, tiny_arrays, write_tiny

from cnn_jax.data.datasets import catalog, source
from cnn_jax.data.images import records
from cnn_jax.errors import UserError

TRAIN, TEST = TINY_MNIST


def test_stored_order_is_that_of_tfds(mnist):
    import tensorflow_datasets as tfds

    data = mnist()
    theirs = tfds.builder_from_directory(folder_of(data)).as_data_source("train")
    ours = source.load(data, "train")
    assert [int(example["label"]) for example in theirs] == ours.labels.tolist()
    np.testing.assert_array_equal(np.stack([example["image"] for example in theirs]), ours.images)


def damage_truncate(cache):
    path = cache / "train_28.npy"
    replace(path, path.read_bytes()[:-100])


def damage_header(cache):
    replace(cache / "train_28.npy", b"\0" * 1000)


def damage_count(cache):
    content = io.BytesIO()
    np.save(content, np.zeros((TRAIN - 1, 28, 28, 1), np.uint8))
    replace(cache / "train_28.npy", content.getvalue())


def damage_missing(cache):
    (cache / "train_28.npy").unlink()


def damage_json(cache):
    (cache / "train_28.json").write_text("{")


def damage_notes(cache):
    (cache / "train_28.json").write_text("[]")


def damage_origin(cache):
    notes = json.loads((cache / "train_28.json").read_text())
    (cache / "train_28.json").write_text(json.dumps(notes | {"origin": notes["origin"] | {"cache_format": 0}}))


def damage_labels_empty(cache):
    (cache / "train_index.npz").write_bytes(b"")


def damage_labels_truncate(cache):
    path = cache / "train_index.npz"
    path.write_bytes(path.read_bytes()[:-10])


def damage_labels_count(cache):
    records.write_labels(cache / "train_index.npz", {}, np.zeros(TRAIN - 1, np.int32))


def replace(path, content):
    """Puts a new file in the place of one that is mapped; cutting that one short would end the process."""
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").rename(path)


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


def test_images_are_read_in_any_order_and_a_damaged_one_is_told_apart(mnist, monkeypatch):
    expected = source.load(mnist(), "train")
    images = source.of(mnist()).images("train")
    several = records.Records.several
    rows = [5, 0, 119, 5]
    for row, item in zip(rows, images.fetch(rows), strict=True):
        np.testing.assert_array_equal(images.read(item), expected.images[row])
    monkeypatch.setattr(
        records.Records,
        "several",
        lambda self, rows: [ValueError("torn") if row == 7 else one for row, one in zip(rows, several(self, rows))],
    )
    sound, torn = images.fetch([6, 7])
    np.testing.assert_array_equal(images.read(sound), expected.images[6])
    with pytest.raises(UserError, match=r"is damaged: cannot read its train split \(example 7 \(torn\)\)"):
        images.read(torn)


def test_one_damaged_record_leaves_those_read_with_it(mnist):
    found = records.Records(folder_of(mnist()), "mnist", "train")
    opened, example = found._opened

    class Torn:
        def __getitems__(self, rows):
            if 2 in rows:
                raise RuntimeError("checksum")
            return opened.__getitems__(rows)

        def __getitem__(self, row):
            return self.__getitems__([row])[0]

    found.__dict__["_opened"] = Torn(), example
    one, two, three = found.several([1, 2, 3])
    assert str(two) == "checksum" and (one["label"], three["label"]) == (found[1]["label"], found[3]["label"])
