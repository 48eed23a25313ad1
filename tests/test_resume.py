"""A run that is killed and started again, as often as it takes, ends as if it had never been."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from launching import command, environment, launch, settings, shared_folder, stored_state

# Everything that is random or carried from step to step is on, and nothing falls on the same step: an epoch is
# 60 / 8 = 7.5 steps, rows come every 7 steps, checkpoints every 13.
RUN = settings(
    data__limit=60, data__validation=40, train__batch_size=8, train__duration="230 steps", model__dropout=0.3,
    augment__shift=2, augment__rotation=15, optimizer__name="sgd", optimizer__momentum=0.9, optimizer__ema=0.95,
    schedule__name="plateau", schedule__warmup="20 steps", schedule__patience=1,
    evaluation__every="3 epochs", log__every="7 steps", checkpoint__every="13 steps", checkpoint__keep=3,
)  # fmt: skip
WORDS = ["--experiment=lenet_digits", "--seed=5", *RUN]
STEPS = 230


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """Compiled as for a user: whether results are equal to the bit must not depend on a simpler program. Two cores."""
    folders = {"TFDS_DATA_DIR": str(tmp_path_factory.mktemp("data"))}
    return environment(shared_folder(tmp_path_factory, "cache"), JAX_NUM_CPU_DEVICES="2", **folders)


@pytest.fixture(scope="module")
def whole(env, tmp_path_factory):
    """The workdir of the run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = launch(env, *WORDS, f"--workdir={folder}", "--noreport")
    assert "parallel: pmap on 2 cpu devices" in done.stderr
    return folder


def assert_same_end(folder: Path, whole: Path):
    for name in ("metrics.jsonl", "metrics.csv", "results.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = stored_state(folder, STEPS), stored_state(whole, STEPS)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def started(env, folder: Path) -> subprocess.Popen:
    """The run in a process of its own, on its way."""
    words = command(*WORDS, f"--workdir={folder}", "--noreport")
    return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def complete(folder: Path) -> set[int]:
    """The steps of the checkpoints that are whole."""
    checkpoints = folder / "checkpoints"
    return {int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()} if checkpoints.is_dir() else set()


def saving(folder: Path) -> set[str]:
    """The names of the checkpoints that are being written, or were when the process was killed."""
    return {path.name for path in (folder / "checkpoints").glob("*tmp*")}


def wait_for(process: subprocess.Popen, condition) -> bool:
    """Whether the condition came true; False if the process ended first."""
    deadline = time.monotonic() + 240
    while process.poll() is None:
        if condition():
            return True
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    return False


def killed(env, folder: Path, moment: str, delay: float) -> bool:
    """Starts the run and kills it at a moment; whether it was still running then."""
    steps, torn = complete(folder), saving(folder)
    saves = lambda: len(complete(folder) - steps)
    conditions = {
        "start": lambda: (folder / "metrics.jsonl").exists(),
        "first save": lambda: saving(folder) - torn,
        "after two saves": lambda: saves() >= 2,
        "third save": lambda: saves() >= 2 and saving(folder) - torn,
    }
    with started(env, folder) as process:
        reached = wait_for(process, conditions[moment])
        time.sleep(delay)
        alive = process.poll() is None
        process.kill()
        process.communicate()
    return reached and alive


@pytest.mark.slow
def test_kill_at_any_moment_and_resume(env, whole, tmp_path):
    """SIGKILL right after the start, in the middle of saves, and between them; the same command each time."""
    folder, draw = tmp_path / "run", random.Random(0)
    resumed_from = []
    for moment, longest in (("start", 0.5), ("first save", 0.02), ("after two saves", 0.1), ("third save", 0.04)):
        assert killed(env, folder, moment, draw.uniform(0, longest)), f"over too soon: {moment} after {resumed_from}"
        resumed_from.append(max(complete(folder), default=0))
    assert resumed_from == sorted(resumed_from) and 0 < resumed_from[-1] < STEPS
    done = launch(env, *WORDS, f"--workdir={folder}", "--noreport")
    assert f"continuing from step {resumed_from[-1]:,}" in done.stderr
    assert_same_end(folder, whole)
    starts = [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines()]
    assert [start["step"] for start in starts[1:]] == resumed_from


@pytest.mark.slow
def test_sigterm_saves_and_twice_ends_at_once(env, whole, tmp_path):
    folder = tmp_path / "run"
    with started(env, folder) as process:
        assert wait_for(process, lambda: complete(folder))
        while process.poll() is None:  # two at nearly the same time count as one
            process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        assert process.returncode == 75
        assert "Traceback" not in process.stderr.read()
    first = max(complete(folder))
    with started(env, folder) as process:
        assert wait_for(process, lambda: complete(folder) - set(range(first + 1)))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    second = max(complete(folder))
    assert process.returncode == 75
    assert said.splitlines()[-1] == f"saved at step {second} of {STEPS:,}; the same command continues"
    assert first < second < STEPS
    launch(env, *WORDS, f"--workdir={folder}", "--noreport")
    assert_same_end(folder, whole)


def test_a_finished_run_trains_no_more(env, whole):
    names = ("metrics.jsonl", "metrics.csv", "timing.jsonl", "results.json")
    kept = {name: (whole / name).read_bytes() for name in names}
    steps = complete(whole)
    done = launch(env, *WORDS, f"--workdir={whole}", "--noreport")
    assert "first step done" not in done.stderr
    assert f"already at its last step, {STEPS}" in done.stderr
    assert f"step {json.loads(kept['results.json'])['step']})" in done.stdout
    assert {name: (whole / name).read_bytes() for name in kept} == kept
    assert complete(whole) == steps
