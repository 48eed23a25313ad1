"""The folder of a run: its config, and a record of every start.

config.json     the settings; a run continues only under the same ones
starts.jsonl    one record per start: command, settings, code, versions, devices
metrics.jsonl, metrics.csv, timing.jsonl, tensorboard/   (training/metric_files.py, trackers.py)
layers.jsonl    where log.layers asks for it (training/layer_metrics.py)
checkpoints/    (training/checkpoints.py)
results.json    the final measurement
report.html
"""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import cnn_jax
from cnn_jax import config, files, flags
from cnn_jax.config import study as studies
from cnn_jax.config.study import Study
from cnn_jax.errors import UsageError, UserError
from cnn_jax.training.saved import Saved, survey

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
DIFF_LIMIT = 200_000  # characters of the uncommitted changes that a record holds


def stored_config(folder: Path) -> config.Config | None:
    """Returns the settings of the run in the folder: where config.json is lost, those saved with the newest checkpoint.

    Returns:
      None where there is no run.

    Raises:
      UserError: config.json is damaged or of another version, and there is no checkpoint; or a checkpoint is of a run
        with other settings.
    """
    path = folder / "config.json"
    saved_ones = survey(folder / "checkpoints")[0]
    try:
        found = config.from_dict(files.read_json(path)) if path.exists() else None
    except DAMAGED as error:
        if not saved_ones:
            raise UserError(
                f"{path} cannot be read: {files.reason(error)}; start in another --workdir, or restore that file"
            ) from error
        found = None
    found = found or (saved_settings(folder, saved_ones[-1]) if saved_ones else None)
    for each in saved_ones:
        changed = config.differences(saved_settings(folder, each), found)
        if changed:
            raise UserError(
                f"{folder / 'checkpoints' / str(each.step)} was saved by a run with other settings than those of "
                f"{folder} (here -> there):\n  " + "\n  ".join(changed) + "\nmove it elsewhere, or restore config.json"
            )
    return found


def saved_settings(folder: Path, saved: Saved) -> config.Config:
    """Returns the settings of a checkpoint of the run in a folder.

    Raises:
      UserError: they are of another version.
    """
    try:
        return config.from_dict(saved.settings)
    except DAMAGED as error:
        raise UserError(
            f"the settings in {folder / 'checkpoints' / str(saved.step)} cannot be read: {files.reason(error)}; "
            "start in another --workdir"
        ) from error


DAMAGED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # what settings of other shapes raise


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
    files.write_json(folder / "config.json", config.to_dict(settings))


def stored_study(folder: Path) -> Study | None:
    """Returns the study in a folder; None where there is none.

    Raises:
      UserError: study.json is damaged or of another version.
    """
    path = folder / "study.json"
    if not path.exists():
        return None
    try:
        return studies.from_dict(files.read_json(path))
    except DAMAGED as error:
        raise UserError(
            f"{path} cannot be read: {files.reason(error)}; start in another --workdir, or restore that file"
        ) from error


def check_same_study(folder: Path, study: Study, resume: bool) -> None:
    """Lets a study go on in a folder that holds none or, if it may be resumed, the same one; arms may be added.

    Raises:
      UsageError: it holds a run, or a study that may not be resumed or has other settings.
    """
    stored = stored_study(folder)
    if stored is None:
        if (folder / "config.json").exists() or (folder / "checkpoints").exists():
            raise UsageError(f"{folder} holds a run, not a study; choose another --workdir")
    _check_arms(folder, study)
    if stored is None:
        return
    if not resume:
        raise UsageError(f"--noresume: {folder} already holds a study; choose another --workdir, or delete that folder")
    changed = config.differences(study.base, stored.base)
    changed += [f"study.{line}" for line in config.differences(study.protocol, stored.protocol)]
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


def _check_arms(folder, study):
    """Refuses finished arms that were trained with other settings; those that cannot be read are trained again."""
    for arm in study.chosen:
        path = folder / "arms" / arm.name / "arm.json"
        try:
            record = files.read_json(path)
            trained = config.from_dict(record["config"])
            asked = study.settings(arm, record.get("swept"))
        except (OSError, *DAMAGED):
            continue
        changed = config.differences(asked, trained)
        if changed:
            raise UsageError(
                f"{path.parent} was trained with other settings (there -> here):\n  "
                + "\n  ".join(changed)
                + "\nuse those settings, move that folder elsewhere, or choose another --workdir"
            )


def store_study(folder: Path, study: Study) -> None:
    """Writes study.json."""
    files.write_json(folder / "study.json", studies.to_dict(study))


def record_start(folder: Path, settings: config.Config, **facts) -> None:
    """Adds a line to starts.jsonl: what was started, with which code, versions and machine, and the given facts."""
    record = {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([*flags.program(), *sys.argv[1:]]),
        "config": config.to_dict(settings),
        "git": _git(),
        "versions": {"cnn_jax": cnn_jax.__version__, "python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "host": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        **facts,
    }
    files.write_text(folder / "starts.jsonl", "".join(files.json_line(each) for each in [*starts(folder), record]))


def starts(folder: Path) -> list[dict]:
    """Returns all records of starts, oldest first; lines that are damaged are named and left out."""
    return files.read_lines(folder / "starts.jsonl", _is_start)


def _is_start(record):
    tables = ("config", "versions", "host")
    texts = isinstance(record.get("time"), str) and isinstance(record.get("command"), str)
    return texts and all(isinstance(record.get(name) or {}, dict) for name in (*tables, "git"))


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git():
    """The state of the checkout that the code runs from; None where it was installed, whatever repository is around."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or not (root / "launch.py").exists():
        return None

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
