"""Large data in all placements: the same batches, whatever is damaged, however it was interrupted."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_data import write_tiny
from tiny_images import encoded, photo, write_class_folders

from cnn_jax import config, files
from cnn_jax.data.batches import feed as feeds
from cnn_jax.data.batches.order import BatchOrder
from cnn_jax.data.datasets import folder, source
from cnn_jax.data.images import cache, placement
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import UserError

ROOT = Path(__file__).parents[3]
COUNTS = {"train/ant": 14, "train/bee": 9, "train/cat": 17, "test/ant": 4, "test/bee": 5, "test/cat": 3}


@pytest.fixture
def data(tmp_path):
    write_class_folders(tmp_path / "pictures", COUNTS)
    return config.Data.of(name="folder", path=str(tmp_path / "pictures"), data_dir=str(tmp_path / "root"), side=24)


def damage(data, name):
    path = Path(data.kind.path) / name
    path.write_bytes(path.read_bytes()[:200])


def batches(data, split="train", steps=12, start=0, stretch=3):
    """Every batch of some steps, as the training loop gets it."""
    dataset = source.load(data, split)
    plan = BatchOrder(len(dataset.labels), 8, seed=3)
    feed, _ = feeds.make_feed(data.placement, dataset, [plan], Parallel("jit", 8))
    found = []
    for first in range(start, start + steps, stretch):
        arrays = jax.device_get(feed.stretch(first, first + stretch))
        found += [feed.pick(arrays, i) for i in range(stretch)]
    feed.close()
    return found


def cached(data, split="train"):
    (path,) = Path(data.data_dir).glob(f"folder/*/{split}_24.npy")
    return path


def equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        for name in ("images", "labels", "index"):
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("validation, limit", [(0, 0), (6, 0), (6, 20)])
@pytest.mark.parametrize("corrupt", [(), ("train/ant/003.jpg", "train/ant/004.jpg", "train/cat/016.jpg")])
def test_batches_are_the_same_in_every_placement(data, validation, limit, corrupt):
    for name in corrupt:
        damage(data, name)
    data = data.changed(validation=validation, limit=limit)
    streamed = batches(data.changed(placement="stream"))
    for other in ("host", "device", "auto"):
        equal(batches(data.changed(placement=other)), streamed)
    again = data.changed(placement="stream")
    equal(batches(again, steps=6, start=6), streamed[6:])  # as after a resume
    equal(batches(again, stretch=1), streamed)
    assert not np.array_equal(streamed[0]["index"], streamed[1]["index"])


@pytest.mark.parametrize("name", ["stream", "host"])
def test_too_many_corrupt_images_stop_every_placement(data, name):
    for number in range(4):
        damage(data, f"train/bee/{number:03d}.jpg")
    data = data.changed(corrupt=3, placement=name)
    with pytest.raises(UserError, match=r"4 images of pictures train cannot be decoded, .*bee.* data.corrupt = 3"):
        batches(data, steps=30)
    assert batches(data.changed(corrupt=4), steps=30)


def test_jumps_and_uneven_stretches_are_served(data):
    dataset = source.load(data.changed(placement="stream"), "train")
    plan = BatchOrder(len(dataset.labels), 8, seed=0)
    feed, _ = feeds.make_feed("stream", dataset, [plan], Parallel("jit", 8))
    whole = dataset.images[:]
    for start, stop in ((0, 1), (1, 4), (4, 5), (9, 11), (2, 3), (3, 4)):
        arrays = jax.device_get(feed.stretch(start, stop))
        for i, step in enumerate(range(start, stop)):
            np.testing.assert_array_equal(arrays["images"][i], whole[plan.batch(step)])
            np.testing.assert_array_equal(arrays["labels"][i], dataset.labels[plan.batch(step)])


def test_auto_chooses_by_size_and_says_why(data, monkeypatch):
    def chosen(placement_name="auto", **changes):
        wanted = data.changed(placement=placement_name, **changes)
        dataset = source.load(wanted, "train")
        plan = BatchOrder(len(dataset.labels), 4, 0)
        feed, sentence = feeds.make_feed(placement_name, dataset, [plan], Parallel("jit", 4))
        feed.close()
        return sentence

    size = 40 * 24 * 24 * 3
    monkeypatch.setattr(files, "free_bytes", lambda folder: 2 * size - 1)
    sentence = chosen()
    assert sentence.startswith("stream (0.1 MiB decoded; auto: 0.1 MB decoded, 0.1 MB free in ")
    assert not list(Path(data.data_dir).rglob("*.npy"))
    monkeypatch.undo()
    assert chosen().startswith("device (0.1 MiB decoded; auto: the device up to 2048 MiB; decoded in ")
    monkeypatch.setattr(feeds, "DEVICE_BYTES", size - 1)
    assert chosen().startswith("host (0.1 MiB decoded; auto: ")
    assert str(cached(data)) in chosen()
    monkeypatch.setattr(files, "free_bytes", lambda folder: 0)
    assert chosen().startswith("host (")  # the cache is there: no room is needed
    assert chosen("stream", workers=3) == "stream (0.1 MiB decoded; as set; decoded by 3 threads)"
    assert chosen("device").startswith("device (0.1 MiB decoded; as set; decoded in ")


def test_host_refuses_a_disk_without_room(data, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda folder: files.SPARE_BYTES + 40 * 24 * 24 * 3 - 1)
    with pytest.raises(UserError, match="decoded images of pictures train need 0.1 MB in .*data.placement=stream"):
        source.load(data.changed(placement="host"), "train")


def test_a_few_examples_are_decoded_without_a_cache(data):
    dataset = source.load(data.changed(limit=5), "train")
    assert isinstance(dataset.images, np.ndarray) and len(dataset.images) == 5
    assert not list(Path(data.data_dir).rglob("*.npy"))
    whole = source.load(data.changed(placement="host"), "train")
    np.testing.assert_array_equal(dataset.images, whole.images[whole.sample(5)])


BUILD = """
import sys, time
from cnn_jax import config
from cnn_jax.data.datasets import folder, source
from cnn_jax.data.images import cache
cache.PIECE_BYTES = cache.STRETCH_BYTES = 1
read = folder.image_source
def slow(*arguments):
    import dataclasses
    images = read(*arguments)
    return dataclasses.replace(images, read=lambda row: (time.sleep(float(sys.argv[3])), images.read(row))[1])
