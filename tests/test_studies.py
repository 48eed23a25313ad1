"""A whole study through launch.py: killed, continued, compared; its runs; what is refused."""

import csv
import json
import re
import signal
import subprocess
import time

import jax
import numpy as np
import pytest
from launching import QUICK, REPOSITORY, command, environment, launch, settings, shared_folder, snapshot

import cnn_jax
from cnn_jax.config import experiments
from cnn_jax.studies import arm as arms
from cnn_jax.studies import runner
from cnn_jax.training.learner import Learner

pytestmark = pytest.mark.versions

ARMS, SEEDS = ("max", "average", "stochastic"), 4
SMALL = settings(
    study__arms="average,stochastic", study__seeds=SEEDS, study__measurements="consistency", study__images=10,
    data__name="fake", data__side=28, data__examples=80, data__validation=20, study__select="best",
    train__duration="8 steps", train__batch_size=8, schedule__warmup="2 steps", optimizer__learning_rate=0.01,
    evaluation__every="2 steps", checkpoint__every="2 steps", log__every="2 steps",
)  # fmt: skip
WORDS = ["--experiment=pooling_digits", "--noreport", *SMALL]


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return environment(shared_folder(tmp_path_factory, "cache"), **QUICK)


@pytest.fixture(scope="module")
def whole(env, tmp_path_factory):
    """The workdir of a study that nobody disturbed, and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    return folder, launch(env, *WORDS, f"--workdir={folder}")


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_arm_and_seed_has_its_row(whole):
    folder, done = whole
    found = rows(folder / "results.csv")
    assert [(row["arm"], row["seed"]) for row in found] == [(arm, str(seed)) for arm in ARMS for seed in range(SEEDS)]
    for arm in ARMS:
        with np.load(folder / "arms" / arm / "outcome.npz") as outcome:
            right = (outcome["answers"] == outcome["labels"]).mean(1)
        own = [row for row in found if row["arm"] == arm]
        np.testing.assert_allclose([float(row["test_accuracy"]) for row in own], right, rtol=1e-5)
        assert all(0 <= float(row["consistency"]) <= 1 for row in own)
    summary = {row["arm"]: row for row in rows(folder / "summary.csv")}
    points = {arm: 100 * np.array([float(row["test_accuracy"]) for row in found if row["arm"] == arm]) for arm in ARMS}
    for arm in ARMS[1:]:
        difference = points[arm].mean() - points["max"].mean()
        assert float(summary[arm]["difference"]) == pytest.approx(difference, abs=1e-3)
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == list(ARMS)
    assert f"arm 3/3 stochastic: {SEEDS} seeds, model.pool.kind=stochastic" in done.stderr
    assert "\\begin{tabular}" in (folder / "table.tex").read_text()


def test_every_column_is_explained(whole, tmp_path):
    """docs/study.md names each column of each table, measured figures aside."""
    told = (REPOSITORY / "docs" / "study.md").read_text(encoding="utf-8")
    for path in whole[0].glob("*.csv"):
        row = next(line for line in told.splitlines() if line.startswith(f"| `{path.name}`"))
        for name in rows(path)[0]:
            measured = name.startswith("test_") or name in ("consistency", "stability", "shifted_accuracy")
            per_class = path.name == "per_class.csv" and name not in ("arm", "seed", "class")
            assert measured or per_class or name in ("arm", "seed", "figure") or f"`{name}`" in row, (path.name, name)


def test_what_counts_is_the_best_by_the_validation_accuracy(whole):
    """Of equal ones the first; its checkpoint is kept beside the last one."""
    counted = set()
    for place in (whole[0] / "arms").glob("*/seed-*"):
        found = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        measured = [(row["accuracy"], -row["step"]) for row in found if row["split"] == "validation"]
        assert len(measured) == 4
        best = -max(measured)[1]
        counted.add(best)
        kept = {int(path.name) for path in (place / "checkpoints").iterdir() if path.name.isdigit()}
        assert kept == {best, 8}
    assert len(counted) > 1


def interrupted(env, folder, arm, send):
    """Starts the study, sends it a signal once a checkpoint of the arm is there; its exit status and last line."""
    words = command(*WORDS, f"--workdir={folder}")
    process = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    saved = lambda: list((folder / "arms" / arm / "checkpoints").glob("*/checkpoints/[24]"))
    deadline = time.monotonic() + 200
    while not saved() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(send)
    said = process.communicate()[1]
    return process.returncode, said.splitlines()[-1]


@pytest.mark.slow
def test_a_study_that_was_killed_ends_as_one_that_was_not(env, whole, tmp_path):
    expected, folder = whole[0], tmp_path / "study"
    status, last = interrupted(env, folder, "max", signal.SIGTERM)
    assert status == 75
    assert re.fullmatch("saved .*; the same command continues", last)
    assert interrupted(env, folder, "average", signal.SIGKILL)[0] == -signal.SIGKILL
    assert (folder / "arms" / "max" / "arm.json").exists()
    assert not (folder / "arms" / "average" / "arm.json").exists()
    done = launch(env, *WORDS, f"--workdir={folder}")
    assert "arm 1/3 max: already done" in done.stderr
    assert "continuing from step" in done.stderr
    for name in ("results.csv", "summary.csv"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    assert {row["arm"] for row in rows(folder / "costs.csv")} == set(ARMS)
    for arm in ARMS:
        for seed in range(SEEDS):
            one, other = (place / "arms" / arm / f"seed-{seed}" for place in (folder, expected))
            assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
        assert not (folder / "arms" / arm / "checkpoints").exists()


def test_a_seed_of_an_arm_is_a_run_like_any_other(env, whole):
    place = whole[0] / "arms" / "stochastic" / "seed-2"
    done = launch(env, "--experiment=pooling_digits", "--mode=eval", f"--workdir={place}")
    with np.load(place.parent / "outcome.npz") as outcome:
        right = (outcome["answers"][2] == outcome["labels"]).mean()
    assert re.search(rf"test: accuracy {100 * right:.2f} % .* \(best validation accuracy, step \d\)", done.stdout)
    assert json.loads((place / "config.json").read_text())["seed"] == 2
    assert (place / "data.json").read_bytes() == (whole[0] / "data.json").read_bytes()
    results = json.loads((place / "results.json").read_text())
    assert results["test_accuracy"] == right and results["rule"] == "best validation accuracy"
    timing = [json.loads(line) for line in (place / "timing.jsonl").read_text().splitlines()]
    assert {row["seeds"] for row in timing} == {SEEDS} and timing[-1]["step"] == 8 and timing[-1]["memory"] > 0
    before = (place / "metrics.jsonl").read_bytes()
    done = launch(env, "--experiment=pooling_digits", "--noreport", f"--workdir={place}")
    assert "already at its last step, 8: nothing left to train" in done.stderr
    assert (place / "metrics.jsonl").read_bytes() == before
    assert json.loads((place / "results.json").read_text()) == results


@pytest.mark.slow
def test_a_failed_arm_is_reported_and_the_others_go_on(env, tmp_path):
    """A rate that makes every loss infinite, and a folder that cannot be made."""
    folder = tmp_path / "study"
    (folder / "arms").mkdir(parents=True)
    (folder / "arms" / "max").write_text("in the way")
    asked = settings(study__arms="average", optimizer__learning_rate=1e30, study__measurements="")
    done = launch(env, *WORDS, *asked, f"--workdir={folder}", status=1)
    assert "error: arm max failed" in done.stderr and "error: arm average failed: all 4 seeds are lost" in done.stderr
    assert "average: no result: all 4 seeds are lost" in done.stdout
    assert "max: no result: NotADirectoryError: " in done.stdout
    assert rows(folder / "results.csv") == []
    assert not list((folder / "arms" / "average").glob("**/checkpoints/*/state"))


def test_refusals_name_the_thing(env, whole):
    folder, _ = whole
    before = snapshot(folder)
    for words, message in (
        (["--set", "train.batch_size=4"], "train.batch_size: 8 -> 4"),
        (["--noresume"], "already holds a study"),
        (["--mode=eval"], "pooling_digits is a study: --mode=eval works on one of its runs, such as --workdir="),
        (["--init_from=/tmp"], "--init_from does not go with a study"),
    ):
        done = launch(env, *WORDS, f"--workdir={folder}", *words, status=2)
        assert message in done.stderr
    assert snapshot(folder) == before


GROUPS = settings(study__together=2)


def start(env, *words):
    return subprocess.Popen(command(*words), env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def equal_files(folder, expected):
    for name in ("results.csv", "summary.csv", "per_class.csv"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    for arm in ARMS:
        for seed in range(SEEDS):
            one, other = (place / "arms" / arm / f"seed-{seed}" for place in (folder, expected))
            assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
        assert not (folder / "arms" / arm / "checkpoints").exists()


@pytest.mark.slow
def test_two_processes_do_one_study(env, whole, tmp_path):
    """Each takes groups that nobody works on; both wait for the last, and what is there is as one process makes it."""
    folder = tmp_path / "study"
    both = [start(env, *WORDS, *GROUPS, f"--workdir={folder}") for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    equal_files(folder, whole[0])
    titles = [f"{arm}, seeds {seeds}: done" for arm in ARMS for seeds in ("0 to 1", "2 to 3")]
    assert [sum(title in text for text in said) for title in titles] == [1] * len(titles)
    assert all(any(title in text for title in titles) for text in said)
    assert len((folder / "starts.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_who_dies_is_followed_by_the_others(env, whole, tmp_path):
    """SIGKILL for the one that trains the first group, while another waits for it with nothing else to do."""
    folder = tmp_path / "study"
    one_arm = settings(study__arms="max")
    first = start(env, *WORDS, *one_arm, f"--workdir={folder}")
    group = folder / "arms" / "max" / "checkpoints" / f"0-{SEEDS - 1}"
    deadline = time.monotonic() + 200
    while not list(group.glob("checkpoints/[24]")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it lives, and does nothing
    second = start(env, *WORDS, *one_arm, f"--workdir={folder}")
    lines = []
    while not lines or "asking for a sign of life of process" not in lines[-1]:
        lines.append(second.stderr.readline())
        assert lines[-1], lines
    first.kill()
    said = second.communicate()[1]
    first.communicate()
    assert second.returncode == 0, said
    assert "continuing from step" in said
    for seed in range(SEEDS):
        one, other = (place / "arms" / "max" / f"seed-{seed}" / "metrics.jsonl" for place in (folder, whole[0]))
        assert one.read_bytes() == other.read_bytes()


def test_a_failure_elsewhere_is_not_tried_again(tmp_path):
    study = experiments.load("pooling_digits")
    crew = runner._Crew(study, tmp_path, lambda line: None, False, None)
    path = arms.failure_of(tmp_path, study.arms[0])
    path.parent.mkdir()
    assert not crew._is_settled(study.arms[0])
    path.write_text("Traceback\nValueError: no\n")
    assert crew._is_settled(study.arms[0])
    assert crew.failures == {study.arms[0].name: "ValueError: no (in another process)"}
    later = runner._Crew(study, tmp_path, lambda line: None, False, None)
    assert not later._is_settled(study.arms[0])  # a new start tries once more


@pytest.mark.slow
def test_a_seed_that_is_trained_alone_may_be_lost(tmp_path, monkeypatch, quick_compile):
    """Groups of one: what is lost is empty in the tables, and costs the others nothing."""
    initial, begun = Learner.initial, []

    def bad_at_first(self):
        state = initial(self)
        if self.seeds != [1] or begun:
            return state
        begun.append(True)
        return state._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, state.params))

    monkeypatch.setattr(Learner, "initial", bad_at_first)
    changes = ["study.arms=max", "study.seeds=3", "study.together=1", "data.name=fake", "data.side=28",
               "data.examples=40", "train.duration=2 steps", "train.batch_size=8", "schedule.warmup=0 steps",
               "study.measurements=consistency", "study.images=8"]  # fmt: skip
    study = cnn_jax.StudyRun(cnn_jax.settings("pooling_digits", *changes), tmp_path / "study")
    assert study.train(progress=False) == []
    found = study.tables()["results"]
    assert list(found["seed"][np.isnan(found["test_accuracy"])]) == [1]
    assert list(np.isnan(found["consistency"])) == [False, True, False]
    assert (tmp_path / "study/arms/max/seed-1/lost.json").exists()


def test_a_plan_says_how_long_it_would_take(tmp_path, quick_compile):
    changes = ["study.arms=average", "study.seeds=2", "data.name=fake", "data.side=28", "data.examples=40",
               "train.duration=7 steps", "train.batch_size=8", "schedule.warmup=0 steps"]  # fmt: skip
    said = cnn_jax.StudyRun(cnn_jax.settings("pooling_digits", *changes), tmp_path / "study").estimate()
    found = re.fullmatch(
        r"about (\S+) s of steps here \((\S+) ms for each network, .*\), and .* of compiling; .*", said
    )
    assert found, said
    assert float(found[1]) == pytest.approx(2 * 2 * 7 * float(found[2]) / 1000, rel=0.05)  # arms, seeds, steps
    assert not (tmp_path / "study").exists()
    absent = cnn_jax.settings("pooling_mnist", f"data.data_dir={tmp_path}")
    assert "is not known before mnist is prepared" in cnn_jax.StudyRun(absent, tmp_path / "study").estimate()


def test_networks_without_convolutions_are_studied_as_well(env, tmp_path):
    """A row of the table of 1998: a perceptron beside a network with filters."""
    study = tmp_path / "rows.py"
    source = (REPOSITORY / "experiments" / "pooling_digits.py").read_text(encoding="utf-8")
    other = 'Arm(name="perceptron", changes=("model.name=mlp", "model.units=8"), parameters="another network")'
    begin, end = source.index("        arms=("), source.index('        baseline="max"')
    study.write_text(source[:begin] + f'        arms=(Arm(name="max"), {other}),\n' + source[end:], encoding="utf-8")
    folder = tmp_path / "study"
    launch(env, f"--experiment={study}", f"--workdir={folder}", *SMALL, "--set", "study.arms=perceptron")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "perceptron" in page and "First filters" in page
    assert "filters" not in np.load(folder / "arms" / "perceptron" / "pictures.npz").files
