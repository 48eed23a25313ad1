import numpy as np
import pytest
from tiny_images import write_class_folders

from cnn_jax import config
from cnn_jax.data.datasets import source
from cnn_jax.data.images import decode
from cnn_jax.errors import UserError


def settings(path, **changes):
    return config.Data.of(name="folder", path=str(path), side=16, placement="stream", **changes)


@pytest.mark.parametrize("tested", ["test", "val", "validation"])
def test_folders_of_their_own_for_training_and_testing(tmp_path, tested):
    counts = {"train/zebra": 3, "train/ant": 4, f"{tested}/ant": 2, f"{tested}/zebra": 1}
    write_class_folders(tmp_path, counts)
    (tmp_path / "train/ant/notes.txt").write_text("not an image")
    (tmp_path / "train/ant/.hidden.jpg").write_text("of the desktop")
    train, test = source.load(settings(tmp_path), "train"), source.load(settings(tmp_path), "test")
    assert train.class_names == ("ant", "zebra") == source.facts(settings(tmp_path)).class_names
    assert train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1] and test.labels.tolist() == [0, 0, 1]
    file = tmp_path / "train/zebra/001.jpg"
    np.testing.assert_array_equal(train.images[5], decode.square(file.read_bytes(), 16, "x"))
    assert source.prepare(settings(tmp_path)).startswith("folder needs no preparation: 7 train and 3 test examples")


def test_one_folder_for_both_gives_a_fifth_of_each_class_to_testing(tmp_path):
    write_class_folders(tmp_path / "once", {"a": 20, "b": 10, "c": 5})
    write_class_folders(tmp_path / "again", {"a": 20, "b": 10, "c": 5})
    train, test = (source.load(settings(tmp_path / "once"), split) for split in ("train", "test"))
    assert np.bincount(test.labels).tolist() == [4, 2, 1] and np.bincount(train.labels).tolist() == [16, 8, 4]
    assert len({image.tobytes() for image in [*train.images[:], *test.images[:]]}) == 35
    np.testing.assert_array_equal(source.load(settings(tmp_path / "again"), "test").images[:], test.images[:])


def test_images_in_subfolders_and_of_any_case_count(tmp_path):
    write_class_folders(tmp_path, {"a": 5, "b/2023": 3, "b/2024": 2})
    (tmp_path / "a/000.jpg").rename(tmp_path / "a/000.JPEG")
    assert len(source.load(settings(tmp_path), "train").labels) == 8


@pytest.mark.parametrize(
    "counts, message",
    [
        ({}, "holds 0 class folders, and at least 2"),
        ({"a": 3}, "holds 1 class folders, and at least 2"),
        ({"a": 3, "b": 0}, "class folder .*b holds no image"),
        ({"train/a": 3, "train/b": 2}, "has a folder train and none to test on"),
        ({"train/a": 3, "train/b": 2, "val/a": 1, "val/c": 1, "train/d": 1}, "val lacks b, d"),
        ({"train/a": 3, "train/b": 2, "test/a": 1, "test/b": 1, "test/c": 1}, "train lacks c"),
    ],
    ids=str,
)
def test_folders_that_cannot_be_used_are_explained(tmp_path, counts, message):
    write_class_folders(tmp_path, counts)
    for attempt in (lambda: source.load(settings(tmp_path), "train"), lambda: source.prepare(settings(tmp_path))):
        with pytest.raises(UserError, match=message):
            attempt()


def test_a_path_is_needed(tmp_path):
    with pytest.raises(UserError, match="--set data.path=FOLDER"):
        source.load(settings(""), "train")
    with pytest.raises(UserError, match="nowhere' is not a folder"):
        source.load(settings(tmp_path / "nowhere"), "train")
