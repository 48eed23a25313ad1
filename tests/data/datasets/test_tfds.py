"""Sets that TFDS itself prepares, by builders of TFDS's own kind."""

import io
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tiny_data import pairs, tiny_arrays
from tiny_images import encoded, photo

from cnn_jax import config, flags
from cnn_jax.data import checks
from cnn_jax.data.datasets import source
from cnn_jax.data.images import decode
from cnn_jax.errors import UsageError, UserError

ARRAYS = tiny_arrays(60, 20)


class _Set(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the sets here."""

    VERSION = tfds.core.Version("1.2.0")
    image = tfds.features.Image(shape=(28, 28, 1))
    label = tfds.features.ClassLabel(names=[f"digit {number}" for number in range(10)])
    splits = ("train", "test")

    def _info(self):
        features = tfds.features.FeaturesDict({"image": self.image, "label": self.label})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split):
        for number, (image, label) in enumerate(zip(*ARRAYS["test" if split == "test" else "train"])):
            yield number, {"image": io.BytesIO(encoded(photo_of(image), "png")), "label": int(label)}


def photo_of(image):
    from PIL import Image

    return Image.fromarray(image[:, :, 0])


class TinyDigits(_Set):
    """Of one size, like kmnist."""


class TinyTrainOnly(_Set):
    """With one split, like tf_flowers."""

    splits = ("train",)


class TinyTestOnly(_Set):
    """With no split to train on, like imagenet_v2."""

    splits = ("test",)


class TinyConfigured(_Set):
    """In several configurations, like emnist."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("balanced", "letters")]


class TinyPhotos(_Set):
    """Of many sizes, with a validation split, like imagenette."""

    image = tfds.features.Image(encoding_format="jpeg")
    label = tfds.features.ClassLabel(names=["ant", "bee"])
    splits = ("train", "validation")

    def _generate_examples(self, split):
        for number in range({"train": 12, "validation": 6}[split]):
            seed = number + 100 * (split == "validation")
            yield number, {"image": io.BytesIO(encoded(photo(seed))), "label": number % 2}


class TinyUnlabelled(_Set):
    """Without a label."""

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"image": self.image}))

    def _generate_examples(self, split):
        yield 0, {"image": io.BytesIO(encoded(photo_of(ARRAYS["train"][0][0]), "png"))}


class TinyNeedy(_Set):
    """Needs a package that is not there."""

    def _split_generators(self, dl_manager):
        import a_package_that_nobody_has  # noqa: F401


@pytest.fixture
def data(tmp_path):
    """Makes the data settings for a set, which is prepared unless the test says otherwise."""

    def make(name, prepare=True, **changes):
        made = config.Data.of(name=f"tfds:{name}", data_dir=str(tmp_path), **changes)
        if prepare:
            source.prepare(made)
        return made

    return make


def test_images_of_one_size_are_taken_as_they_are(data, tmp_path):
    made = data("tiny_digits", prepare=False)
    assert (
        source.prepare(made)
        == f"tfds:tiny_digits is prepared in {tmp_path}/tiny_digits/1.2.0: 60 train and 20 test examples"
    )
    assert source.prepare(made).startswith("tfds:tiny_digits is already prepared in ")
    for split in ("train", "test"):
        found = source.load(made, split)
        assert pairs(found.images, found.labels) == pairs(*ARRAYS[split])
        assert found.class_names[3] == "digit 3" and found.name == "tfds:tiny_digits"
    assert config.image_shape(made, source.facts(made).shape) == (28, 28, 1)


def test_images_of_many_sizes_are_squares_and_validation_tests(data):
    made = data("tiny_photos", side=24)
    found = source.load(made, "test")
    expected = [decode.square(encoded(photo(100 + number)), 24, "") for number in range(6)]
    assert pairs(np.asarray(found.images), found.labels) == pairs(expected, [number % 2 for number in range(6)])


def test_what_has_no_test_split_keeps_a_fifth_of_each_class(data):
    made = data("tiny_train_only")
    train, test = source.load(made, "train"), source.load(made, "test")
    assert len(test.labels) == 12 and len(train.labels) == 48
    assert sorted(pairs(train.images, train.labels) + pairs(test.images, test.labels)) == pairs(*ARRAYS["train"])
    exact = np.bincount(ARRAYS["train"][1], minlength=10) / 5
    assert np.all(np.abs(np.bincount(test.labels, minlength=10) - exact) < 1)
    streamed = source.load(made.changed(placement="stream"), "test")
    np.testing.assert_array_equal(streamed.images[:], test.images)
    assert source.of(made).training_examples() == 48


def test_what_has_no_training_split_can_be_tested_on(data):
    made = data("tiny_test_only", prepare=False)
    source.prepare(made.changed(limit=1))
    assert len(source.load(made, "test").labels) == 20
    with pytest.raises(UsageError, match="tfds:tiny_test_only has no split to train on, only test: .*--init_from"):
        source.load(made, "train")


def test_the_configuration_has_to_be_named(data, tmp_path):
    data("tiny_configured/letters")
    with pytest.raises(UserError, match="several configurations: .* tfds:tiny_configured/letters"):
        source.facts(data("tiny_configured", prepare=False))


def test_the_newest_version_counts(data, tmp_path):
    made = data("tiny_digits")
    for version in ("1.10.0", "1.9.0"):
        shutil.copytree(tmp_path / "tiny_digits/1.2.0", tmp_path / "tiny_digits" / version)
    assert source.of(made).folder == tmp_path / "tiny_digits/1.10.0"


def test_unprepared_sets_say_how_to_get_them(data, tmp_path):
    settings = config.Config(data=data("kmnist", prepare=False))
    for attempt in (lambda: checks.problems(settings), lambda: source.load(settings.data, "train", "lenet_mnist")):
        with pytest.raises(UserError) as error:
            attempt()
        assert f"tfds:kmnist is not prepared in {tmp_path}. Prepare it once" in str(error.value)
    assert flags.command("--experiment=lenet_mnist", "--mode=prepare", "--set", "data.name=tfds:kmnist") in str(
        error.value
    )


@pytest.mark.parametrize(
    "name, message",
    [
        ("no_such_set_at_all", "TFDS .* has no set 'no_such_set_at_all'"),
        ("tiny_needy", "TFDS needs a_package_that_nobody_has to prepare tiny_needy: install it"),
        ("tiny_unlabelled", "cannot be classified: an image and a label are needed, and its examples have image"),
    ],
)
def test_what_cannot_be_prepared_is_told(data, name, message):
    with pytest.raises(UserError, match=message):
        data(name)


def test_only_names_of_tfds_are_taken():
    for name in ("tfds:", "tfds:../up", "tfds:a/b/c", "tfds:a b"):
        with pytest.raises(ValueError, match="must be one of .*tfds:NAME"):
            config.Data.of(name=name)


def test_settings_stay_when_another_set_is_chosen():
    assert config.Data.of(name="tfds:one", side=64).changed(name="tfds:two") == config.Data.of(name="tfds:two", side=64)
