"""Starts launch.py, strikes it with a signal at a moment of chance, and compares what it ends with.

What is compared is what one uninterrupted run of the same command leaves: rows, results, and every array of every
checkpoint, byte for byte.
"""

import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from launching import command, environment, settings

from cnn_jax import leases, workdir
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.learner import Learner
from cnn_jax.training.saved import survey
from cnn_jax.training.state import named_leaves

ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LONGEST = 240  # seconds
FIRST = 0.7  # seconds after which Python has certainly come to the first line of the program


class Case(NamedTuple):
    """A command, and in how many processes it runs."""

    words: tuple[str, ...]
    processes: int = 1
    study: bool = False


def make_case(experiment: str, processes: int = 1, study: bool = False, **values) -> Case:
    """A case with settings, each under its name with __ for a point."""
    return Case((f"--experiment={experiment}", *settings(**values)), processes, study)


OFTEN = {"log__every": "3 steps", "log__tensorboard": False}
DIGITS = OFTEN | {
    "data__limit": 60, "data__validation": 40, "train__batch_size": 8, "train__duration": "90 steps",
    "evaluation__every": "10 steps", "checkpoint__every": "7 steps", "optimizer__ema": 0.9, "model__dropout": 0.2,
    "schedule__warmup": "5 steps",
}  # fmt: skip
ALEXNET = OFTEN | {
    "data__name": "fake", "data__classes": 4, "data__examples": 48, "data__side": 40, "data__crop": 32,
    "model__width": 8, "data__validation": 12, "train__batch_size": 6, "train__duration": "24 steps",
    "evaluation__every": "5 steps",
    "checkpoint__every": "4 steps", "model__layout": "CHWN", "schedule__warmup": "2 steps", "augment__shift": 0,
}  # fmt: skip
STUDY = OFTEN | {
    "study__arms": "average", "study__seeds": 2, "study__select": "best", "study__measurements": "", "data__limit": 60,
    "data__validation": 40, "train__batch_size": 8, "train__duration": "40 steps", "evaluation__every": "5 steps",
    "checkpoint__every": "4 steps", "schedule__warmup": "4 steps",
}  # fmt: skip
CASES = {
    "digits, device": make_case("lenet_digits", **DIGITS),
    "AlexNet, host": make_case("alexnet_cifar10", **ALEXNET, data__placement="host"),
    "AlexNet, stream": make_case("alexnet_cifar10", **ALEXNET, data__placement="stream"),
    "study": make_case("pooling_digits", study=True, **STUDY),
    "two processes": make_case("lenet_digits", processes=2, **DIGITS),
}


def make_environment(cache: Path) -> dict[str, str]:
    """The environment of all runs: compiled as for a user, on one CPU device, programs kept in a folder."""
    return environment(cache, TFDS_DATA_DIR=str(cache / "data"), PYTHONWARNINGS="ignore")


def start(case: Case, env: dict[str, str], folder: Path) -> list[subprocess.Popen]:
    """The processes of a command, on their way; their standard error goes to a file."""
    words = command(*case.words, f"--workdir={folder}")
    shared = [[]]
    if case.processes > 1:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            # One that is struck before all have met lets the others wait for as long as the timeout says.
            place = [f"--coordinator=localhost:{probe.getsockname()[1]}", "--coordinator_timeout=60"]
            place.append(f"--process_count={case.processes}")
        shared = [[*place, f"--process_index={index}"] for index in range(case.processes)]
    return [_begun([*words, *more], env) for more in shared]


def _begun(words, env):
    said = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=said, text=True)
    process.said = said
    return process


