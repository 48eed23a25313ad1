import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits
from tiny_data import tiny_arrays, write_tiny

from cnn_jax.data.datasets import builders, catalog

ROOT = Path(__file__).parents[3]

STOCK_READS = """
import sys
import tensorflow_datasets as tfds
from tiny_data import tiny_arrays, write_tiny

name, root = sys.argv[1:]
write_tiny(name, root, train=40, test=20)
fresh = tfds.builder(name, data_dir=root + "/empty").info  # as the stock class describes it
stored = tfds.builder(name, data_dir=root).info
assert stored.version == fresh.version, (stored.version, fresh.version)
assert stored.supervised_keys == fresh.supervised_keys
assert repr(stored.features) == repr(fresh.features), (stored.features, fresh.features)
assert stored.features["label"].names == fresh.features["label"].names
for split, (images, labels) in tiny_arrays(train=40, test=20).items():
    source = tfds.data_source(name, split=split, data_dir=root)
    ours = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels))
    theirs = sorted((example["image"].tobytes(), int(example["label"])) for example in source)
    assert ours == theirs
    assert source[0]["image"].shape == (28, 28, 1) and source[0]["image"].dtype == "uint8"
assert "tensorflow" not in sys.modules
print("read")
"""


def run_python(code, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_stock_tfds_reads_what_we_write(name, tmp_path):
    done = run_python(STOCK_READS, name, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "read\n"  # and nothing of TFDS's own


@pytest.fixture(scope="module")
def digits():
    return builders.digits_arrays()


def test_digits_are_split_by_class_and_none_is_lost(digits):
    labels = {split: arrays[1] for split, arrays in digits.items()}
    assert {split: len(values) for split, values in labels.items()} == catalog.DATASETS["digits"].splits
    whole = np.bincount(load_digits().target)
    np.testing.assert_array_equal(np.bincount(labels["train"]) + np.bincount(labels["test"]), whole)
    assert np.all(np.abs(np.bincount(labels["test"]) - whole * 360 / 1797) < 1)


def test_digits_are_the_originals_enlarged(digits):
    bunch = load_digits()
    for images, labels in digits.values():
        assert images.dtype == np.uint8 and images.shape[1:] == (28, 28, 1)
        frame = images.copy()
        frame[:, 4:24, 4:24] = 0
        assert not frame.any()
        # Shrunk back by averaging, each is near an original, and that one bears its label.
        for image, label in zip(images[:60], labels[:60]):
            inner = np.asarray(Image.fromarray(image[4:24, 4:24, 0]).resize((8, 8), Image.Resampling.BOX), np.float64)
            distance = np.abs(bunch.images * 255 / 16 - inner).mean((1, 2))
            assert distance.min() < 20 and bunch.target[distance.argmin()] == label


def test_digits_never_change(digits):
    # Pinned: results on `digits` are comparable only while these are the same bytes.
    content = b"".join(images.tobytes() + labels.astype(np.uint8).tobytes() for images, labels in digits.values())
    assert hashlib.sha256(content).hexdigest() == "3eade1aea56c6fe7ead0c225769a2085ab383dd28116000c5e29ac3d8c3b14f8"


def test_build_leaves_a_finished_dataset_alone(tmp_path):
    write_tiny("mnist", tmp_path, seed=0)
    before = {path: path.read_bytes() for path in (tmp_path / "mnist").rglob("*") if path.is_file()}
    builders.build("mnist", tmp_path, tiny_arrays(seed=1))
    assert {path: path.read_bytes() for path in (tmp_path / "mnist").rglob("*") if path.is_file()} == before


def test_the_first_to_finish_wins(tmp_path):
    images, labels = tiny_arrays(seed=0)["train"]

    class Overtaken:
        """Images during whose reading another process finishes the same dataset."""

        def __iter__(self):
            builders.build("mnist", tmp_path, {"train": (images, labels)})
            return iter(images[::-1])

    builders.build("mnist", tmp_path, {"train": (Overtaken(), labels)})
    stored = tfds.data_source("mnist", split="train", data_dir=tmp_path)
    assert sorted(example["image"].tobytes() + bytes([example["label"]]) for example in stored) == sorted(
        image.tobytes() + bytes([label]) for image, label in zip(images, labels)
    )
    assert [path.name for path in (tmp_path / "mnist").iterdir()] == ["3.0.1"]


def test_build_reports_a_folder_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        builders.build("mnist", tmp_path / "file", tiny_arrays())
