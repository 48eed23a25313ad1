"""A measurement is one file: put into the folder, it is found, measured, stored, and stands in tables and report."""

import csv
import importlib
import re
import sys

import pytest

from cnn_jax import config
from cnn_jax.config.study import Arm, Study, apply
from cnn_jax.errors import UsageError
from cnn_jax.reports.study import report
from cnn_jax.studies import measurements, results, runner
from cnn_jax.studies.measurements.base import Measurement

FILE = '''"""Accuracy on images turned upside down."""

from cnn_jax.studies.measurements.base import Column, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Bars
from cnn_jax.studies.measurements.shifts import accuracy


class UpsideDown(Measurement):
    """Accuracy on images turned upside down."""

    section = Section("upside_down", "Upside down", "Does it matter which way is up?")
    columns = (Column("turned_accuracy", "turned accuracy", lambda found: found.accuracy, "%", latex="turned"),)

    def measure(self, context):
        """Measures all images."""
        right = accuracy(context.predict(context.images[:, ::-1]), context.labels)
        return Result(accuracy=right, images=len(context.images))

    def protocol(self, found):
        """One sentence."""
        return f"{found.images} test images, upside down."

    def figures(self, found, protocol):
        """The accuracy of each seed."""
        values = {arm: 100 * each.accuracy for arm, each in found.items()}
        return [Bars(name="upside", values=values, axis="accuracy, %", caption=f"Accuracy. {protocol}")]


MEASUREMENT = UpsideDown()
'''
STUDY = Study(
    experiment="pooling_digits",
    base=config.Config(
        model=config.LeNet(layout="CHWN"),
        data=config.Data.of(name="fake", side=28, examples=40, classes=10),
        train=config.Train(batch_size=8, duration="2 steps"),
        evaluation=config.Evaluation(every="2 steps"),
        log=config.Log(every="2 steps", tensorboard=False),
        parallel="jit",
    ),
    arms=(Arm(name="max"),),
    baseline="max",
    protocol=config.Protocol(seeds=2, images=8),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A second folder of measurements."""
    place = tmp_path / "more"
    place.mkdir()
    monkeypatch.setattr(measurements, "__path__", [*measurements.__path__, str(place)])
    importlib.invalidate_caches()
    yield place
    for path in place.glob("*.py"):
        sys.modules.pop(f"{measurements.__name__}.{path.stem}", None)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compile")
def test_one_file_is_enough(folder, tmp_path):
    with pytest.raises(UsageError, match="there is no upside_down"):
        apply(STUDY, ["study.measurements=upside_down"], measurements.problems)
    (folder / "upside_down.py").write_text(FILE)
    study = apply(STUDY, ["study.measurements=consistency,upside_down"], measurements.problems)
    assert "upside_down: Accuracy on images turned upside down." in runner.plan(study)
    assert runner.run(study, tmp_path, log=lambda line: None) == []
    found = results.load(study, tmp_path)
    results.write(found, tmp_path)
    values = found.arms[0].measurements["upside_down"].accuracy
    assert values.shape == (2,) and found.arms[0].measurements["upside_down"].images == 8
    with open(tmp_path / "results.csv", newline="") as file:
        assert [float(row["turned_accuracy"]) for row in csv.DictReader(file)] == pytest.approx(values)
    with open(tmp_path / "summary.csv", newline="") as file:
        assert [float(row["turned_accuracy"]) for row in csv.DictReader(file)] == pytest.approx([values.mean()])
    table = (tmp_path / "table.tex").read_text()
    assert "turned, \\%" in table and f"& {100 * values.mean():.1f} \\\\" in table
    page = report.render(found, [])
    table = page[page.index("turned accuracy,\u00a0%</th>") :].partition("</table>")[0]
    assert f"<td>{100 * values.mean():.1f}" in table
    own = page[page.index('<section id="upside_down">') :].partition("</section>")[0]
    assert "<h2>Upside down</h2>" in own and "<p>Does it matter which way is up?</p>" in own
    assert own.count("<svg") == 1 and "Accuracy. 8 test images, upside down.</figcaption>" in own


def test_a_file_may_be_for_one_dataset(folder):
    (folder / "blue.py").write_text('"""Blue pixels.\n\nMore."""\n\nimport no_such_module\n\nDATA = "cifar10"\n')
    assert measurements.summary("blue") == "Blue pixels." and "blue" in measurements.names()
    assert measurements.refusal("blue", config.Config(data=config.Data.of(name="cifar10"))) == ""
    with pytest.raises(UsageError, match="'blue' is for data.name = 'cifar10', not 'fake'"):
        apply(STUDY, ["study.measurements=blue"], measurements.problems)


def test_every_file_of_the_folder_is_a_measurement():
    assert len(measurements.names()) >= 8
    found = {name: measurements.find(name) for name in measurements.names()}
    assert all(isinstance(each, Measurement) for each in found.values())
    assert all(re.fullmatch(r".{10,110}\.", measurements.summary(name)) for name in found)
    columns = [column.name for each in found.values() for column in each.columns]
    red_green = config.Config(data=config.Data.of(name="red_green", crop=8))
    assert len(columns) == len(set(columns))
    assert all(measurements.refusal(name, red_green) == "" for name in found)


def test_crops_need_a_crop():
    with pytest.raises(UsageError, match="'crops' needs data.crop, which is 0"):
        apply(STUDY, ["study.measurements=crops"], measurements.problems)
