"""A whole study through launch.py: killed, continued, compared; its runs; what is refused."""

import csv
import json
import re
import signal
import subprocess
import time

import numpy as np
import pytest
from launching import QUICK, command, environment, launch, settings, shared_folder, snapshot

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


def test_a_failed_arm_is_reported_and_the_others_go_on(env, tmp_path):
    """A rate that makes every loss infinite, and a folder that cannot be made."""
    folder = tmp_path / "study"
    (folder / "arms").mkdir(parents=True)
    (folder / "arms" / "max").write_text("in the way")
    asked = settings(study__arms="average", optimizer__learning_rate=1e30, study__measurements="")
    done = launch(env, *WORDS, *asked, f"--workdir={folder}", status=1)
    assert "error: arm max failed" in done.stderr and "error: arm average failed: all 4 seeds are lost" in done.stderr
    assert "average: no result: all 4 seeds are lost" in done.stdout
    assert "max: no result: FileExistsError: " in done.stdout
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
