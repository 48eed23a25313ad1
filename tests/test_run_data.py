"""What a run's data are is remembered: it goes on with no others, and is measured on no image that it learnt."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from tiny_images import encoded, photo, write_class_folders
from tiny_training import folder_settings as settings

import cnn_jax
from cnn_jax import run_data
from cnn_jax.data.datasets import base, source
from cnn_jax.data.identity import Identity
from cnn_jax.data.images import records
from cnn_jax.errors import UsageError, UserError

COUNTS = {"disc": 12, "ring": 14, "star": 16}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("trained")
    write_class_folders(place / "shapes", COUNTS)
    cnn_jax.Run(settings(place / "shapes"), place / "run").train(progress=False)
    return place


@pytest.fixture
def place(trained, tmp_path):
    """A folder with the images, shapes, and a run that was trained on them, run."""
    for name in ("shapes", "run"):
        shutil.copytree(trained / name, tmp_path / name)
    return tmp_path


def opened(place, path="shapes"):
    return cnn_jax.Run(settings(place / path), place / "run")


def test_what_is_stored(place):
    known = json.loads((place / "run/data.json").read_text())
    assert known["class_names"] == ["disc", "ring", "star"] and known["shape"] == [28, 28, 3]
    assert {split: len(names) for split, names in known["splits"].items()} == {"train": 29, "validation": 6, "test": 7}
    assert len(known["files"]["train"]) == 42
    size, digest = known["files"]["train"]["ring/003.jpg"]
    assert size == (place / "shapes/ring/003.jpg").stat().st_size and len(digest) == 32


def test_a_folder_that_was_moved_goes_on(place):
    (place / "shapes").rename(place / "elsewhere")
    assert opened(place, "elsewhere").train(progress=False) == 6


@pytest.mark.parametrize(
    "change, told",
    [
        ("add", "train: 1 file (ring/new.jpg) added"),
        ("remove", "train: 1 file (ring/003.jpg) gone"),
        ("edit", "train: 1 file (ring/003.jpg) changed"),
        ("flip a bit", "train: 1 file (ring/003.jpg) changed"),
        ("rename a class", "class ring is gone\n  class zebra is new"),
        ("other images", "class disc is gone"),
    ],
)
def test_training_goes_on_with_no_other_data(place, change, told):
    change_data(place / "shapes", change)
    before = (place / "run/config.json").read_bytes(), (place / "run/data.json").read_bytes()
    with pytest.raises(UsageError) as error:
        opened(place).train(progress=False)
    assert told in str(error.value) and str(place / "run") in str(error.value)
    assert "measure the network on these with --mode=eval, or train on them in another --workdir" in str(error.value)
    assert before == ((place / "run/config.json").read_bytes(), (place / "run/data.json").read_bytes())


def change_data(shapes, change):
    ring = shapes / "ring/003.jpg"
    if change == "add":
        (shapes / "ring/new.jpg").write_bytes(encoded(photo(999)))
    elif change == "remove":
        ring.unlink()
    elif change == "edit":
        ring.write_bytes(encoded(photo(999)))
    elif change == "flip a bit":
        content = bytearray(ring.read_bytes())
        content[200] ^= 1
        ring.write_bytes(content)
    elif change == "rename a class":
        (shapes / "ring").rename(shapes / "zebra")
    else:
        shutil.rmtree(shapes)
        write_class_folders(shapes, {"cat": 8, "dog": 8})


def test_a_grown_folder_is_measured_on_what_was_not_learnt(place):
    known = run_data.stored(place / "run")
    (place / "shapes/ring/new.jpg").write_bytes(encoded(photo(999)))
    learnt = place / "shapes" / known.splits["train"][0]
    shutil.copy(learnt, place / "shapes/star/copy.jpg")  # known by its content
    unseen, changed = opened(place).unseen()
    assert changed == ["train: 2 files (ring/new.jpg, star/copy.jpg) added"]
    expected = sorted([*known.splits["test"], "ring/new.jpg"])
    assert len(unseen.labels) == 8
    assert [known.class_names[label] for label in unseen.labels] == [name.partition("/")[0] for name in expected]
    assert opened(place).unseen()[0].class_names == known.class_names


def test_above_a_size_names_decide(place, monkeypatch):
    """The content of large sets is not read."""
    monkeypatch.setattr(base, "LARGE", 1000)
    now = source.identity(settings(place / "shapes").data)
    assert {digest for _, digest in now.files["train"].values()} == {""}
    assert run_data.stored(place / "run").differences(now) == []
    (place / "shapes/ring/new.jpg").write_bytes(encoded(photo(999)))
    assert len(opened(place).unseen()[0].labels) == 8


def test_what_was_learnt_alone_says_nothing(place):
    known = run_data.stored(place / "run")
    for name in known.splits["test"]:
        (place / "shapes" / name).unlink()
    with pytest.raises(UserError, match="trained on every image in .*: there is none to measure it on"):
        opened(place).unseen()
    with pytest.raises(UserError, match="of the run's test images 7 files .* cannot be found: put them back"):
        opened(place).evaluate("test")


def test_a_test_image_that_changed_is_not_measured(place):
    name = run_data.stored(place / "run").splits["test"][0]
    (place / "shapes" / name).write_bytes(encoded(photo(999)))
    with pytest.raises(UserError, match=f"test images 1 file .{name}. have another content: put them back"):
        opened(place).report()


def test_on_classes_that_it_does_not_know_a_run_is_not_measured(place):
    change_data(place / "shapes", "rename a class")
    with pytest.raises(UserError, match="has classes that the run does not know, zebra; its own are disc, ring, star"):
        opened(place).unseen()


def test_predictions_need_no_data(place):
    change_data(place / "shapes", "rename a class")
    before = opened(place).predict([place / "shapes/zebra/001.jpg"])
    shutil.move(place / "shapes/zebra/001.jpg", place / "one.jpg")
    shutil.rmtree(place / "shapes")
    run = opened(place)
    found = run.predict([place / "one.jpg"])
    assert found.class_names == ("disc", "ring", "star") == before.class_names
    np.testing.assert_array_equal(found.probabilities, before.probabilities)
    assert run.network().class_names == found.class_names


@pytest.mark.slow
def test_a_report_needs_no_training_images(place):
    known = run_data.stored(place / "run")
    for name in known.splits["train"]:
        (place / "shapes" / name).unlink()
    page = opened(place).report().read_text(encoding="utf-8")
    assert '<th scope="row">ring</th><td>11</td><td>2</td><td>1</td>' in page


def test_the_stored_list_decides(place):
    """Whatever the rule would choose: as if the rule had been another one when the run began."""
    stored = run_data.stored(place / "run")
    splits = stored.splits | {"test": stored.splits["train"][:3], "train": stored.splits["test"]}
    run_data.store(place / "run", dataclasses.replace(stored, splits=splits))
    assert len(opened(place).dataset("train").labels) == 7 and len(opened(place).dataset("test").labels) == 3


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"files": 3}', "\x00", "a digit of a digest"])
def test_a_damaged_record_is_named_and_written_anew(place, damage, capsys):
    path = place / "run/data.json"
    before = path.read_bytes()
    if damage == "a digit of a digest":
        digest = run_data.stored(place / "run").files["train"]["ring/003.jpg"][1]
        damage = before.decode().replace(digest, digest[::-1])
    path.write_text(damage)
    assert opened(place).train(progress=False) == 6
    assert path.read_bytes() == before
    path.write_text(damage)
    assert run_data.stored(place / "run") is None
    assert f"{path} is damaged" in capsys.readouterr().err


def test_a_study_does_not_mix_data(tmp_path):
    write_class_folders(tmp_path / "shapes", COUNTS)
    words = ("data.name=folder", f"data.path={tmp_path / 'shapes'}", "train.batch_size=4", "study.measurements=")
    study = cnn_jax.StudyRun(cnn_jax.settings("pooling_digits", *words), tmp_path / "study")
    study.folder.mkdir()
    run_data.store(study.folder, source.identity(study.study.base.data))  # as its first arm left it
    change_data(tmp_path / "shapes", "remove")
    with pytest.raises(UsageError, match="ring/003.jpg. gone"):
        study.train(progress=False)
    assert not (study.folder / "arms").exists()


def test_a_prepared_set_is_known_by_its_examples(tmp_path):
    """TFDS writes the fields of an example in an order of chance: prepared twice, sets have the same examples."""
    of = lambda name: cnn_jax.settings("lenet_digits", f"data.data_dir={tmp_path / name}").data
    source.prepare(of("here"))
    known = source.identity(of("here"))
    assert known.class_names == tuple("0123456789") and known.splits == {} and set(known.files) == {"train", "test"}
    (shard,) = known.files["test"]
    path = tmp_path / "here/digits/1.0.0" / shard
    examples = [*records.FORMATS["array_record"]([path]).__getitems__(range(360))]
    shutil.copytree(tmp_path / "here", tmp_path / "there")

    def rewrite(changed):
        writer = ArrayRecordWriter(str(tmp_path / "there/digits/1.0.0" / shard), "group_size:1")
        for example in changed:
            writer.write(example)
        writer.close()

    def turned(example):
        fields = [*records._fields(example)]
        return example[: len(example) - sum(map(len, fields))] + b"".join(reversed(fields))

    rewrite(map(turned, examples))
    assert (tmp_path / "there/digits/1.0.0" / shard).read_bytes() != path.read_bytes()
    assert source.identity(of("there")) == known
    image = bytearray(examples[7])
    image[-20] ^= 1
    rewrite([*examples[:7], bytes(image), *examples[8:]])
    assert known.differences(source.identity(of("there"))) == [f"test: 1 file ({shard}) changed"]


def test_digests_of_bytes_say_nothing_of_examples():
    """Runs before them have a digest of the bytes."""
    of = lambda digest: Identity(name="x", shape=(1, 1, 1), class_names=("a",), files={"train": {"f": (9, digest)}})
    assert of("abc").differences(of("examples:def")) == []
    assert of("examples:abc").differences(of("examples:def")) == ["train: 1 file (f) changed"]
    assert of("abc").differences(of("def")) == ["train: 1 file (f) changed"]
