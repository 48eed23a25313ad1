"""What does not fit between settings and data is refused before anything is decoded or made."""

import pytest
from tiny_images import write_class_folders

from cnn_jax.config import Config, Data, LeNet5, Train, overrides
from cnn_jax.data.checks import problems
from cnn_jax.errors import UserError


@pytest.mark.parametrize(
    "specs, line",
    [
        (
            ["train.duration=300 steps", "schedule.warmup=500 steps"],
            "schedule.warmup = '500 steps' is 500 steps, and the",
        ),
        (["train.duration=1 epochs", "schedule.warmup=45 steps"], "whole run has 45: --set schedule.warmup='4 steps'"),
        (["train.duration=10 examples"], "train.duration = '10 examples' is less than one step of 32 examples: --set"),
        (["data.validation=1437"], "data.validation = 1437 must be smaller than the 1,437 training examples of digits"),
        (["data.limit=64", "train.duration=1 epochs", "schedule.warmup=2 steps"], "and the whole run has 2"),
        (
            ["data.limit=50", "train.batch_size=64"],
            "is larger than the training set, 50 images: --set train.batch_size=50",
        ),
    ],
)
def test_sizes_that_do_not_fit(specs, line):
    (found,) = problems(overrides.apply(Config(), specs))
    assert line in found and "--set " in found


def test_more_steps_than_are_counted_are_refused():
    (found,) = problems(overrides.apply(Config(), ["train.duration=100000000000 steps"]))
    assert "100,000,000,000 steps; at most 2,147,483,647 are counted" in found


def test_what_fits_is_not_refused():
    assert problems(Config()) == []
    assert problems(overrides.apply(Config(), ["schedule.warmup=1 epochs", "data.validation=1000"])) == []


def test_a_folder_is_listed_not_read(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        problems(Config(data=Data.of(name="folder", path=str(tmp_path / "nowhere"))))
    write_class_folders(tmp_path, {"ant": 5, "bee": 5})
    for path in tmp_path.rglob("*.jpg"):
        path.write_bytes(b"never looked at")
    config = Config(model=LeNet5(), train=Train(batch_size=4), data=Data.of(name="folder", path=str(tmp_path), side=32))
    (found,) = problems(config)
    assert found.startswith("model.output = 'rbf' has bitmaps of the ten digits, and folder has ")
