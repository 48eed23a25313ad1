"""The recipes of docs/add_your_own.md, each followed to the letter in a copy of the repository."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from launching import QUICK, REPOSITORY, environment, settings, shared_folder

from cnn_jax.errors import EXIT_USAGE

PAGE = (REPOSITORY / "docs" / "add_your_own.md").read_text(encoding="utf-8")
BEGINNING, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
RECIPES = {section.partition("\n")[0]: section for section in SECTIONS}
OWN_FILES = "An experiment or a study in a file of your own"
# What makes a run of digits a matter of seconds: two steps on made-up images.
TWO_STEPS = settings(
    train__batch_size=8, train__duration="2 steps", schedule__warmup="1 steps", evaluation__every="2 steps",
    checkpoint__every="2 steps", log__every="2 steps",
)  # fmt: skip
SHORT = [*settings(data__name="fake", data__side=28, data__examples=80), *TWO_STEPS]
SHORT_STUDY = [*SHORT, *settings(study__seeds=2, study__images=8)]

MIDRANGE = """
import numpy as np
from cnn_jax import config
from cnn_jax.layers.pooling import make_pool

x = np.random.default_rng(3).normal(size=(2, 6, 8, 3)).astype(np.float32)
for border in (0, 1):
    around = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), constant_values=np.nan)
    windows = around.reshape(2, 3 + border, 2, 4 + border, 2, 3)
    middle = (np.nanmax(windows, (2, 4)) + np.nanmin(windows, (2, 4))) / 2
    pool = make_pool("pool", (6, 8, 3), config.Pool.of(kind="midrange", padding=str(border)))
    np.testing.assert_allclose(pool(x), middle, rtol=1e-5, atol=1e-6)
