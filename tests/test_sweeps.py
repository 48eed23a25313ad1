"""Sweeps: values of a setting tried on held-out training images, in one program where they are learning rates."""

import csv
import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import tiny_images
import tiny_training
from launching import QUICK, environment, launch, settings, shared_folder, snapshot
from tiny_training import SMOOTH, STEPS

import cnn_jax
from cnn_jax import checks
from cnn_jax.config import overrides
from cnn_jax.errors import UserError
from cnn_jax.studies import sweeps
from cnn_jax.training.learner import Learner

RATES = ("1e30", "0.03", "0.0001")
SMALL = settings(
    data__name="fake", data__side=28, data__examples=80, data__validation=0, train__duration="6 steps",
    train__batch_size=8, schedule__warmup="0 steps", evaluation__every="3 steps", checkpoint__every="3 steps",
    log__every="3 steps", optimizer__name="sgd", model__activation="relu", study__sweep_images=30, study__sweep_seeds=2,
)  # fmt: skip
WORDS = ["--experiment=lenet_digits", f"--sweep=optimizer.learning_rate={','.join(RATES)}", "--noreport", *SMALL]


def steps_of(learner):
    state = learner.initial()
    for step in range(STEPS):
        state, _ = learner.advance(state, learner.begin(step, step + 1).result(), [1] * len(learner.seeds))
    learner.close()
    return state


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compile")
def test_networks_with_rates_of_their_own_are_runs_with_those_rates():
    base = overrides.apply(tiny_training.RECIPE, [SMOOTH])
    rates, seeds = [0.02, 0.005], [3, 4]
    together = steps_of(Learner(base, seeds, tiny_training.dataset(), rates=rates))
    for k, (rate, seed) in enumerate(zip(rates, seeds)):
        alone = overrides.apply(base, [f"optimizer.learning_rate={rate}", f"seed={seed}"])
        expected = steps_of(Learner(alone, training=tiny_training.dataset()))
        for ours, theirs in zip(jax.tree.leaves(together.params), jax.tree.leaves(expected.params), strict=True):
            np.testing.assert_allclose(ours[k], theirs, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return environment(shared_folder(tmp_path_factory, "cache"), **QUICK)


@pytest.fixture(scope="module")
def swept(env, tmp_path_factory):
    """The workdir of a sweep of an experiment, and what it printed."""
    folder = tmp_path_factory.mktemp("sweep") / "study"
    return folder, launch(env, *WORDS, f"--workdir={folder}")


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_an_experiment_trains_with_the_value_that_is_best_on_held_out_images(swept):
    folder, done = swept
    found = rows(folder / "sweep.csv")
    assert [(row["value"], row["seed"]) for row in found] == [(v, s) for v in RATES for s in ("10000", "10001")]
    assert [row["validation_accuracy"] for row in found[:2]] == ["", ""]  # diverged, so never chosen
    mean = lambda value: np.mean([float(row["validation_accuracy"]) for row in found if row["value"] == value])
    loss = lambda value: np.mean([float(row["validation_loss"]) for row in found if row["value"] == value])
    best = min(RATES[1:], key=lambda value: (-mean(value), loss(value)))
    assert {row["value"] for row in found if row["chosen"] == "1"} == {best}
    for row in found[2:]:  # what was measured at the end of each run
        place = folder / "arms/run/sweep" / row["value"] / f"seed-{row['seed']}"
        last = json.loads((place / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["split"] == "validation" and last["accuracy"] == pytest.approx(float(row["validation_accuracy"]))
    config = json.loads((folder / "arms/run/seed-0/config.json").read_text())
    assert config["optimizer"]["learning_rate"] == float(best) and config["data"]["validation"] == 0
    assert re.search(rf"run: optimizer.learning_rate = {best} of 1e30: diverged, 0.03: .*, 0.0001: .* % \(30 held-out "
                     r"images, 2 seeds\)", done.stdout)  # fmt: skip
    assert not (folder / "arms/run/sweep/checkpoints").exists()


def test_a_finished_sweep_is_not_repeated(env, swept):
    folder, _ = swept
    before = snapshot(folder / "arms")
    done = launch(env, *WORDS, f"--workdir={folder}")
    assert "arm 1/1 run: already done" in done.stderr
    assert snapshot(folder / "arms") == before


def test_another_sweep_needs_another_folder(env, swept):
    done = launch(env, *WORDS, "--set", "study.sweep_seeds=3", f"--workdir={swept[0]}", status=2)
    assert "study.sweep_seeds: 2 -> 3" in done.stderr


@pytest.mark.parametrize("sweep, message", [
    ("optimizer.learning_rate", "must be SETTING=VALUE,VALUE,... with two values or more"),
    ("optimizer.learning_rate=0.1", "must be SETTING=VALUE,VALUE,... with two values or more"),
    ("optimizer.learning_rate=0.1,0.1", "has the value 0.1 twice"),
    ("optimizer.learning_rate=0.1,fast", "fast"),
    ("optimizer.rate=0.1,0.2", "there is no setting optimizer.rate"),
    ("seed=1,2", "seed cannot be swept"),
    ("data.limit=10,20", "data.limit cannot be swept"),
    ("model.pool.window=2,40", "40"),
])  # fmt: skip
def test_what_cannot_be_swept_is_refused(sweep, message):
    with pytest.raises(UserError) as caught:
        cnn_jax.settings("pooling_digits", f"study.sweep={sweep}")
    assert message in str(caught.value)


def test_an_arm_may_not_set_what_is_swept():
    with pytest.raises(UserError, match="arm 'average' sets model.pool.kind, which the study sweeps"):
        cnn_jax.settings("pooling_digits", "study.sweep=model.pool.kind=max,lp")


def test_what_is_wrong_with_every_arm_is_said_once():
    study = checks.settings("pooling_digits", ["study.sweep_images=5000"], "optimizer.learning_rate=0.1,0.01")
    with pytest.raises(UserError) as caught:
        checks.check_data(study)
    told = str(caught.value)
    assert told.startswith("arm 'max' and 7 more in the sweep: study.sweep_images = 5000 must") and "\n" not in told


def test_more_held_out_images_than_there_are_is_one_line(env, tmp_path):
    words = [*WORDS, *settings(study__sweep_images=80), f"--workdir={tmp_path / 'study'}"]
    done = launch(env, *words, status=2)
    told = "arm 'run' in the sweep: study.sweep_images = 80 must be smaller than the 80 training examples of fake"
    assert told in done.stderr and "--set study.sweep_images=8" in done.stderr
    planned = launch(env, *words, "--mode=summary", status=2)
    assert planned.stderr == done.stderr and not planned.stdout


def choices(folder, workdir, *changes):
    """What a study chose, by arm: the value of its sweep, and the step of each seed."""
    study = cnn_jax.StudyRun(
        cnn_jax.settings(
            "pooling_digits", "study.arms=max", "study.seeds=2", "study.measurements=", "data.name=folder",
            f"data.path={folder}", "data.size=64", "data.crop=28", "data.mean=0.5,0.5,0.5", "data.std=1,1,1",
            "train.duration=6 steps", "train.batch_size=8", "schedule.warmup=0 steps", "evaluation.every=1 steps",
            "log.every=6 steps", "study.select=best", "study.sweep_seeds=2", *changes,
        ),
        workdir,
    )  # fmt: skip
    assert study.train(progress=False) == []
    own = workdir / "arms" / "max"
    steps = [json.loads((own / f"seed-{seed}/results.json").read_text())["step"] for seed in (0, 1)]
    return (sweeps.read(own).accuracy.tolist() if sweeps.is_finished(own) else None), steps


def photographs(folder, test_seed):
    """The same training images, and test images that differ with the seed."""
    tiny_images.write_class_folders(folder, {"train/a": 20, "train/b": 20, "train/c": 20})
    tiny_images.write_class_folders(folder, {f"test/{name}": 10 for name in "abc"}, seed=test_seed)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compile")
def test_no_choice_depends_on_test_images(tmp_path, monkeypatch):
    """And if one did, this would show it: the second half plants a leak."""
    folders = [photographs(tmp_path / f"data-{seed}", seed) for seed in (1000, 2000)]
    sweep = "study.sweep=optimizer.learning_rate=0.03,0.003"

    def both(name):
        held_out = "data.validation=15"
        return [choices(folder, tmp_path / f"{name}-{k}", sweep, held_out) for k, folder in enumerate(folders)]

    one, other = both("sound")
    assert one == other

    def leaking(settings, split, known, load=sweeps.load):
        return dataclasses.replace(load(settings, "test" if split == "validation" else split, known), split=split)

    monkeypatch.setattr("cnn_jax.studies.arm.load", leaking)
    monkeypatch.setattr("cnn_jax.studies.sweeps.load", leaking)
    one, other = both("leaking")
    assert one[0] != other[0] and one[1] != other[1]
