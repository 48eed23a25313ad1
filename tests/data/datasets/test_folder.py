import json
import os

import numpy as np
import pytest
from PIL import Image
from tiny_images import write_class_folders

from cnn_jax import config
from cnn_jax.checks import settings as made_settings
from cnn_jax.data import checks
from cnn_jax.data.datasets import source
from cnn_jax.data.identity import Identity
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


def names_of(data, split):
    """The names of a split's images."""
    return source.identity(data).splits[split]


def test_one_folder_for_both_gives_about_a_fifth_of_each_class_to_testing(tmp_path):
    write_class_folders(tmp_path / "once", {"a": 100, "b": 50, "c": 5, "d": 2})
    write_class_folders(tmp_path / "again", {"a": 100, "b": 50, "c": 5, "d": 2})
    train, test = (source.load(settings(tmp_path / "once"), split) for split in ("train", "test"))
    counts, left = np.bincount(test.labels), np.bincount(train.labels)
    assert abs(counts[0] - 20) < 10 and abs(counts[1] - 10) < 8 and 1 <= counts[2] < 5
    assert counts[3] == left[3] == 1 and (counts + left).tolist() == [100, 50, 5, 2]
    assert len({image.tobytes() for image in [*train.images[:], *test.images[:]]}) == 157
    np.testing.assert_array_equal(source.load(settings(tmp_path / "again"), "test").images[:], test.images[:])


def test_an_image_that_comes_first_moves_no_other(tmp_path):
    """In a run's folder it made 32 of 40 test images ones that had been trained on."""
    write_class_folders(tmp_path, {"a": 30, "b": 30})
    before = {split: set(names_of(settings(tmp_path, validation=8), split)) for split in source.SPLITS}
    (tmp_path / "a/000 first.jpg").write_bytes((tmp_path / "b/000.jpg").read_bytes())
    after = {split: set(names_of(settings(tmp_path, validation=8), split)) for split in source.SPLITS}
    assert len(set.union(*after.values())) == 61
    assert before["test"] ^ after["test"] <= {"a/000 first.jpg"}
    assert len(before["validation"] - after["validation"]) <= 1  # the newcomer may have a smaller digest than one
    assert not before["train"] & after["test"]


@pytest.mark.parametrize("split", source.SPLITS)
def test_a_limit_takes_from_every_class(tmp_path, split):
    """The files lie sorted by class: the first ten are of one."""
    write_class_folders(tmp_path, {"a": 40, "b": 40})
    found = source.load(settings(tmp_path, validation=20, limit=4), split)
    assert np.bincount(found.labels).tolist() == [2, 2]
    assert np.bincount(found.labels[found.sample(2)]).tolist() == [1, 1]


def test_runs_begun_before_the_rule_of_digests_keep_theirs(tmp_path):
    write_class_folders(tmp_path, {"a": 20, "b": 10, "c": 5})
    old = settings(tmp_path, validation=6, limit=3, subsets="first")
    assert names_of(old, "test") == ["a/002.jpg", "a/011.jpg", "a/012.jpg"]
    assert np.bincount(source.load(old.changed(limit=0), "test").labels).tolist() == [4, 2, 1]
    assert source.load(old, "test").sample(2).tolist() == [0, 1]
    assert names_of(old, "train") == ["a/000.jpg", "a/001.jpg", "a/003.jpg"]


@pytest.mark.parametrize(
    "spellings",
    [("Training", "Testing"), ("TRAIN", "Valid"), ("train_images", "test-set"), ("trainset", "dev")],
    ids=str,
)
def test_splits_are_known_in_the_usual_spellings(tmp_path, spellings):
    for name in spellings:
        write_class_folders(tmp_path, {f"{name}/a": 3, f"{name}/b": 2})
    assert [len(names_of(settings(tmp_path), split)) for split in ("train", "test")] == [5, 5]


