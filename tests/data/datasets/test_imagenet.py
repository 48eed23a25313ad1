import dataclasses
import io
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_images import write_imagenet

from cnn_jax import config, files, flags
from cnn_jax.data.datasets import imagenet, imagenet_writer, source
from cnn_jax.data.images import records
from cnn_jax.errors import UserError

ROOT = Path(__file__).parents[3]
OURS = "5.1.0"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Miniature archives and what is in them."""
    folder = tmp_path_factory.mktemp("official archives")
    return folder, write_imagenet(folder)


@pytest.fixture
def data(official, tmp_path):
    return config.Data.of(
        name="imagenet2012", data_dir=str(tmp_path / "root"), manual_dir=str(official[0]), side=32, placement="stream"
    )


@pytest.fixture(scope="module")
def prepared(official, tmp_path_factory):
    data = config.Data.of(
        name="imagenet2012", data_dir=str(tmp_path_factory.mktemp("root")), manual_dir=str(official[0]), side=32
    )
    source.prepare(data.changed(placement="stream"))
    return data


def folder_of(data):
    return Path(data.data_dir) / "imagenet2012" / OURS


def content(folder):
    """Every file's name, and every example in stored order. Not the files' bytes: protobuf orders fields at random."""
    stored = [records.Records(folder, "imagenet2012", split) for split in ("train", "validation")]
    return sorted(path.name for path in folder.glob("*")), [list(part) for part in stored]


def run_python(code, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


STOCK_READS = """
import hashlib, sys
import tensorflow_datasets as tfds
root = sys.argv[1]
fresh, stored = (tfds.builder("imagenet2012", data_dir=folder).info for folder in (root + "/empty", root))
assert stored.version == fresh.version and stored.supervised_keys == fresh.supervised_keys
assert repr(stored.features) == repr(fresh.features)
assert stored.features["label"].names == fresh.features["label"].names
for split in ("train", "validation"):
    for example in tfds.data_source("imagenet2012", split=split, data_dir=root):
        pixels = example["image"]
        assert pixels.ndim == 3 and pixels.dtype == "uint8"
        synset = stored.features["label"].int2str(int(example["label"]))
        print(split, example["file_name"].decode(), synset, *pixels.shape, hashlib.sha256(pixels.tobytes()).hexdigest())
