"""Weights & Biases: what it is told, that a continued run is the same there, and what is said where it is missing."""

import dataclasses
import importlib.machinery
import importlib.util
import sys
import types

import pytest

import cnn_jax
from cnn_jax import config
from cnn_jax.training import trackers
from cnn_jax.training.metric_files import MetricFiles

SETTINGS = dataclasses.replace(config.Config(), log=config.Log(tensorboard=False, wandb="lessons"))


class Pretended(types.ModuleType):
    """Stands for the package, and notes what it is told."""

    def __init__(self, refusal=None):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.errors = types.SimpleNamespace(Error=KeyError)
        self.Settings = dict
        self.begun, self.rows, self.axes, self.finished = [], [], [], 0
        self._refusal = refusal

    def init(self, **given):
        if self._refusal:
            raise KeyError(self._refusal)
        self.begun.append(given)
        return self

    def define_metric(self, name, step_metric=None):
        self.axes.append((name, step_metric))

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.finished += 1


def row(step):
    return {"step": step, "epoch": step / 3, "split": "train", "loss": 1 / step, "accuracy": None} | dict.fromkeys(
        ("top5", "calibration_error", "macro_f1", "learning_rate", "gradient_norm")
    )


def write(folder, steps):
    folder.mkdir(parents=True, exist_ok=True)
    files = MetricFiles(folder, 0, [opener(folder, 0) for opener in trackers.chosen(SETTINGS)])
    for step in steps:
        files.write(row(step))
    files.flush()
    files.close()


def test_every_number_goes_there_by_its_step(tmp_path, monkeypatch):
    wandb = Pretended()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    write(tmp_path / "mine", [3, 6])
    assert wandb.rows == [{"step": 3, "train/loss": 1 / 3}, {"step": 6, "train/loss": 1 / 6}]
    assert ("*", "step") in wandb.axes and wandb.finished == 1
    begun = wandb.begun[0]
    assert (begun["project"], begun["name"], begun["group"]) == ("lessons", "mine", None)
    assert begun["config"]["model"]["name"] == "lenet" and begun["dir"] == str(tmp_path / "mine")


def test_a_run_that_is_continued_is_the_same_and_another_is_not(tmp_path, monkeypatch):
    wandb = Pretended()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for folder in ("mine", "mine", "other"):
        write(tmp_path / folder, [3])
    first, second, third = (begun["id"] for begun in wandb.begun)
    assert first == second != third


def test_the_seeds_of_a_study_are_a_group(tmp_path, monkeypatch):
    wandb = Pretended()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    write(tmp_path / "poolings" / "arms" / "max" / "seed-0", [3])
    assert (wandb.begun[0]["group"], wandb.begun[0]["name"]) == ("poolings", "max/seed-0")


def test_what_it_refuses_is_said_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Pretended("no API key"))
    with pytest.raises(cnn_jax.UserError, match="log.wandb = 'lessons': .*no API key.*WANDB_MODE=offline"):
        write(tmp_path, [3])


def test_where_it_is_missing_one_line_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(cnn_jax.UserError) as caught:
        trackers.chosen(SETTINGS)
    assert str(caught.value) == "log.wandb = 'lessons' needs wandb: pip install '.[wandb]'"


@pytest.mark.slow
def test_a_real_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra wandb: pip install '.[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    short = ["train.duration=20 steps", "schedule.warmup=0 steps", "log.every=10 steps", "log.wandb=lessons"]
    run = cnn_jax.Run(cnn_jax.settings("lenet_digits", *short, "log.tensorboard=false"), tmp_path / "run")
    run.train(steps=10, progress=False)
    run.train(progress=False)
    kept = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({path.name for path in kept}) == 1  # one run, in two parts
    content = b"".join(path.read_bytes() for path in kept)
    for loss in run.metrics("train")["loss"]:
        assert f"{loss:.10f}"[:8].encode() in content
