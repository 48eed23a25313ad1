"""The folder of a run: one process at a time, its config, its record of starts."""

import dataclasses
import errno
import fcntl
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import cnn_jax
from cnn_jax import config, files, workdir
from cnn_jax.errors import UsageError, UserError
from cnn_jax.training import saved

ROOT = Path(__file__).resolve().parent.parent


def claim_elsewhere(folder):
    """What a second process gets when it claims the folder."""
    code = "import pathlib, sys; from cnn_jax import files\nwith files.claimed(pathlib.Path(sys.argv[1])): pass"
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_a_claimed_folder_keeps_other_processes_out(tmp_path):
    folder = tmp_path / "deep" / "run"
    with files.claimed(folder):
        status, text = claim_elsewhere(folder)
        assert status and f"another process is running in {folder}" in text
    assert claim_elsewhere(folder)[0] == 0


def test_a_folder_that_cannot_be_made_is_a_clear_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the workdir .*file/run.*--workdir"):
        with files.claimed(tmp_path / "file" / "run"):
            pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"\.lock is a symbolic link; choose another"), files.claimed(tmp_path / "run"):
        pass
    with pytest.raises(OSError), files.locked(tmp_path / "run" / ".lock", "wait"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_where_there_are_no_locks_it_is_said(tmp_path, monkeypatch, capsys):
    def none(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with files.claimed(tmp_path / "run"), files.locked(tmp_path / "a", "wait"):
        pass
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(
        "the file system has no locks (No locks available): see to it" in line for line in said
    )


def test_what_is_not_finite_is_null_in_json(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [1.5, float("nan")], "b": {"c": float("-inf")}, "d": "NaN"})
    assert files.read_json(tmp_path / "a.json") == {"a": [1.5, None], "b": {"c": None}, "d": "NaN"}
    assert files.json_line({"loss": float("inf"), "pair": (1, 2)}) == '{"loss": null, "pair": [1, 2]}\n'


def test_damaged_lines_are_named_and_left_out(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"step": 1}\n[]\n\xff{"step": 2}\n\n{"step": NaN}\n{"step": 3}\n{"st')
    assert files.read_lines(path, lambda row: row.get("step") is not None) == [{"step": 1}, {"step": 3}]
    assert capsys.readouterr().err == f"{path}: lines 2, 3, 4, 5 are damaged and left out\n"


def test_a_place_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert files.place("runs/a", "--workdir") == tmp_path / "runs" / "a"
    assert files.place("~/a", "--workdir") == tmp_path / "home" / "a"


@pytest.mark.parametrize("model", [config.LeNet(dropout=0.25), config.LeNet5(padding=config.Padding(mode="2"))])
def test_the_config_comes_back(tmp_path, model):
    assert workdir.stored_config(tmp_path) is None
    settings = config.Config(
        experiment="x",
        seed=7,
        model=model,
        schedule=config.Schedule.of(name="step", drops=("1 epochs", "2 epochs")),
        optimizer=config.Optimizer(learning_rate=0.1 + 0.2),
    )
    workdir.store_config(tmp_path, settings)
    assert workdir.stored_config(tmp_path) == settings
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


DAMAGED = [
    "", "{", "[]", "null", '{"colour": 1}', '{"model": {"name": "resnet"}}', '{"seed": {"a": 1}}', '{"seed": "1"}',
    '{"seed": true}', '{"data": 5}', '{"model": 7}', '{"data": {"mean": ["a"]}}', '{"train": {"batch_size": 1.5}}',
    '{"format": "x"}', '{"optimizer": {"name": ["sgd"]}}', "[" * 100_000, "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_config_is_a_clear_message(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="config.json cannot be read: .*another --workdir"):
        workdir.stored_config(tmp_path)


def save_step(folder, step, settings):
    """A checkpoint whose arrays nobody reads."""
    for part in saved.PARTS:
        path = folder / "checkpoints" / str(step) / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    files.write_json(path.parent.parent / "config/metadata", config.to_dict(settings))
    files.write_json(path.parent.parent / "metrics/metrics", {"score": None, "scheduled": 1})


def test_where_the_config_is_lost_the_checkpoint_tells(tmp_path):
    settings = config.Config(experiment="x", seed=7)
    save_step(tmp_path, 20, settings)
    assert workdir.stored_config(tmp_path) == settings
    for text in DAMAGED[:6]:
        (tmp_path / "config.json").write_text(text)
        assert workdir.stored_config(tmp_path) == settings
    with pytest.raises(UsageError, match="holds a run with other settings.*\n  seed: 7 -> 8"):
        workdir.check_same_run(tmp_path, dataclasses.replace(settings, seed=8), resume=True)


def test_a_step_of_another_run_is_refused(tmp_path):
    settings = config.Config(experiment="x", seed=7)
    save_step(tmp_path, 20, settings)
    save_step(tmp_path, 40, dataclasses.replace(settings, seed=8))
    workdir.store_config(tmp_path, settings)
    with pytest.raises(UserError, match=r"checkpoints/40 was saved by a run with other settings.*\n  seed: 7 -> 8"):
        workdir.stored_config(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"checkpoints/20 was saved by a run with other settings.*\n  seed: 8 -> 7"):
        workdir.stored_config(tmp_path)


def test_a_start_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch.py", "--experiment=a b"])
    settings = config.Config(experiment="x")
    workdir.record_start(tmp_path, settings, devices=["cpu:0"], step=0)
    workdir.record_start(tmp_path, dataclasses.replace(settings, parallel="jit"), devices=["cpu:0"], step=5)
    first, second = workdir.starts(tmp_path)
    assert first["command"] == "python launch.py '--experiment=a b'"
    assert config.from_dict(first["config"]) == settings and second["config"]["parallel"] == "jit"
    assert first["versions"]["jax"] == jax.__version__ and first["versions"]["flax"]
    assert first["versions"]["cnn_jax"] == cnn_jax.__version__
    assert first["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (first["step"], second["step"], first["devices"]) == (0, 5, ["cpu:0"])
    assert first["host"]["cores"] and first["time"] <= second["time"]


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    command = ["git", "-C", folder, *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_record_names_the_code(tmp_path, monkeypatch):
    code, run = tmp_path / "code", tmp_path / "run"
    (code / "cnn_jax").mkdir(parents=True), run.mkdir()
    (code / "cnn_jax" / "workdir.py").write_text("a = 1\n")
    (code / "launch.py").touch()
    monkeypatch.setattr(workdir, "__file__", str(code / "cnn_jax" / "workdir.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    workdir.record_start(run, config.Config())
    git(code, "init", "-q"), git(code, "add", "."), git(code, "commit", "-q", "-m", "one")
    workdir.record_start(run, config.Config())
    (code / "cnn_jax" / "workdir.py").write_text("a = 2\n")
    workdir.record_start(run, config.Config())
    (code / "launch.py").unlink()  # a package in an environment, and a repository around it
    workdir.record_start(run, config.Config())
    none, clean, dirty, installed = [record["git"] for record in workdir.starts(run)]
    assert none is None and installed is None
    assert clean == {"commit": git(code, "rev-parse", "HEAD"), "dirty": False, "diff": ""}
    assert dirty["dirty"] and "+a = 2" in dirty["diff"]


def test_starts_after_a_torn_line(tmp_path):
    assert workdir.starts(tmp_path) == []
    workdir.record_start(tmp_path, config.Config(seed=1))
    with (tmp_path / "starts.jsonl").open("a") as file:
        file.write('{"time": "2026-')
    assert [record["config"]["seed"] for record in workdir.starts(tmp_path)] == [1]
    workdir.record_start(tmp_path, config.Config(seed=2))
    assert [record["config"]["seed"] for record in workdir.starts(tmp_path)] == [1, 2]


def test_json_files(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5]}


def test_what_a_terminal_would_obey_is_escaped():
    assert files.printable("a\x1b[31m\nb\t.png") == "a\\x1b[31m\\nb\\t.png"
    assert files.printable("one\ntwo\x07 žluť 猫", lines=True) == "one\ntwo\\x07 žluť 猫"
