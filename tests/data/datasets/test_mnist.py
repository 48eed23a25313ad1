import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_data import encode_idx, publish

from cnn_jax.data.datasets import catalog, mnist
from cnn_jax.errors import UserError


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder of four tiny files that pass for the published ones of mnist and fashion_mnist, and what is in them."""
    folder, random = tmp_path / "published", np.random.RandomState(0)
    arrays = {
        split: (random.randint(0, 256, (count, 28, 28, 1)), np.arange(count) % 10)
        for split, count in (("train", 30), ("test", 12))
    }
    for name in ("mnist", "fashion_mnist"):
        publish(monkeypatch, name, folder, arrays)
    return folder, arrays


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 28, 28)])
def test_parse_reads_what_was_written(shape):
    array = np.random.RandomState(1).randint(0, 256, shape)
    parsed = mnist.parse(encode_idx(array), "file")
    assert parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed, array)


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"", "not an IDX file.*nothing"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "not an IDX file of unsigned bytes: it begins with 00000d01"),
        (b"\x89PNG1234", "not an IDX file"),
        (b"\0\0\x08\x03\0\0\0\x01", "cut short: its 3 dimensions need 16 bytes, and it has 8"),
        (encode_idx(np.zeros((2, 3)))[:-1], "damaged: it states 2 x 3 = 6 bytes, and 5 follow"),
        (encode_idx(np.zeros((2, 3))) + b"\0", "and 7 follow"),
    ],
)
def test_parse_refuses_damaged_files(raw, message):
    with pytest.raises(UserError, match=f"some-file .*{message}"):
        mnist.parse(raw, "some-file")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_read_folder(published, name):
    folder, arrays = published
    for split, (images, labels) in mnist.read_folder(name, folder).items():
        np.testing.assert_array_equal(images, arrays[split][0])
        np.testing.assert_array_equal(labels, arrays[split][1])


def test_missing_files_are_listed(published):
    folder, _ = published
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError) as error:
        mnist.read_folder("mnist", folder)
    message = str(error.value)
    assert "t10k-images-idx3-ubyte.gz" in message and "train-labels-idx1-ubyte.gz" in message
    assert "train-images" not in message and "t10k-labels" not in message


def test_recompressed_mnist_is_accepted_and_other_bytes_are_not(published):
    folder, arrays = published
    path = folder / "train-labels-idx1-ubyte.gz"
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw, compresslevel=1, mtime=1))
    np.testing.assert_array_equal(mnist.read_folder("mnist", folder)["train"][1], arrays["train"][1])
    changed = raw[:-1] + b"\x05"
    path.write_bytes(gzip.compress(changed))
    expected, got = hashlib.sha256(raw).hexdigest(), hashlib.sha256(changed).hexdigest()
    with pytest.raises(UserError, match=f"{path.name} is not the published mnist file.*expected {expected}, got {got}"):
        mnist.read_folder("mnist", folder)


@pytest.mark.parametrize("form", ["{}", "{}/{}", "a point", "a point, in a folder"])
def test_mnist_may_be_unpacked_already(published, form):
    """As some tools unpack it; the checksum is of the unpacked bytes."""
    folder, arrays = published
    for path in list(folder.glob("*.gz")):
        plain = path.stem.replace("-idx", ".idx") if "point" in form else path.stem
        target = folder / (f"{plain}/{plain}" if "/" in form or "folder" in form else plain)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    for split, (images, labels) in mnist.read_folder("mnist", folder).items():
        np.testing.assert_array_equal(images, arrays[split][0])
        np.testing.assert_array_equal(labels, arrays[split][1])
    with pytest.raises(UserError, match="lacks train-images-idx3-ubyte.gz"):  # whose checksum is of the packed bytes
        mnist.read_folder("fashion_mnist", folder)


def test_unpacked_files_are_checked_too(published):
    folder, _ = published
    path = folder / "train-labels-idx1-ubyte.gz"
    raw = gzip.decompress(path.read_bytes())
    path.unlink()
    (folder / path.stem).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(UserError, match="train-labels-idx1-ubyte is not the published mnist file: sha256"):
        mnist.read_folder("mnist", folder)


def test_fashion_mnist_is_checked_as_published(published):
    folder, _ = published
    path = folder / "train-labels-idx1-ubyte.gz"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=1))
    with pytest.raises(UserError, match=f"{path.name} is not the published fashion_mnist .*expected {expected}, got"):
        mnist.read_folder("fashion_mnist", folder)


@pytest.mark.parametrize("damage", ["half", "another file", "empty"])
def test_damaged_gzip_is_named(published, damage):
    folder, _ = published
    path = folder / "train-images-idx3-ubyte.gz"
    packed = path.read_bytes()
    path.write_bytes({"half": packed[: len(packed) // 2], "another file": b"<html>", "empty": b""}[damage])
    with pytest.raises(UserError, match=f"{path.name} is not .*fetch it again from file:"):
        mnist.read_folder("mnist", folder)


def test_download_fetches_and_verifies(published, tmp_path):
    folder, arrays = published
    mnist.download("mnist", tmp_path / "fetched")
    assert sorted(os.listdir(tmp_path / "fetched")) == sorted(os.listdir(folder))
    np.testing.assert_array_equal(mnist.read_folder("mnist", tmp_path / "fetched")["test"][0], arrays["test"][0])


def test_download_keeps_nothing_unverified(published, tmp_path):
    folder, _ = published
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>please log in</html>")
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz is not a complete gzip file"):
        mnist.download("mnist", tmp_path / "fetched")
    assert "train-images-idx3-ubyte.gz" not in os.listdir(tmp_path / "fetched")


def test_catalog_agrees_with_tfds():
    tfds = pytest.importorskip("tensorflow_datasets")
    recorded = Path(tfds.__file__).parent / "url_checksums"
    for name in ("mnist", "fashion_mnist"):
        files, rows = catalog.DATASETS[name].files, (recorded / f"{name}.txt").read_text().splitlines()
        theirs = {url: checksum for url, _, checksum, *_ in (row.split("\t") for row in rows)}
        assert set(theirs) == {files.url + file for file in files.sha256}
        if not files.unpacked:
            assert theirs == {files.url + file: checksum for file, checksum in files.sha256.items()}


@pytest.mark.skipif("CNN_JAX_MNIST" not in os.environ, reason="CNN_JAX_MNIST names no folder with the real files")
def test_real_mnist():
    arrays = mnist.read_folder("mnist", Path(os.environ["CNN_JAX_MNIST"]))
    assert {split: images.shape for split, (images, _) in arrays.items()} == {
        "train": (60_000, 28, 28, 1),
        "test": (10_000, 28, 28, 1),
    }
    assert arrays["train"][1][:5].tolist() == [5, 0, 4, 1, 9]