def end(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """The exit status of each process and what it said, once all have ended."""
    found = []
    for process in processes:
        status = process.wait(LONGEST)
        process.said.seek(0)
        found.append((status, process.said.read()))
        process.said.close()
    return found


def run(case: Case, env: dict[str, str], folder: Path) -> float:
    """Runs a command to its end; the seconds that took."""
    began = time.monotonic()
    for status, said in end(start(case, env, folder)):
        assert status == 0 and "Traceback" not in said, said
    return time.monotonic() - began


def _stages(case, folder):
    """When to strike, by name: once the condition holds."""
    checkpoints = "arms/*/checkpoints/*/checkpoints" if case.study else "checkpoints"
    now = lambda pattern: {(path, path.stat().st_mtime_ns) for path in folder.glob(pattern) if path.exists()}
    patterns = {
        "at the start": "starts.jsonl",
        "while saving": f"{checkpoints}/*tmp*",
        "while removing": f"{checkpoints}/removed",
        "after a save": f"{checkpoints}/[0-9]*",
        "at the end": "arms/*/arm.json" if case.study else "results.json",
    }
    before = {stage: now(pattern) for stage, pattern in patterns.items()}
    changed = lambda stage: lambda: bool(now(patterns[stage]) - before[stage])
    return {"at any time": lambda: True} | {stage: changed(stage) for stage in patterns}


def strike(case: Case, env, folder: Path, number: int, draw: random.Random, whole: float) -> tuple[str, bool]:
    """Starts a command, strikes it, and waits for its end.

    Args:
      case: the command.
      env: its environment.
      folder: its workdir, fresh or left by strikes before.
      number: the signal.
      draw: the chance.
      whole: seconds of an uninterrupted run.

    Returns:
      The stage it was in, and whether it was still running then.
    """
    stages = _stages(case, folder)
    stage = draw.choice(["at any time", *stages])
    first = 0.0 if number == signal.SIGKILL else FIRST
    delay = draw.uniform(first, whole) if stage == "at any time" else draw.choice([0, draw.uniform(0, 0.3)])
    processes = start(case, env, folder)
    running = lambda: all(process.poll() is None for process in processes)
    deadline = time.monotonic() + LONGEST
    while running() and not stages[stage]() and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(delay)
    struck = running()
    # Of several processes one is hit, or all, as a scheduler does.
    hit = processes if draw.random() < 0.5 else [draw.choice(processes)]
    for process in hit:
        process.send_signal(number)
    for process, (status, said) in zip(processes, end(processes), strict=True):
        context = f"{signal.Signals(number).name} {stage}: status {status}\n{said}"
        assert "Traceback" not in said and "Exception" not in said, context
        if number == signal.SIGKILL:
            # 134: a process that has lost process 0, see devices/processes.py; 1: the others, which say so.
            assert status in ((0, -number) if case.processes == 1 else (0, -number, 1, -6)), context
        else:
            assert status in ((0, 75) if case.processes == 1 else (0, 75, 1, -6)), context
    return stage, struck


def assert_same_end(case: Case, folder: Path, whole: Path) -> None:
    """Compares every file that holds no time of day, and every array of every checkpoint."""
    names = ["results.csv", "summary.csv"] if case.study else ["metrics.jsonl", "metrics.csv", "results.json"]
    runs = [path.relative_to(whole) for path in sorted(whole.glob("arms/*/seed-*"))] if case.study else [Path()]
    names += [str(each / name) for each in runs if case.study for name in ("metrics.jsonl", "results.json")]
    for name in names:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    for each in runs:
        ours, theirs = (survey(place / each / "checkpoints") for place in (folder, whole))
        assert [one.step for one in ours[0]] == [one.step for one in theirs[0]] and not ours[1]
        one, other = _arrays(folder / each), _arrays(whole / each)
        assert one.keys() == other.keys() and one
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=f"{each} {name}")
    kept = lambda place: {path.name for path in place.iterdir() if not path.name.startswith(leases.NAME)}  # a number
    assert kept(folder) == kept(whole)


def _arrays(folder):
    learner, found = Learner(workdir.stored_config(folder)), {}
    checkpoints = Checkpoints(folder)
    for saved in survey(folder / "checkpoints")[0]:
        state = checkpoints.restore(saved.step, learner.state_like())
        found |= {f"{saved.step} {name}": np.asarray(leaf) for name, leaf in named_leaves(state).items()}
    checkpoints.close()
    return found
