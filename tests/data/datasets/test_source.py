import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_data import TINY_MNIST, folder_of, pairs, publish, tiny_arrays

from cnn_jax import config, flags
from cnn_jax.data.datasets import builders, catalog, source
from cnn_jax.errors import UsageError, UserError

ROOT = Path(__file__).parents[3]
TRAIN, TEST = TINY_MNIST


def run_python(code, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("split, count", [("train", TRAIN), ("test", TEST)])
def test_load_gives_what_was_stored(mnist, split, count):
    for _ in range(2):  # decoded, then from the cache
        dataset = source.load(mnist(), split)
        assert dataset.images.shape == (count, 28, 28, 1) and dataset.images.dtype == np.uint8
        assert dataset.labels.shape == (count,) and dataset.labels.dtype == np.int32
        assert (dataset.name, dataset.split, dataset.class_names) == ("mnist", split, tuple("0123456789"))
        assert not dataset.images.flags.writeable and not dataset.labels.flags.writeable
        assert pairs(dataset.images, dataset.labels) == pairs(*tiny_arrays(TRAIN, TEST)[split])


def test_validation_split_is_stratified_fixed_and_disjoint(mnist):
    whole, data = source.load(mnist(), "train"), mnist(validation=30)
    train, validation = source.load(data, "train"), source.load(data, "validation")
    assert len(validation.labels) == 30 and len(train.labels) == TRAIN - 30
    assert pairs(
        np.concatenate([train.images, validation.images]), np.concatenate([train.labels, validation.labels])
    ) == pairs(whole.images, whole.labels)
    exact = np.bincount(whole.labels, minlength=10) * 30 / TRAIN
    assert np.all(np.abs(np.bincount(validation.labels, minlength=10) - exact) < 1)
    # The rest keeps its order: each training image is found further on than the one before.
    remaining = iter(zip(whole.images, whole.labels))
    assert all(any(np.array_equal(image, other) for other, _ in remaining) for image in train.images)
    again = source.load(data, "validation")
    np.testing.assert_array_equal(again.images, validation.images)
    assert len(source.load(data, "test").labels) == TEST


def test_limit_keeps_some_of_each_split_in_their_order(mnist):
    for split in source.SPLITS:
        whole, limited = source.load(mnist(validation=30), split), source.load(mnist(validation=30, limit=7), split)
        rows = whole.sample(7)
        assert len(rows) == 7 and (np.diff(rows) > 0).all() and rows.tolist() != list(range(7))
        np.testing.assert_array_equal(limited.images, whole.images[rows])
        np.testing.assert_array_equal(limited.labels, whole.labels[rows])
    assert len(source.load(mnist(limit=10**6), "test").labels) == TEST


def test_a_limit_of_older_runs_keeps_the_first_of_each_split(mnist):
    older = {"validation": 30, "subsets": "first"}
    for split in source.SPLITS:
        whole, limited = source.load(mnist(**older), split), source.load(mnist(**older, limit=7), split)
        np.testing.assert_array_equal(limited.images, whole.images[:7])
        np.testing.assert_array_equal(limited.labels, whole.labels[:7])
        np.testing.assert_array_equal(whole.labels, source.load(mnist(validation=30), split).labels)


def test_impossible_validation_splits_are_refused(mnist):
    with pytest.raises(UsageError, match="no validation split.*data.validation"):
        source.load(mnist(), "validation")
    for size in (TRAIN, TRAIN + 1):
        with pytest.raises(UsageError, match=f"data.validation = {size} must be smaller than the {TRAIN} training"):
            source.load(mnist(validation=size), "train")
    with pytest.raises(ValueError, match="'valid'"):
        source.load(mnist(), "valid")


WARM = """
import sys
from cnn_jax import config
from cnn_jax.data.datasets import source
for split in ("train", "validation", "test"):
    source.load(config.Data.of(name="mnist", data_dir=sys.argv[1], validation=10), split)
print([name for name in ("tensorflow", "tensorflow_datasets", "PIL", "jax", "sklearn") if name in sys.modules])
"""


def test_warm_load_imports_nothing_heavy(mnist):
    data = mnist()
    for split in ("train", "test"):
        source.load(data, split)
    process = run_python(WARM, data.data_dir)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("[]\n", 0), err


def test_incomplete_folder_is_reported(tmp_path):
    data = config.Data.of(name="digits", data_dir=str(tmp_path))
    folder_of(data).mkdir(parents=True)
    with pytest.raises(UserError, match=f"{folder_of(data)} exists but holds no complete dataset: delete"):
        source.load(data, "train")


def test_digits_need_no_preparation(tmp_path):
    data = config.Data.of(name="digits", data_dir=str(tmp_path / "new" / "folder"))
    dataset = source.load(data, "train")
    assert pairs(dataset.images, dataset.labels) == pairs(*builders.digits_arrays()["train"])
    assert len(source.load(data, "test").labels) == 360
    assert source.prepare(data) == f"digits is already prepared in {folder_of(data)}: 1,437 train and 360 test examples"


LOAD_DIGITS = """
import sys, time
from cnn_jax import config
from cnn_jax.data.datasets import builders, source
time.sleep(max(0, float(sys.argv[2]) - time.time()))
dataset = source.load(config.Data.of(name="digits", data_dir=sys.argv[1]), "train")
print(len(dataset.labels), dataset.images.sum(dtype="int64"), dataset.labels.sum())
"""


def test_concurrent_first_uses_agree(tmp_path):
    start = str(time.time() + 2)  # all at once, when each has done its imports
    processes = [run_python(LOAD_DIGITS, str(tmp_path), start) for _ in range(2)]
    results = [process.communicate(timeout=100) for process in processes]
    images, labels = builders.digits_arrays()["train"]
    for (out, err), process in zip(results, processes):
        assert process.returncode == 0, err
        assert out.split() == ["1437", str(images.sum(dtype=np.int64)), str(labels.sum())]
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == ["1.0.0"]  # no one's leftovers
    assert not [path for path in (tmp_path / "digits/1.0.0/decoded").iterdir() if path.name.startswith(".")]


def test_unwritable_data_dir_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    data = config.Data.of(name="digits", data_dir=str(tmp_path / "file"))
    with pytest.raises(UserError, match=f"data folder {tmp_path / 'file'} .*--set data.data_dir=FOLDER"):
        source.load(data, "train")


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_data_dir_without_permission_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    data = config.Data.of(name="digits", data_dir=str(tmp_path / "locked"))
    with pytest.raises(UserError, match="no permission to write to .*locked.*--set data.data_dir=FOLDER"):
        source.load(data, "train")


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert catalog.data_root(config.Data()) == tmp_path / "home" / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "env"))
    assert catalog.data_root(config.Data()) == tmp_path / "env"
    assert catalog.data_root(config.Data(data_dir="~/mine")) == tmp_path / "home" / "mine"
    with pytest.raises(UsageError, match="data.data_dir = 's3://bucket': s3:// is not supported"):
        catalog.data_root(config.Data(data_dir="s3://bucket"))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder of four tiny files that pass for the published ones of MNIST, offered as its download address too."""
    folder = tmp_path / "published"
    publish(monkeypatch, "mnist", folder, tiny_arrays(TRAIN, TEST))
    return folder


@pytest.mark.parametrize("manual", [True, False])
def test_prepare_from_a_folder_or_by_download(published, tmp_path, manual):
    data = config.Data.of(name="mnist", data_dir=str(tmp_path / "data"), manual_dir=str(published) if manual else "")
    where = f"in {folder_of(data)}: {TRAIN} train and {TEST} test examples"
    assert source.prepare(data, download=not manual) == f"mnist is prepared {where}"
    assert source.prepare(data, download=False) == f"mnist is already prepared {where}"
    dataset = source.load(data, "train")
    assert pairs(dataset.images, dataset.labels) == pairs(*tiny_arrays(TRAIN, TEST)["train"])
    fetched = tmp_path / "data" / "downloads" / "mnist"
    assert fetched.is_dir() != manual


def test_manual_dir_without_files(published, tmp_path):
    (published / "t10k-labels-idx1-ubyte.gz").unlink()
    data = config.Data.of(name="mnist", data_dir=str(tmp_path / "data"), manual_dir=str(published))
    with pytest.raises(UserError, match=f"{published} lacks t10k-labels-idx1-ubyte.gz,"):
        source.prepare(data)


@pytest.mark.parametrize("attempt", ["no download", "no network", "load"])
def test_unprepared_data_says_how_to_get_it(published, tmp_path, monkeypatch, attempt):
    data = config.Data.of(name="mnist", data_dir=str(tmp_path / "my data"))
    url = catalog.DATASETS["mnist"].files.url
    if attempt == "no network":
        for path in published.iterdir():
            path.unlink()
    with pytest.raises(UserError) as error:
        if attempt == "load":
            source.load(data, "train", experiment="lenet_mnist")
        else:
            source.prepare(data, download=attempt == "no network", experiment="lenet_mnist")
    message = str(error.value)
    folder = f"data.data_dir={tmp_path}/my data"
    command = flags.command("--experiment=lenet_mnist", "--mode=prepare", "--set", folder)
    assert f"mnist is not prepared in {tmp_path}/my data" in message and url in message
    assert f"\n  {command} --set data.manual_dir=FOLDER" in message
    assert all(f"\n  {name}\n" in message for name in catalog.DATASETS["mnist"].files.sha256)
    assert ("download from" in message and "failed" in message) == (attempt == "no network")
    assert (f"\n  {command}\n" in message) == (attempt != "no network")


@pytest.mark.skipif("CNN_JAX_MNIST" not in os.environ, reason="CNN_JAX_MNIST names no folder with the real files")
def test_real_mnist(tmp_path):
    data = config.Data.of(name="mnist", data_dir=str(tmp_path), manual_dir=os.environ["CNN_JAX_MNIST"], validation=5000)
    assert source.prepare(data).endswith("60,000 train and 10,000 test examples")
    counts = {split: np.bincount(source.load(data, split).labels) for split in source.SPLITS}
    assert [counts[split].sum() for split in source.SPLITS] == [55_000, 5000, 10_000]
    whole = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # of MNIST's training set
    np.testing.assert_array_equal(counts["train"] + counts["validation"], whole)
    assert counts["test"].tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    begin = time.perf_counter()
    source.load(data.changed(validation=0), "train")
    assert time.perf_counter() - begin < 0.5  # 1 to 2 ms: the cache, nothing decoded
