"""What docs/results says follows from the rows of each arm and seed that lie beside it."""

import csv
import importlib.util
import shutil

import pytest
from launching import REPOSITORY

import cnn_jax
from cnn_jax.studies import results

FOLDER = REPOSITORY / "docs" / "results"
STUDIES = sorted(path.parent.name for path in FOLDER.glob("*/study.json"))
MCNEMAR = ("better", "worse", "p_images", "p_images_holm")


@pytest.fixture(scope="module")
def rebuild():
    spec = importlib.util.spec_from_file_location("rebuild", FOLDER / "rebuild.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.rebuild


@pytest.mark.parametrize("name", STUDIES)
def test_tables_and_figures_are_those_of_the_rows(rebuild, tmp_path, name):
    copied = tmp_path / name
    shutil.copytree(FOLDER / name, copied)
    made = {path.name: path.read_bytes() for path in copied.iterdir()}
    kept = {"study.json", "results.csv", "sweep.csv"}
    for path in copied.iterdir():
        if path.name not in kept:
            path.unlink()
    rebuild(copied)
    again = {path.name: path.read_bytes() for path in copied.iterdir()}
    assert {name: data for name, data in again.items() if name in made} == made
    assert set(again) == set(made)


@pytest.mark.slow
def test_a_study_is_rebuilt_from_its_table(rebuild, tmp_path, quick_compile):
    """All that it wrote itself, to the digits of the table, but for the tests over images."""
    changes = ["study.arms=average", "study.seeds=4", "data.name=fake", "data.side=28", "data.examples=40",
               "train.duration=2 steps", "train.batch_size=8", "schedule.warmup=0 steps", "study.images=8",
               "study.measurements=consistency"]  # fmt: skip
    study = cnn_jax.StudyRun(cnn_jax.settings("pooling_digits", *changes), tmp_path / "study")
    assert study.train(progress=False) == []
    whole = results.load(study.study, study.folder)
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("study.json", "results.csv"):
        shutil.copy(study.folder / name, kept)
    rebuild(kept)
    assert (kept / "differences.svg").read_text().startswith("<svg")
    for name in ("summary.csv", "figures.csv", "comparisons.csv"):
        with (kept / name).open() as ours, (study.folder / name).open() as theirs:
            pairs = list(zip(csv.DictReader(ours), csv.DictReader(theirs), strict=True))
        assert pairs
        for one, other in pairs:
            assert one.keys() == other.keys()
            for column in one.keys() - set(MCNEMAR):
                try:
                    assert float(one[column]) == pytest.approx(float(other[column]), rel=1e-4, abs=1e-6), column
                except ValueError:
                    assert one[column] == other[column], column
    assert [each.arm.name for each in whole.arms] == ["max", "average"]