folder.image_source = slow
data = config.Data.of(name="folder", path=sys.argv[1], data_dir=sys.argv[2], side=24, placement="host")
print(len(source.load(data, "train").labels))
"""


def build(data, seconds):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", BUILD, data.kind.path, data.data_dir, str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_build_goes_on_where_it_was(data, monkeypatch):
    monkeypatch.setattr(cache, "STRETCH_BYTES", 1)  # as in the other process
    damage(data, "train/ant/001.jpg")
    expected = batches(data.changed(placement="stream"))
    process = build(data, 0.05)
    root, notes = Path(data.data_dir), []
    while process.poll() is None and not any(json.loads(path.read_text())["done"] >= 5 for path in notes):
        time.sleep(0.001)
        notes = list(root.glob("folder/*/train_24.json"))
    process.kill()
    process.communicate()
    done = json.loads(notes[0].read_text())["done"]
    assert 5 <= done < 40 and not list(root.rglob("*.npy"))
    read_again, made = [], folder.image_source

    def noted(*arguments):
        images = made(*arguments)
        read = lambda row: (read_again.append(row), images.read(row))[1]
        return dataclasses.replace(images, read=read) if arguments[4] == "train" else images

    monkeypatch.setattr(folder, "image_source", noted)
    equal(batches(data.changed(placement="host")), expected)
    assert sorted(read_again) == list(range(done, 40))
    assert not list(root.rglob("*.partial"))


def test_two_processes_build_one_cache(data):
    processes = [build(data, 0.01) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (out, process.returncode) == ("40\n", 0), err
    equal(batches(data.changed(placement="host")), batches(data.changed(placement="stream")))


def replaced(path, content):
    """Writes another file in its place: whoever still reads ahead in the old one, mapped to memory, may go on."""
    path.unlink()
    path.write_bytes(content)


def spoil_truncate(path):
    replaced(path, path.read_bytes()[:-100])


def spoil_header(path):
    replaced(path, b"\0" * path.stat().st_size)


def spoil_notes(path):
    path.with_suffix(".json").write_text("{")


def spoil_absent(path):
    path.unlink()


def spoil_unfinished(path):
    shutil.copy(path, path.with_name(path.name + ".partial"))


@pytest.mark.parametrize("spoil", [spoil_truncate, spoil_header, spoil_notes, spoil_absent, spoil_unfinished])
def test_a_damaged_cache_is_made_anew(data, spoil):
    data = data.changed(placement="host")
    expected = batches(data)
    before = cached(data).read_bytes()
    spoil(cached(data))
    equal(batches(data), expected)
    assert cached(data).read_bytes() == before


def test_a_cache_of_other_images_is_not_used(data):
    data = data.changed(placement="host")
    batches(data)
    (Path(data.kind.path) / "train/bee/002.jpg").write_bytes(encoded(photo(999)))
    equal(batches(data), batches(data.changed(placement="stream")))


def test_generated_sets_need_memory_or_a_stream(monkeypatch):
    data = config.Data.of(name="fake", side=16, examples=10, placement="host")
    monkeypatch.setattr(placement.os, "sysconf", lambda name: 10)
    with pytest.raises(UserError, match="fake train needs .* decoded.*data.placement=stream"):
        source.load(data, "train")


def test_small_sets_can_be_streamed_too(tmp_path):
    from tiny_data import write_tiny

    write_tiny("mnist", tmp_path)
    data = config.Data.of(name="mnist", data_dir=str(tmp_path), validation=10)
    for split in source.SPLITS:
        arrays, streamed = (source.load(data.changed(placement=name), split) for name in ("host", "stream"))
        np.testing.assert_array_equal(streamed.images[:], arrays.images)
        np.testing.assert_array_equal(streamed.labels, arrays.labels)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    replaced(path, content)


@pytest.mark.parametrize("name", ["host", "device"])
def test_a_flipped_bit_of_the_cache_is_found_and_the_image_decoded_anew(data, name, monkeypatch, capsys):
    monkeypatch.setattr(cache, "STRETCH_BYTES", 4 * 24 * 24 * 3)
    data = data.changed(placement=name)
    sound = batches(data)
    path = cached(data)
    written = path.read_bytes()
    for place in (200, len(written) // 2, len(written) - 1):
        flip(path, place)
        capsys.readouterr()
        equal(batches(data), sound)
        said = capsys.readouterr().err
        assert said.count(f"{path} is damaged (the checksum of images ") == 1 and "decoded anew" in said
        equal(batches(data), sound)
        assert path.read_bytes() == written and "damaged" not in capsys.readouterr().err


def test_a_flipped_bit_of_a_small_set_is_found_and_the_set_decoded_anew(tmp_path, capsys):
    write_tiny("mnist", tmp_path)
    data = config.Data.of(name="mnist", data_dir=str(tmp_path))
    sound = np.array(source.load(data, "train").images)
    (path,) = tmp_path.glob("mnist/*/decoded/train_28.npy")
    written = path.read_bytes()
    flip(path, 5000)
    np.testing.assert_array_equal(source.load(data, "train").images, sound)
    assert f"{path} is damaged (the checksum of images 0 to 63 is wrong)" in capsys.readouterr().err
    assert path.read_bytes() == written


SPOILT = {
    "images": [b"", b"\x93NUMPY", b"?" * 200, b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', (" + b" " * 200],
    "notes": [b"", b"[]", b"{", b"[" * 100_000, b'{"origin": 1}', b'{"done": "all"}', b"\xff\xfe"],
    "sums": [b"", b"abc", b"?" * 400],
}


@pytest.mark.parametrize("part", SPOILT)
def test_a_spoilt_cache_is_made_anew(data, part):
    data = data.changed(placement="host")
    sound = batches(data)
    path = cached(data)
    path = {"images": path, "notes": path.with_suffix(".json"), "sums": path.with_suffix(".sums")}[part]
    for content in SPOILT[part]:
        replaced(path, content)
        equal(batches(data), sound)
        batches(data)
        equal(batches(data), sound)
    notes = json.loads(cached(data).with_suffix(".json").read_text())
    for changes in ({"done": -1}, {"done": 10**9}, {"done": True}, {"unreadable": []}, {"origin": {}}, {"stretch": 0}):
        cached(data).with_suffix(".json").write_text(json.dumps(notes | changes))
        equal(batches(data), sound)


def test_a_cache_without_checksums_is_read(data):
    """Those made before November 2026."""
    data = data.changed(placement="host")
    sound = batches(data)
    path = cached(data)
    made = path.stat().st_mtime_ns
    notes = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({name: notes[name] for name in notes if name != "stretch"}))
    path.with_suffix(".sums").unlink()
    equal(batches(data), sound)
    assert path.stat().st_mtime_ns == made
