"""The folder of a run: its config, and a record of every start.

config.json     the settings; a run continues only under the same ones
starts.jsonl    one record per start: command, settings, code, versions, devices
metrics.jsonl, metrics.csv, timing.jsonl, tensorboard/   (training/metrics.py)
checkpoints/    (training/checkpoints.py)
results.json    the final measurement
report.html
"""

import contextlib
import dataclasses
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
from cnn_jax.studies.study import Arm, Study

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
        raise UserError(
            f"cannot write to the workdir {folder}: {error.strerror}; choose another with --workdir=FOLDER"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is running in {folder}: wait for it, or choose another --workdir"
            ) from None
        try:
            yield
        finally:
            if list(folder.iterdir()) == [folder / ".lock"]:  # nothing came of it: leave no empty folder behind
                (folder / ".lock").unlink()
                folder.rmdir()


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
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}; start in another --workdir, or restore that file") from error


def check_same_run(folder: Path, settings: config.Config, resume: bool) -> None:
    """Lets training go on in a folder that holds no run or, if it may be resumed, the same one.

    Raises:
      UsageError: it holds a run, and may not be resumed or has other settings.
    """
    stored = stored_config(folder)
    if stored is None:
        return
    if not resume:
        raise UsageError(f"--noresume: {folder} already holds a run; choose another --workdir, or delete that folder")
    changed = config.differences(settings, stored)
    if changed:
        raise UsageError(
            f"{folder} holds a run with other settings (there -> here):\n  "
            + "\n  ".join(changed)
            + "\nuse those settings to continue it, or another --workdir to start anew"
        )


def store_config(folder: Path, settings: config.Config) -> None:
    """Writes config.json."""
    write_json(folder / "config.json", config.to_dict(settings))


def stored_study(folder: Path) -> Study | None:
    """The study in a folder; None where there is none.

    Raises:
      UserError: study.json is damaged or of another version.
    """
    path = folder / "study.json"
    if not path.exists():
        return None
    tuples = lambda fields: {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Study(
            experiment=values["experiment"],
            base=config.from_dict(values["base"]),
            arms=tuple(Arm(**tuples(arm)) for arm in values["arms"]),
            baseline=values["baseline"],
            pairs=tuple(map(tuple, values["pairs"])),
            study=config.Protocol(**tuples(values["study"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}; start in another --workdir, or restore that file") from error


def check_same_study(folder: Path, study: Study, resume: bool) -> None:
    """Lets a study go on in a folder that holds none or, if it may be resumed, the same one; arms may be added.

    Raises:
      UsageError: it holds a run, or a study that may not be resumed or has other settings.
    """
    stored = stored_study(folder)
    if stored is None:
        if (folder / "config.json").exists():
            raise UsageError(f"{folder} holds a run, not a study; choose another --workdir")
        return
    if not resume:
        raise UsageError(f"--noresume: {folder} already holds a study; choose another --workdir, or delete that folder")
    changed = config.differences(study.base, stored.base)
    changed += [f"study.{line}" for line in config.differences(study.study, stored.study)]
    before = {arm.name: arm.changes for arm in stored.arms}
    for arm in study.arms:
        if before.get(arm.name, arm.changes) != arm.changes:
            changed.append(f"arm {arm.name}: {before[arm.name]} -> {arm.changes}")
    if changed:
        raise UsageError(
            f"{folder} holds a study with other settings (there -> here):\n  "
            + "\n  ".join(changed)
            + "\nuse those settings to continue it, or another --workdir to start anew"
        )


def store_study(folder: Path, study: Study) -> None:
    """Writes study.json."""
    write_json(folder / "study.json", dataclasses.asdict(study))


def write_json(path: Path, values) -> None:
    """Writes a JSON file in one move."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one move: whoever reads it sees the old text or the new."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def read_lines(path: Path) -> list[dict]:
    """The records of a JSONL file; none where there is no file. A line cut short by a crash is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # only the last line of a killed process can be torn
    return records


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
    write_text(folder / "starts.jsonl", "".join(json.dumps(each) + "\n" for each in [*starts(folder), record]))


def starts(folder: Path) -> list[dict]:
    """All records of starts, oldest first."""
    return read_lines(folder / "starts.jsonl")


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git():
    root = Path(__file__).resolve().parent.parent

    def ask(*words):
        return subprocess.run(
            ["git", "-C", root, *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout

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
