import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cnn_jax import config
from cnn_jax.data.datasets import catalog, source
from cnn_jax.errors import UserError

ROOT = Path(__file__).parents[3]
FILE = "cifar-10-binary.tar.gz"
RANDOM = np.random.default_rng(0)
TRAIN, TEST = ((RANDOM.integers(0, 256, (n, 32, 32, 3), np.uint8), RANDOM.integers(0, 10, n)) for n in (50, 20))


def binary(images, labels):
    """Records as CIFAR's page describes them."""
    records = []
    for image, label in zip(images, labels):
        records.append(bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3)))
    return b"".join(records)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with a tiny archive that passes for the published one, offered as its download address too."""
    members = {f"data_batch_{i + 1}.bin": binary(TRAIN[0][i::5], TRAIN[1][i::5]) for i in range(5)}
    members |= {"test_batch.bin": binary(*TEST), "batches.meta.txt": b"airplane\n"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / FILE).write_bytes(packed.getvalue())
    facts = catalog.DATASETS["cifar10"]
    checksums = {FILE: hashlib.sha256(packed.getvalue()).hexdigest()}
    files = dataclasses.replace(facts.files, url=f"{folder.as_uri()}/", sha256=checksums)
    monkeypatch.setitem(catalog.DATASETS, "cifar10", dataclasses.replace(facts, files=files))
    return folder


STOCK_READS = """
import sys
import tensorflow_datasets as tfds
root = sys.argv[1]
fresh, stored = (tfds.builder("cifar10", data_dir=folder).info for folder in (root + "/empty", root))
assert stored.version == fresh.version and stored.supervised_keys == fresh.supervised_keys
assert repr(stored.features) == repr(fresh.features), (stored.features, fresh.features)
example = tfds.data_source("cifar10", split="test", data_dir=root)[0]
assert example["image"].shape == (32, 32, 3) and example["id"].startswith(b"test_000")
assert "tensorflow" not in sys.modules
"""


@pytest.mark.parametrize("manual", [True, False])
def test_prepared_data_is_what_was_published(published, tmp_path, manual):
    data = config.Data.of(name="cifar10", data_dir=str(tmp_path / "root"), manual_dir=str(published) if manual else "")
    message = source.prepare(data, download=not manual)
    assert message.endswith("cifar10/3.0.2: 50 train and 20 test examples")
    for split, (images, labels) in (("train", TRAIN), ("test", TEST)):
        dataset = source.load(data, split)
        ours = sorted((image.tobytes(), int(label)) for image, label in zip(dataset.images, dataset.labels))
        assert ours == sorted((image.tobytes(), int(label)) for image, label in zip(images, labels))
    assert dataset.class_names[3] == "cat"
    command = [sys.executable, "-c", STOCK_READS, data.data_dir]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_missing_and_wrong_archives(published, tmp_path):
    data = config.Data.of(name="cifar10", data_dir=str(tmp_path / "root"))
    with pytest.raises(UserError) as error:
        source.prepare(data, download=False, experiment="alexnet_cifar10")
    message = str(error.value)
    assert f"put this file, published at {published.as_uri()}/, into a folder:\n  {FILE}\n" in message
    assert "--experiment=alexnet_cifar10 --mode=prepare" in message and "--set data.manual_dir=FOLDER" in message
    with pytest.raises(UserError, match=f"lacks {FILE}"):
        source.prepare(data.changed(manual_dir=str(tmp_path)))
    (published / FILE).write_bytes((published / FILE).read_bytes()[:-50])
    with pytest.raises(UserError, match="not a complete gzip file"):
        source.prepare(data.changed(manual_dir=str(published)))


def test_recorded_address_and_checksum_are_those_of_tfds():
    recorded = Path(tfds.__file__).parent / "url_checksums" / "cifar10.txt"
    url, size, checksum, name = recorded.read_text().split()
    files = catalog.DATASETS["cifar10"].files
    assert url == files.url + name and files.sha256 == {name: checksum}
    assert files.megabytes == round(int(size) / 1e6)


@pytest.mark.skipif("CNN_JAX_CIFAR10" not in os.environ, reason="CNN_JAX_CIFAR10 names no folder with the real archive")
def test_real_cifar10(tmp_path):
    data = config.Data.of(name="cifar10", data_dir=str(tmp_path), manual_dir=os.environ["CNN_JAX_CIFAR10"])
    assert source.prepare(data).endswith("50,000 train and 10,000 test examples")
    assert np.bincount(source.load(data, "test").labels).tolist() == [1000] * 10