def test_validation_images_of_its_own_are_used(tmp_path):
    write_class_folders(tmp_path, {"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 1, "test/a": 1, "test/b": 1})
    data = settings(tmp_path)
    assert [len(source.load(data, split).labels) for split in source.SPLITS] == [8, 3, 2]
    assert source.validates(data, source.facts(data))
    old = data.changed(subsets="first")
    assert not source.validates(old, source.facts(old)) and "validation" not in source.identity(old).splits
    (line,) = checks.problems(config.Config(data=data.changed(validation=3), train=config.Train(batch_size=4)))
    assert "holds out training images, and folder has validation images of its own: --set data.validation=0" in line


def test_files_of_file_managers_do_not_count(tmp_path):
    write_class_folders(tmp_path, {"a": 3, "b": 3, "__MACOSX/a": 3, "a/.thumbnails": 2})
    for name in ("a/._000.jpg", "a/.DS_Store", "a/Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / name).write_bytes(b"of the desktop")
    found = source.identity(settings(tmp_path))
    assert sum(map(len, found.splits.values())) == 6 and found.class_names == ("a", "b") and found.left_out == {}


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    write_class_folders(tmp_path, {"train/a": 3, "train/b": 3, "test/a": 3, "test/b": 3, "extra": 2})
    for name in ("train/a/1.txt", "test/b/2.txt", "train/b/c.HEIC", "README", "train/loose.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    assert source.identity(settings(tmp_path)).left_out == {
        ".heic files (pip install 'cnn_jax[heic]' reads them)": 1,
        ".txt files": 2,
        "files in extra, which is no split": 2,
        "files without a suffix": 1,
        "images outside the class folders": 1,
    }


def test_names_that_are_not_utf8_work(tmp_path):
    write_class_folders(tmp_path, {"a": 3, "b": 3})
    os.rename(tmp_path / "b", os.fsencode(tmp_path) + b"/b\xff")
    os.rename(tmp_path / "a/000.jpg", os.fsencode(tmp_path) + b"/a/\xe4.jpg")
    found = source.identity(settings(tmp_path))
    assert found.class_names == ("a", "b\\udcff")
    again = Identity.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found and sum(map(len, again.splits.values())) == 6
    assert len(source.load(settings(tmp_path), "train").images[:]) == len(found.splits["train"])


def test_what_is_named_like_an_image_and_is_none_is_named_and_replaced(tmp_path, capsys):
    """A pipe let training wait for ever, a broken link refused the folder."""
    write_class_folders(tmp_path, {"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 2})
    os.mkfifo(tmp_path / "train/a/pipe.jpg")
    (tmp_path / "train/b/link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "train/b/folder.jpg").mkdir()
    train = source.load(settings(tmp_path), "train")
    assert len(train.images[:]) == 10
    told = capsys.readouterr().err
    assert "pipe.jpg (it is not a plain file); the next image of its class stands in" in told
    assert "link.jpg (No such file or directory)" in told
    found = source.identity(settings(tmp_path))
    assert found.files["train"]["a/pipe.jpg"] == (-1, "") == found.files["train"]["b/link.jpg"]


def write_grey(folder, side, mode="L"):
    """Two classes of four PNGs, in shades of grey or another mode."""
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(draw.integers(0, 256, (side, side), np.uint8))
            image.convert(mode).save(folder / name / f"{number}.png")


def test_small_grey_files_stay_small_and_grey(tmp_path):
    """28x28 digits in a folder became 256x256 in colour, and a LeNet of 44 thousand parameters one of 7 million."""
    write_grey(tmp_path / "grey", 28)
    data = made_settings("lenet_digits", ["data.name=folder", f"data.path={tmp_path / 'grey'}"]).data
    data = data.changed(validation=0, placement="stream")
    assert source.facts(data).shape == (28, 28, 1) and source.identity(data).notes == []
    train, names = source.load(data, "train"), source.identity(data).splits["train"]
    for image, name in zip(train.images[:], names, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(tmp_path / "grey" / name)))


@pytest.mark.parametrize("mode, channels", [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("P", 3)])
def test_channels_are_as_in_the_files(tmp_path, mode, channels):
    write_grey(tmp_path / "files", 28, mode)
    assert source.facts(config.Data.of(name="folder", path=str(tmp_path / "files"))).shape == (256, 256, channels)
    in_colour = config.Data.of(name="folder", path=str(tmp_path / "files"), mean=(0.5, 0.5, 0.5))
    assert source.facts(in_colour).shape == (256, 256, 3)
    asked = config.Data.of(name="folder", path=str(tmp_path / "files"), side=28, channels=4 - channels)
    assert source.facts(asked).shape == (28, 28, 4 - channels)


def test_enlarging_is_said(tmp_path):
    write_grey(tmp_path / "tiny", 8)
    (note,) = source.identity(config.Data.of(name="folder", path=str(tmp_path / "tiny"), side=28)).notes
    assert note == "the shorter side of the images has 8 pixels: smaller ones are enlarged to 28 (data.side)"
    assert source.identity(config.Data.of(name="folder", path=str(tmp_path / "tiny"), side=8)).notes == []


def test_that_images_hold_several_frames_is_said(tmp_path):
    write_class_folders(tmp_path, {"a": 2, "b": 2})
    frames = [Image.new("L", (32, 32), shade) for shade in (0, 99, 200)]
    frames[0].save(tmp_path / "a/moving.gif", save_all=True, append_images=frames[1:])
    notes = source.identity(config.Data.of(name="folder", path=str(tmp_path), side=8)).notes
    assert notes == ["1 of 5 images looked at hold several frames: the first counts"]


@pytest.mark.parametrize("experiment, side", [("alexnet_imagenet", 256), ("alexnet_cifar10", 32), ("lenet5_mnist", 28)])
def test_a_folder_takes_the_size_of_the_dataset_in_whose_place_it_is(experiment, side):
    kind = made_settings(experiment, ["data.name=folder", "data.path=x"]).data.kind
    assert kind.side == side and kind.exif and kind.ground == "white"


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
        ({"Test/a": 3, "Test/b": 2}, "holds Test, and no folder train beside it"),
        ({"seg_train/a": 3, "seg_train/b": 2, "seg_test/a": 1}, "look like splits, seg_test, seg_train, and are not"),
        ({"train/a": 3, "Training/a": 3, "test/a": 3}, "holds two folders of train images, Training, train"),
        ({"train": 3, "test": 3}, "test, train in .* must hold a folder for each class"),
        ({"a": 3, "b": 1}, "class folder .*b holds one image, and at least 2"),
        ({"images/a": 3, "images/b": 3}, "holds 1 class folders.*is it .*images that is meant"),
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