"""


def blocks(recipe):
    """The blocks of code of a recipe: file, what to do there, and the lines."""
    found = re.findall(r"^```python\n(.*?)^```$", RECIPES[recipe], re.MULTILINE | re.DOTALL)
    return [
        (*re.fullmatch(r"# (\S+): (.+)", head).groups(), code) for head, _, code in (b.partition("\n") for b in found)
    ]


def commands(recipe):
    """What a recipe tells a person to type."""
    return "".join(re.findall(r"^```sh\n(.*?)^```$", RECIPES[recipe], re.MULTILINE | re.DOTALL)).splitlines()


def put(folder, file, action, code):
    """Puts the lines of a block where its first line says, as the page explains it."""
    path = folder / file
    word, _, name = action.partition(" ")
    if action == "new file":
        assert not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if action == "at the end":
        text = f"{text}\n\n{code}"
    elif word == "above":
        before, line, after = re.split(rf"^({name} = )", text, flags=re.MULTILINE)
        text = f"{before}{code}\n\n{line}{after}"
    elif word == "into":
        begin = re.search(rf"^{name} = [({{]$", text, re.MULTILINE).end()
        end = begin + re.search(r"^[)}]", text[begin:], re.MULTILINE).start()
        text = f"{text[:end]}{code}{text[end:]}"
    else:
        raise ValueError(f"{file}: {action}")
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def env(tmp_path_factory):
    return environment(shared_folder(tmp_path_factory, "cache"), **QUICK)


@pytest.fixture
def follow(tmp_path):
    """Copies the repository and follows a recipe there; the folder."""

    def follow(recipe):
        folder = tmp_path / "checkout"
        for name in ("cnn_jax", "experiments"):
            shutil.copytree(REPOSITORY / name, folder / name)
        shutil.copy(REPOSITORY / "launch.py", folder)
        for block in blocks(recipe):
            put(folder, *block)
        return folder

    return follow


def typed(folder, env, line, *more, status=0):
    """A line of the page, typed in a folder, with further flags; what it wrote to stdout and stderr."""
    python, *words = shlex.split(line)
    assert python == "python"
    done = subprocess.run(
        [sys.executable, *words, *more], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status and "Traceback" not in done.stderr, f"{done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_short_and_its_words_are_explained(recipe):
    files = [len([line for line in code.splitlines() if line.strip()]) for *_, code in blocks(recipe)]
    assert 0 < (max(files) if recipe == OWN_FILES else sum(files)) < 25
    for file, action, code in blocks(recipe):
        pattern = re.sub(r"[A-Z]+", "NAME", action)
        assert f"- `{pattern}`: " in BEGINNING, action
        assert max(map(len, code.splitlines())) <= 120 and code.endswith("\n"), file
    assert commands(recipe)


def test_what_is_named_is_there():
    links = re.findall(r"\]\(([\w./-]+)\)", PAGE)
    paths = re.findall(r"`((?:cnn_jax|experiments|tests)/[\w./]*)`", PAGE)
    assert links and [path for path in links if not (REPOSITORY / "docs" / path).exists()] == []
    assert paths and [path for path in paths if not (REPOSITORY / path).exists()] == []


@pytest.mark.slow
def test_a_pooling(follow, env):
    folder = follow("A pooling")
    look, train = commands("A pooling")
    assert "midrange pooling 2x2, stride 2" in typed(folder, env, look)[0]
    typed(folder, env, f"python -c {shlex.quote(MIDRANGE)}")
    typed(folder, env, train, "--noreport", *SHORT, "--set", "data.validation=16")
    assert json.loads((folder / "runs/midrange/config.json").read_text())["model"]["pool"]["kind"] == "midrange"
    assert (folder / "runs/midrange/results.json").exists()


@pytest.mark.slow
def test_a_network(follow, env):
    folder = follow("A network")
    look, train = commands("A network")
    printed, _ = typed(folder, env, look)
    assert f"{784 * 100 + 100 + 100 * 10 + 10:,}" in printed
    assert "perceptron_digits" in typed(folder, env, "python launch.py --list")[0]
    typed(folder, env, train, "--noreport", *SHORT)
    assert (folder / "runs/perceptron_digits/results.json").exists()


@pytest.mark.slow
def test_a_dataset(follow, env):
    folder = follow("A dataset")
    rng = np.random.default_rng(5)
    arrays = {}
    for split, count in (("train", 80), ("test", 24)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, 1), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 10
    np.savez(folder / "images.npz", **arrays)
    look, train = commands("A dataset")
    assert "80 train and 24 test examples" in typed(folder, env, look)[0]
    printed, _ = typed(folder, env, train, "--noreport", *TWO_STEPS, "--set", "data.validation=16")
    assert " of 24 wrong; best validation accuracy" in printed
    settings_kept = json.loads((folder / "runs/numpy_file/config.json").read_text())
    assert settings_kept["data"]["name"] == "numpy_file" and settings_kept["data"]["file"] == "images.npz"


@pytest.mark.slow
def test_a_metric(follow, env):
    folder = follow("A metric")
    (train,) = commands("A metric")
    printed, _ = typed(folder, env, train, *SHORT, "--set", "data.validation=16")
    run = folder / "runs/balanced"
    measured = json.loads((run / "results.json").read_text())
    mean = sum(measured["test_class_accuracy"].values()) / 10
    assert measured["test_balanced_accuracy"] == pytest.approx(mean) and len(measured["test_class_accuracy"]) == 10
    assert f"balanced accuracy {100 * mean:.2f} %" in printed
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (value,) = [line["balanced_accuracy"] for line in lines if line["split"] == "validation"]
    assert [float(row["balanced_accuracy"]) for row in table(run / "metrics.csv")[1:]] == [value]
    assert "alanced accuracy" in (run / "report.html").read_text()


@pytest.mark.slow  # tests/studies/test_adding_a_measurement.py has another one, in the process of the test
def test_a_measurement(follow, env):
    folder = follow("A measurement")
    (study,) = commands("A measurement")
    typed(folder, env, study, *SHORT_STUDY, "--set", "study.arms=max")
    run = folder / "runs/pooling_digits"
    found = [float(row["inverted_accuracy"]) for row in table(run / "results.csv")]
    assert len(found) == 2 and all(0 <= value <= 1 for value in found)
    assert float(table(run / "summary.csv")[0]["inverted_accuracy"]) == pytest.approx(sum(found) / 2)
    assert "inverted, \\%" in (run / "table.tex").read_text()
    assert '<section id="inverted">' in (run / "report.html").read_text()


@pytest.mark.slow
def test_an_experiment_and_a_study_of_ones_own(follow, env):
    folder = follow(OWN_FILES)
    looks = [line for line in commands(OWN_FILES) if "--mode=summary" in line]
    experiment, study = (typed(folder, env, line)[0] for line in looks)
    assert "average pooling 2x2, stride 2" in experiment and "sigmoid" in study


@pytest.mark.slow
def test_an_experiment_and_a_study_of_ones_own_are_run(follow, env):
    folder = follow(OWN_FILES)
    train, study = (line for line in commands(OWN_FILES) if "--mode=summary" not in line)
    typed(folder, env, train, "--noreport", *SHORT)
    assert (folder / "runs/mine/results.json").exists()
    typed(folder, env, study, "--noreport", *SHORT_STUDY, "--set", "study.arms=tanh")
    assert [row["arm"] for row in table(folder / "runs/activations/results.csv")] == ["tanh", "tanh"]


def test_an_error_in_a_file_of_ones_own_is_told_by_its_line(follow, env):
    folder = follow(OWN_FILES)
    path = folder / "path/to/mine.py"
    path.write_text(path.read_text().replace("learning_rate=", "learning_rat="))
    printed, told = typed(folder, env, commands(OWN_FILES)[0], status=EXIT_USAGE)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", RECIPES[OWN_FILES], re.MULTILINE | re.DOTALL)
    assert (printed, told) == ("", shown.replace("/home/you", str(folder)))
