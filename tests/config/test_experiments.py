import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

from cnn_jax.config import Config, experiments, overrides, study
from cnn_jax.config.rules import problems
from cnn_jax.errors import EXIT_USAGE, UsageError

pytestmark = pytest.mark.versions

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOUND = '''"""A small recipe.

Expected: little.
"""

from cnn_jax.config import Config


def config():
    return Config(seed=5)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An experiments folder with one sound file, to add others to."""
    monkeypatch.setattr(experiments, "FOLDER", tmp_path)
    (tmp_path / "small.py").write_text(SOUND)
    return tmp_path


def test_every_experiment_loads_sound_and_with_a_summary():
    cards = dict(experiments.summaries())
    assert {"lenet_digits", "lenet_mnist"} <= cards.keys()
    for name in experiments.names():
        loaded = experiments.load(name)
        assert loaded.experiment == name
        if isinstance(loaded, study.Study):
            assert study.apply(loaded, []) == loaded and loaded.base.experiment == name
        else:
            assert problems(loaded) == [], name
        assert cards[name], f"experiments/{name}.py has no docstring"


def test_names_are_the_files_without_helpers(folder):
    (folder / "_shared.py").write_text("")
    (folder / "another.py").write_text("")
    (folder / "notes.txt").write_text("")
    assert experiments.names() == ["another", "small"]


def test_names_do_not_depend_on_the_current_directory(tmp_path, monkeypatch):
    before = experiments.names()
    monkeypatch.chdir(tmp_path)
    assert experiments.names() == before


def test_recipe_cards_are_read_without_running_the_file(folder):
    (folder / "broken.py").write_text('"""Runs into a wall.\n\nAt once.\n"""\nraise RuntimeError\n')
    (folder / "bare.py").write_text("x = 1\n")
    assert experiments.summaries() == [("bare", ""), ("broken", "Runs into a wall."), ("small", "A small recipe.")]
    assert experiments.docstring("broken") == "Runs into a wall.\n\nAt once."


def test_loading_sets_the_name_and_keeps_the_settings(folder):
    (folder / "broken.py").write_text("raise RuntimeError\n")  # the others are not run
    assert experiments.load("small") == Config(experiment="small", seed=5)


@pytest.mark.parametrize("ask", [experiments.load, experiments.docstring])
@pytest.mark.parametrize("name, answer", [("smal", "mean small?"), ("../small", "are small"), ("", "are small")])
def test_an_unknown_experiment_is_answered_with_the_names(folder, ask, name, answer):
    with pytest.raises(UsageError, match="no experiment") as caught:
        ask(name)
    assert answer in str(caught.value) and caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    "source, message",
    [
        ("x = 1\n", "no function config"),
        ("def config():\n    return 3\n", "type int, not a Config"),
        ("def config(:\n", "line 1: "),
        ("def study():\n    return 3\n", "type int, not a Study"),
        ("import math\n\n\ndef config():\n    return math.sqrt(-1)\n", "odd.py, line 5: ValueError: "),
        ("from cnn_jax.config import Config\n\nx = Config(sead=1)\n", "odd.py, line 3: TypeError: .*sead"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(folder, source, message):
    (folder / "odd.py").write_text(source)
    with pytest.raises(UsageError, match=message) as caught:
        experiments.load("odd")
    assert "experiments/odd.py" in str(caught.value)


def test_a_file_of_ones_own_is_an_experiment(tmp_path, monkeypatch):
    path = tmp_path / "my own.py"
    path.write_text(SOUND)
    assert experiments.load(str(path)) == Config(experiment=str(path), seed=5)
    monkeypatch.chdir(tmp_path)
    assert experiments.load("my own.py").experiment == str(path)  # wherever it is read again
    assert experiments.title(str(path)) == "my own" and experiments.recipe(str(path)).startswith("A small recipe.")
    path.write_text("def config(:\n")
    with pytest.raises(UsageError, match="my own.py, line 1: "):
        experiments.load(str(path))
    path.unlink()
    assert experiments.recipe(str(path)) == ""
    with pytest.raises(UsageError, match="there is no file .*my own.py"):
        experiments.load(str(path))


def test_choosing_an_experiment_does_not_import_jax(tmp_path):
    program = (
        "import sys\n"
        "from cnn_jax import config\n"
        "from cnn_jax.config import experiments, overrides, study\n"
        "for name in experiments.names():\n"
        "    loaded = experiments.load(name)\n"
        "    apply = overrides.apply if isinstance(loaded, config.Config) else study.apply\n"
        "    apply(loaded, ['seed=3'])\n"
        "print(sorted({'jax', 'flax', 'numpy', 'tensorflow'} & sys.modules.keys()))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_departures_are_what_a_person_changed():
    run = overrides.apply(experiments.load("lenet_digits"), ["model.pool.kind=average", "train.duration=1 epochs"])
    assert experiments.departures(run) == ["model.pool.kind: max → average", "train.duration: 60 epochs → 1 epochs"]
    assert experiments.departures(experiments.load("lenet_digits")) == []
    cut = study.apply(experiments.load("pooling_digits"), ["study.seeds=2", "study.arms=average,min", "seed=3"])
    assert experiments.departures(cut) == [
        "seed: 0 → 3", "study.seeds: 5 → 2", "without the arms lp, soft, max_average, stochastic, max_blur",
    ]  # fmt: skip
    assert experiments.departures(dataclasses.replace(run, experiment="/gone/mine.py")) == []