assert "tensorflow" not in sys.modules
"""


def test_stock_tfds_reads_what_we_write(official, prepared):
    process = run_python(STOCK_READS, prepared.data_dir)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    rows = [line.split() for line in out.splitlines()]
    truth = imagenet.validation_synsets()
    assert [row[0] for row in rows] == ["train"] * 30 + ["validation"] * 6
    assert {(row[0], row[1]) for row in rows} == {(split, name) for split, part in official[1].items() for name in part}
    anew = 0
    for split, name, synset, height, width, channels, _ in rows:
        original = Image.open(io.BytesIO(official[1][split][name]))
        assert (int(height), int(width)) == (original.height, original.width) and channels == "3"
        assert synset == (name[:9] if split == "train" else truth[int(name[15:23]) - 1])
        anew += original.format != "JPEG" or original.mode not in ("RGB", "L")
    assert anew == 2
    labels = [row[2] for row in rows[:10]]
    assert len(set(labels)) > 4  # mixed, not class after class


def test_images_are_those_of_the_archives(official, prepared):
    stored = records.Records(folder_of(prepared), "imagenet2012", "train")
    for example in stored:
        raw = official[1]["train"][example["file_name"].decode()]
        original, ours = Image.open(io.BytesIO(raw)), Image.open(io.BytesIO(example["image"]))
        assert ours.format == "JPEG" and ours.mode in ("RGB", "L")
        if original.format == "JPEG" and original.mode != "CMYK":
            assert example["image"] == raw
        else:
            difference = np.asarray(ours, int) - np.asarray(original.convert("RGB"), int)
            assert np.abs(difference).mean() < 2  # of 255, from encoding anew


def test_load_and_what_prepare_says(prepared):
    data = prepared.changed(placement="stream", validation=5)
    message = source.prepare(data)
    assert f"imagenet2012 is already prepared in {folder_of(data)}: 30 train and 6 validation examples" in message
    assert "warning: the whole of ImageNet has 1,281,167 and 50,000" in message
    train, held_out, test = (source.load(data, split) for split in source.SPLITS)
    assert [len(part.labels) for part in (train, held_out, test)] == [25, 5, 6]
    assert train.class_names == imagenet.class_names() and train.class_names[0] == "tench"
    whole = source.load(data.changed(validation=0), "train")
    both = sorted([image.tobytes() for part in (train, held_out) for image in part.images[:]])
    assert both == sorted(image.tobytes() for image in whole.images[:])
    truth = sorted(imagenet.synsets().index(synset) for synset in imagenet.validation_synsets()[:6])
    assert sorted(test.labels.tolist()) == truth


def test_words_for_the_classes():
    """Some that are known by heart; each of the 1,000 is called otherwise."""
    names = dict(zip(imagenet.synsets(), imagenet.class_names(), strict=True))
    assert len(set(names.values())) == 1000
    known = {"n02085620": "Chihuahua", "n02123045": "tabby", "n07753592": "banana", "n15075141": "toilet tissue"}
    assert known.items() <= names.items()
    assert names["n02012849"] != names["n03126707"]  # the bird and the machine, both crane


def test_a_run_that_knew_the_classes_by_their_ids_goes_on(prepared):
    now = source.identity(prepared)
    before = dataclasses.replace(now, class_names=imagenet.synsets())  # as until November 2026
    assert before.differences(now) == []


PREPARE = """
import sys
from cnn_jax import config
from cnn_jax.data.datasets import imagenet_writer, source
imagenet_writer.SHARD_BYTES = 5000
source.prepare(config.Data.of(name="imagenet2012", data_dir=sys.argv[1], manual_dir=sys.argv[2], placement="stream"))
"""


def test_a_killed_preparation_goes_on(official, data, tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet_writer, "SHARD_BYTES", 5000)
    whole = data.changed(data_dir=str(tmp_path / "whole"))
    source.prepare(whole)
    expected = content(folder_of(whole))
    assert len(expected[0]) > 10
    staging = folder_of(data).with_name(f"{OURS}.partial")
    process = run_python(PREPARE, data.data_dir, official[0])
    while not list(staging.glob("imagenet2012-train.array_record-*")) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in staging.glob("imagenet2012-*")}
    assert not folder_of(data).exists() and done
    assert not source.of(data).is_prepared()
    source.prepare(data)
    assert content(folder_of(data)) == expected and not staging.exists()
    assert all((folder_of(data) / path.name).stat().st_mtime_ns == time for path, time in done.items())


def test_leftovers_of_other_archives_are_dropped(data, tmp_path, prepared):
    staging = folder_of(data).with_name(f"{OURS}.partial")
    staging.mkdir(parents=True)
    (staging / "archives.json").write_text('{"train": [99, 12345]}')
    (staging / "imagenet2012-train.array_record-00000-of-00001").write_bytes(b"of something else")
    source.prepare(data)
    assert content(folder_of(data)) == content(folder_of(prepared))


def test_processes_that_prepare_together_agree(official, data, prepared):
    code = PREPARE.replace("imagenet_writer.SHARD_BYTES = 5000\n", "")
    processes = [run_python(code, data.data_dir, official[0]) for _ in range(2)]
    for process in processes:
        assert process.communicate(timeout=100) and process.returncode == 0
    assert content(folder_of(data)) == content(folder_of(prepared))


@pytest.mark.parametrize("archive, keep", [("train", 0.5), ("train", 0.001), ("validation", 0.5), ("validation", 0)])
def test_archives_that_are_cut_short(official, data, tmp_path, archive, keep):
    manual = tmp_path / "manual"
    manual.mkdir()
    for split, name in imagenet_writer.ARCHIVES.items():
        raw = (official[0] / name).read_bytes()
        (manual / name).write_bytes(raw[: int(keep * len(raw))] if split == archive else raw)
    with pytest.raises(
        UserError, match=f"{imagenet_writer.ARCHIVES[archive]} is damaged or cut short .*fetch it again"
    ):
        source.prepare(data.changed(manual_dir=str(manual)))
    assert not folder_of(data).exists()


@pytest.mark.parametrize("given", ["nothing", "one archive"])
@pytest.mark.parametrize("attempt", ["prepare", "load"])
def test_missing_archives_are_explained_once_and_fully(official, data, tmp_path, given, attempt):
    if given == "one archive":
        (tmp_path / "manual").mkdir()
        (tmp_path / "manual" / "ILSVRC2012_img_val.tar").symlink_to(official[0] / "ILSVRC2012_img_val.tar")
    data = data.changed(manual_dir=str(tmp_path / "manual") if given == "one archive" else "")
    with pytest.raises(UserError) as error:
        if attempt == "prepare":
            source.prepare(data, experiment="alexnet_imagenet")
        else:
            source.load(data, "train", "alexnet_imagenet")
    message = str(error.value)
    archives = ("ILSVRC2012_img_train.tar  (138 GB)", "ILSVRC2012_img_val.tar  (6.3 GB)")
    for part in (*archives, "image-net.org", data.data_dir):
        assert part in message
    folder = f"data.data_dir={data.data_dir}"
    command = flags.command("--experiment=alexnet_imagenet", "--mode=prepare", "--set", folder)
    assert f"\n  {command} --set data.manual_dir=FOLDER" in message
    if given == "one archive" and attempt == "prepare":
        assert "lacks ILSVRC2012_img_train.tar. " in message


def test_a_disk_without_room_is_noticed_first(data, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda folder: 300_000_000)
    monkeypatch.setattr(files, "SPARE_BYTES", 299_999_000)
    with pytest.raises(UserError, match="examples of imagenet2012 need .* MB in .* 300.0 MB free"):
        source.prepare(data)
    assert not list(folder_of(data).parent.rglob("*array_record*"))


def test_tfrecords_of_stock_tfds_are_read(prepared, tmp_path):
    import tensorflow_datasets as tfds

    expected = source.load(prepared.changed(placement="stream"), "test")
    folder = tmp_path / "imagenet2012" / OURS
    folder.mkdir(parents=True)
    for path in folder_of(prepared).glob("*.json"):
        (folder / path.name).write_text(path.read_text().replace("array_record", "tfrecord"))
    (folder / "label.labels.txt").write_bytes((folder_of(prepared) / "label.labels.txt").read_bytes())
    raw_bytes = tfds.decode.DeserializeMethod.RAW_BYTES
    for split in ("train", "validation"):
        raw = tfds.builder_from_directory(folder_of(prepared)).as_data_source(split, deserialize_method=raw_bytes)
        packed = b"".join(struct.pack("<QI", len(record), 0) + record + struct.pack("<I", 0) for record in raw)
        (folder / f"imagenet2012-{split}.tfrecord-00000-of-00001").write_bytes(packed)
    data = prepared.changed(data_dir=str(tmp_path), placement="stream")
    for _ in range(2):  # labels looked for, then remembered
        dataset = source.load(data, "test")
        np.testing.assert_array_equal(dataset.images[:], expected.images[:])
        np.testing.assert_array_equal(dataset.labels, expected.labels)
    assert (folder / "decoded" / "validation_index.npz").is_file()
