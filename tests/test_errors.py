"""What a user sees when something is wrong: one message, an exit status, no traceback, and nothing spoilt."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from launching import QUICK, command, environment, launch, settings, shared_folder, snapshot, stored_state
from PIL import Image

from cnn_jax.data.datasets import catalog

pytestmark = pytest.mark.versions

# Starts a command that cannot write files of more than 100 kB: a write beyond that fails, as on a full disk.
SMALL_DISK = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
os.execv(sys.argv[1], sys.argv[1:])
"""
TINY = settings(
    data__limit=64, data__validation=16, train__batch_size=8, train__duration="4 steps", schedule__warmup="0 steps",
    augment__shift=0, augment__rotation=0, augment__scale=0, checkpoint__every="2 steps",
)  # fmt: skip
DIGITS = "--experiment=lenet_digits"


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    data = shared_folder(tmp_path_factory, "digits")
    return environment(shared_folder(tmp_path_factory, "cache"), TFDS_DATA_DIR=str(data), **QUICK)


@pytest.fixture(scope="module")
def run(env, tmp_path_factory):
    """The workdir of a finished run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    launch(env, DIGITS, f"--workdir={folder}", "--noreport", *TINY)
    return folder


def answered_at_once(env, cwd, *words) -> tuple[int, str, str]:
    """Status, standard output and message of a launch that must not take the time to import jax."""
    python, *rest = command(*words)
    timed = [python, "-X", "importtime", *rest]
    done = subprocess.run(timed, env=env, cwd=cwd, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "cnn_jax.cli" in imported
    assert not {"jax", "numpy", "tensorflow"} & imported
    return done.returncode, done.stdout, "\n".join(line for line in lines if not line.startswith("import time:"))


def refused_at_once(env, cwd, *words) -> str:
    """The message of a launch that must fail with status 2, at once."""
    status, output, message = answered_at_once(env, cwd, *words)
    assert (status, output) == (2, "")
    assert message.startswith("error: ") and "Traceback" not in message
    return message


WRONG_FLAGS = {
    "no experiment": ([], ["--experiment=NAME", "--list"]),
    "unknown experiment": (["--experiment=lenet_digit"], ["'lenet_digit'", "did you mean lenet_digits?"]),
    "unknown flag": ([DIGITS, "--batch=3"], ["batch", "--help"]),
    "misspelt flag": (["--experimant=lenet_digits"], ["experimant", "Did you mean: experiment"]),
    "wrong type": ([DIGITS, "--set", "train.batch_size=many"], ["train.batch_size = 'many'", "whole number"]),
    "unknown setting": ([DIGITS, "--set", "optimizer.rate=1"], ["no setting optimizer.rate", "learning_rate"]),
    "bad duration": ([DIGITS, "--set", "train.duration=3 weeks"], ["train.duration: '3 weeks'", "'10 epochs'"]),
    "no equals sign": ([DIGITS, "--set", "train.batch_size"], ["'train.batch_size' is not section.field=value"]),
    "no value": ([DIGITS, "--set"], ["--set"]),
    "stray words": ([DIGITS, "train", "now"], ["'train now' belongs to no flag", "--help"]),
    "negative seed": ([DIGITS, "--seed=-1"], ["--seed=-1", "non-negative"]),
    "seed too large": ([DIGITS, f"--seed={2**31}"], [f"seed = {2**31}", f"at most {2**31 - 1}"]),
    "no such mode": (
        [DIGITS, "--mode=test"],
        ["--mode=test", "train|eval|predict|summary|report|compare|explore|export|prepare"],
    ),
    "no such way to parallel": ([DIGITS, "--parallel=mpi"], ["--parallel=mpi", "auto|jit|mesh|pmap"]),
    "eval without a run": ([DIGITS, "--mode=eval"], ["needs a trained run", "runs/lenet_digits", "--workdir"]),
    "report without a run": ([DIGITS, "--mode=report", "--workdir=there"], ["needs a trained run", "there"]),
    "images without predict": ([DIGITS, "--images=a.png"], ["--images goes with --mode=predict"]),
    "init_from without training": ([DIGITS, "--mode=summary", "--init_from=x"], ["--init_from goes with --mode=train"]),
    "workdir far away": ([DIGITS, "--workdir=s3://bucket/run"], ["--workdir=s3://bucket/run: s3:// is not"]),
    "not a number": ([DIGITS, "--set", "optimizer.learning_rate=nan"], ["optimizer.learning_rate = nan", "finite"]),
}


@pytest.mark.parametrize("case", WRONG_FLAGS)
def test_wrong_flags_are_refused_at_once(env, tmp_path, case):
    words, expected = WRONG_FLAGS[case]
    message = refused_at_once(env, tmp_path, *words)
    for text in expected:
        assert text in message
    assert not list(tmp_path.iterdir())


def test_several_problems_are_told_at_once(env, tmp_path):
    wrong = settings(train__batch_size="many", optimiser__name="adam", data__limit=-1, model__dropout=2)
    message = refused_at_once(env, tmp_path, DIGITS, *wrong, *settings(log__every="soon"), "--set", "seed")
    assert len(message.splitlines()) == 6
    told = ("train.batch_size", "optimiser.name", "data.limit = -1", "model.dropout = 2", "log.every: 'soon'", "'seed'")
    for text in told:
        assert text in message


def test_list_and_help_are_there_at_once(env, tmp_path):
    for flag in ("--list", "--help"):
        status, output, message = answered_at_once(env, tmp_path, flag)
        assert status == 0 and "lenet" in output.lower() and not message


def test_a_stored_run_is_named_when_it_is_another(env, run, tmp_path):
    """Refused at once, too: what is stored is read without jax."""
    before = snapshot(run)
    picture = tmp_path / "a.png"
    Image.new("L", (28, 28)).save(picture)
    workdir = f"--workdir={run}"
    message = refused_at_once(env, tmp_path, "--experiment=lenet_mnist", workdir, "--mode=eval")
    assert f"{run} holds a run of lenet_digits, not of lenet_mnist" in message
    message = refused_at_once(env, tmp_path, DIGITS, workdir, "--mode=eval", *settings(train__batch_size=16))
    assert "train.batch_size: 8 -> 16" in message
    page = refused_at_once(env, tmp_path, DIGITS, workdir, "--mode=predict", f"--images={picture}", "--out=a.txt")
    assert "--out=a.txt must end in .html, .csv or .json" in page
    assert "--images=a.png,b.png" in refused_at_once(env, tmp_path, DIGITS, workdir, "--mode=predict")
    message = refused_at_once(env, tmp_path, DIGITS, workdir, "--mode=predict", f"--images={picture},b.png,c.png")
    assert message == "error: --images: these are no files: b.png, c.png"
    assert snapshot(run) == before


def test_training_with_other_settings_in_the_same_workdir_is_refused(env, run):
    before = snapshot(run)
    other = settings(optimizer__learning_rate=0.5, optimizer__beta1=0.8, data__placement="host")
    message = launch(env, DIGITS, f"--workdir={run}", "--seed=3", *TINY, *other, status=2).stderr
    told = [line.strip() for line in message.splitlines() if "->" in line][1:]
    assert told == ["optimizer.beta1: 0.9 -> 0.8", "optimizer.learning_rate: 0.002 -> 0.5", "seed: 0 -> 3"]
    assert "another --workdir" in message
    message = launch(env, DIGITS, f"--workdir={run}", "--noresume", *TINY, status=2).stderr
    assert f"--noresume: {run} already holds a run" in message
    assert snapshot(run) == before


@pytest.mark.slow
def test_settings_that_change_no_result_may_change(env, run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    free = settings(data__placement="host", data__data_dir=tmp_path / "data", checkpoint__keep=1)
    launch(env, DIGITS, f"--workdir={folder}", "--parallel=jit", "--noreport", *TINY, *free)
    for name in ("metrics.jsonl", "metrics.csv", "results.json"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()


@pytest.mark.slow
def test_init_from(env, run, tmp_path):
    """With a learning rate of zero the new run ends with the parameters that it began with."""
    folder = tmp_path / "new"
    asked = [DIGITS, f"--workdir={folder}", "--noreport", *TINY]
    message = refused_at_once(env, tmp_path, *asked, f"--init_from={tmp_path / 'nowhere'}")
    assert f"--init_from={tmp_path / 'nowhere'}" in message and "the workdir of a run" in message
    assert not list(tmp_path.iterdir())
    message = launch(env, *asked, f"--init_from={run}", *settings(model__padding__mode="same"), status=1).stderr
    assert "does not fit this network" in message
    assert "params.dense1.kernel: saved (256, 120), here (784, 120)" in message
    done = launch(env, *asked, f"--init_from={run}", "--seed=9", *settings(optimizer__learning_rate=0))
    assert f"parameters from {run / 'checkpoints'}" in done.stderr
    ours, theirs = (json.loads((each / "results.json").read_text()) for each in (folder, run))
    assert (ours["test_loss"], ours["test_accuracy"]) == (theirs["test_loss"], theirs["test_accuracy"])


def test_init_from_another_kind_of_network_names_what_differs(env, run, tmp_path):
    asked = settings(data__name="digits", data__limit=64, train__duration="1000 steps", train__batch_size=8)
    words = ["--experiment=lenet5_modern_mnist", f"--workdir={tmp_path / 'new'}", f"--init_from={run}", *asked]
    message = launch(env, *words, status=1).stderr
    assert "does not fit this network" in message
    missing, unexpected = (line for line in message.splitlines() if "missing (" in line or "unexpected (" in line)
    assert "params.c1.kernel" in missing and "params.conv1.kernel" in unexpected


def test_missing_data_tells_what_to_do(env, tmp_path):
    data = tmp_path / "data"
    offline = env | dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")  # where nobody answers
    words = ["--experiment=lenet_mnist", f"--workdir={tmp_path / 'run'}", *settings(data__data_dir=data)]
    done = launch(offline, *words, status=1)
    assert f"mnist is not prepared in {data}" in done.stderr
    assert f"launch.py --experiment=lenet_mnist --mode=prepare --set data.data_dir={data}" in done.stderr
    assert "data.manual_dir=FOLDER" in done.stderr
    for name in catalog.DATASETS["mnist"].files.sha256:
        assert name in done.stderr
    assert done.stderr.count("error:") == 1


def test_an_image_that_is_none(env, run, tmp_path):
    (tmp_path / "note.png").write_text("not an image")
    words = [DIGITS, f"--workdir={run}", "--mode=predict", f"--images={tmp_path / 'note.png'}"]
    done = launch(env, *words, status=1)
    assert (
        f"--images: cannot be read as an image: {tmp_path / 'note.png'} (it is no JPEG" in done.stderr
        and not done.stdout
    )


def test_a_workdir_that_cannot_be(env, tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "run"
    done = launch(env, DIGITS, f"--workdir={folder}", *TINY, status=1)
    assert f"cannot write to the workdir {folder}" in done.stderr and "choose another" in done.stderr
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_batch_that_does_not_divide_over_the_devices(env, tmp_path):
    eight = env | {"JAX_NUM_CPU_DEVICES": "8"}
    done = launch(eight, DIGITS, f"--workdir={tmp_path / 'run'}", *TINY, *settings(train__batch_size=12), status=2)
    for text in ("train.batch_size = 12", "8 devices", "train.batch_size=8", "train.batch_size=16", "--parallel=jit"):
        assert text in done.stderr
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_end_the_run_and_are_not_saved(env, tmp_path):
    """Gradient descent at an absurd rate, through an activation without bounds: the second step is the end of it."""
    folder = tmp_path / "run"
    wild = settings(
        model__activation="relu", optimizer__name="sgd", optimizer__learning_rate=1e30, schedule__name="constant",
        log__every="1 steps", checkpoint__every="1 steps", evaluation__every="4 steps",
    )  # fmt: skip
    done = launch(env, DIGITS, f"--workdir={folder}", *TINY, *wild, status=1)
    message = done.stderr[done.stderr.index("error: ") :]
    for text in (
        "not a finite number at step 1: learning rate 1e+30", "gradient norm", "largest finite parameter",
        "first bad leaf", "the last checkpoint is step 1", "Lower optimizer.learning_rate", "schedule.warmup",
        "optimizer.clip_norm",
    ):  # fmt: skip
        assert text in message
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1] and math.isfinite(rows[0]["loss"])
    for name, leaf in stored_state(folder, 1).items():
        assert np.isfinite(leaf).all() or name == "plateau.best", name  # infinite until the first evaluation
    assert not (folder / "results.json").exists()


def test_a_full_disk_ends_the_run_and_spoils_nothing(env, run, tmp_path):
    """No file may grow past 100 kB, less than a checkpoint needs; with room again, the same command goes on."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "checkpoints" / "4")
    before = snapshot(folder / "checkpoints" / "2")
    words = [DIGITS, f"--workdir={folder}", "--noreport", *TINY]

    start = [sys.executable, "-c", SMALL_DISK, *command(*words)]
    # Large uncommitted changes, which are part of the record of a start, would fill the disk before a checkpoint does.
    (folder / "starts.jsonl").unlink()
    alone = env | {"GIT_DIR": str(tmp_path)}
    done = subprocess.run(start, env=alone, capture_output=True, text=True, timeout=120)
    message = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and not done.stdout and "Traceback" not in done.stderr
    assert message.startswith(f"error: cannot save {folder / 'checkpoints'}") and "check the free space" in message
    assert snapshot(folder / "checkpoints" / "2") == before
    done = launch(env, *words)
    assert "continuing from step 2" in done.stderr
    for name in ("metrics.jsonl", "metrics.csv", "results.json"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()
