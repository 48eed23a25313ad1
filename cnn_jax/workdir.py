"""The folder of a run: its config, and a record of every start.

  config.json     the settings; a run continues only under the same ones
  starts.jsonl    one record per start: command, settings, code, versions, devices
  metrics.jsonl, metrics.csv, timing.jsonl, tensorboard/   (training/metrics.py)
  checkpoints/    (training/checkpoints.py)
  results.json    the final measurement
  report.html
"""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from cnn_jax import config
from cnn_jax.errors import UsageError, UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
DIFF_LIMIT = 200_000  # characters of the uncommitted changes that a record holds


def locate(text: str) -> Path:
    """The folder that --workdir names, absolute.

    Raises:
      UsageError: it is not a local folder.
    """
    if "://" in text:
        raise UsageError(f"--workdir={text} must be a local folder")
    return Path(text).expanduser().absolute()


@contextlib.contextmanager
def claimed(folder: Path):
    """Makes the folder and keeps other processes out of it.

    Raises:
      UserError: it cannot be written, or another process is running in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"cannot write to the workdir {folder}: {error.strerror}; choose another with --workdir=FOLDER") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is running in {folder}: wait for it, or choose another --workdir") from None
        yield


def stored_config(folder: Path) -> config.Config | None:
    """The settings of the run in the folder; None where there is no run.

    Raises:
      UserError: config.json is damaged or of another version.
    """
    path = folder / "config.json"
    if not path.exists():
        return None
    try:
        return config.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}; start in another --workdir, or restore that file") from error


def store_config(folder: Path, settings: config.Config) -> None:
    """Writes config.json."""
    write_json(folder / "config.json", config.to_dict(settings))


def write_json(path: Path, values) -> None:
    """Writes a JSON file in one move."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(fresh, path)


def read_json(path: Path) -> dict | None:
    """A JSON file, or None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def record_start(folder: Path, settings: config.Config, **facts) -> None:
    """Adds a line to starts.jsonl: what was started, with which code, versions and machine, and the given facts."""
    record = {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "config": config.to_dict(settings),
        "git": _git(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "host": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        **facts,
    }
    with (folder / "starts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def starts(folder: Path) -> list[dict]:
    """All records of starts, oldest first."""
    path = folder / "starts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git():
    root = Path(__file__).resolve().parent.parent

    def ask(*words):
        return subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, timeout=10, check=True).stdout

    try:
        diff = ask("diff", "HEAD")
        return {"commit": ask("rev-parse", "HEAD").strip(), "dirty": bool(diff), "diff": diff[:DIFF_LIMIT]}
    except (OSError, subprocess.SubprocessError):
        return None  # not a checkout, or no git here


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
