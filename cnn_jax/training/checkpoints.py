"""Checkpoints: the whole state by name, with the config and the metrics, kept by Orbax.

A checkpoint holds a flat dict from dotted paths ("params.conv1.kernel") to arrays; what is missing, unexpected or of
another shape is then a list of names. Of several processes the first one alone reads and writes: every process holds
the whole state, so a checkpoint does not depend on how many there were, and needs no shared disk.

Each array is read back against the checksum it was saved with; see `saved.py` for the folder of a step. A step that
is not sound is passed over, and renamed by the next save. Reading changes nothing.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import math
import os
import re
import tempfile
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint import future

from cnn_jax import buckets, config, files, leases
from cnn_jax.devices import processes
from cnn_jax.errors import UserError
from cnn_jax.training.metric_files import read_rows
from cnn_jax.training.saved import CHECKSUMS, SCHEDULED, SCORE, Saved, numbered, survey, text_checksum
from cnn_jax.training.state import Variables, named_leaves

REMOVED = "removed"  # folder that old checkpoints are moved to before they are removed
LAST = "last step"  # the rule that chose a step where nothing was chosen
PATTERN = set("*?[]\\")  # signs of a path that Orbax takes for a pattern


class Damaged(UserError):
    """A checkpoint that cannot be read, or holds something else than was saved, and the reason."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"cannot read {path}: {reason}")
        self.reason = reason


class _Latest(policies.PreservationPolicy):
    """Keeps the latest scheduled checkpoints and, until a later scheduled one is there, those that were not scheduled.

    So a run ends with the same ones however often it was stopped.
    """

    def __init__(self, count: int):
        self._count = count

    def should_preserve(self, checkpoints, *, context):
        del context
        scheduled = [each.step for each in checkpoints if (each.metrics or {}).get(SCHEDULED, 1)]
        last = max(scheduled, default=-1)
        kept = {*sorted(scheduled)[-self._count :], *(each.step for each in checkpoints if each.step > last)}
        return [each.step in kept for each in checkpoints]


class Checkpoints:
    """The checkpoints of a run: the latest few and the best one.

    All processes of a run call its methods together, but for `close`, which each calls for itself.

    Attributes:
      keeps_best: whether the one with the highest score is kept.

    Args:
      workdir: the run's folder; checkpoints go to its subfolder `checkpoints`.
      keep: how many of the latest to keep.
      best: also keep the one with the highest score.
    """

    def __init__(self, workdir: Path, keep: int = 1, best: bool = False):
        # Orbax announces every folder it makes; what matters is logged here.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.folder = workdir / "checkpoints"
        self.keeps_best = best
        self._keep = keep
        self._alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=self._alone)
        self._reader = ocp.Checkpointer(handler, multiprocessing_options=self._alone)
        self._manager: ocp.CheckpointManager | None = None  # made by the first save
        self._unsound: dict[Path, str] = {}  # what was found wrong with steps
        self._link: tempfile.TemporaryDirectory | None = None

    def _open(self):
        """Makes the folder ready for saves; only the process that has claimed the workdir saves."""
        with _said(self.folder, "open"):
            files.make_folder(self.folder)
            for path in numbered(self.folder, whole=False):
                files.remove_folder(path)
        self._sound()
        for path in [path for path in self._unsound if path.exists()]:
            aside = path.with_name(f"damaged-{path.name}")
            with _said(path, "set aside"):
                files.remove_folder(aside)
                path.rename(aside)
            processes.log(f"{path} is now {aside.name}")
        self._unsound = {}
        score = lambda metrics: -math.inf if metrics[SCORE] is None else metrics[SCORE]
        kept = [_Latest(self._keep), *([policies.BestN(get_metric_fn=score, n=1)] * self.keeps_best)]
        options = ocp.CheckpointManagerOptions(
            create=False,
            multiprocessing_options=self._alone,
            best_fn=score,
            best_mode="max",
            preservation_policy=policies.AnyPreservationPolicy(kept),
            enable_async_checkpointing=True,
            # A checkpoint goes in one move, so that a kill leaves it whole or not at all. A bucket knows no moves: what
            # a kill leaves there is not whole, and passed over.
            todelete_subdir=None if buckets.is_far(self.folder) else REMOVED,
        )
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(multiprocessing_options=self._alone),
            "config": ocp.JsonCheckpointHandler(multiprocessing_options=self._alone),
            CHECKSUMS: _ChecksumHandler(),
        }
        with _said(self.folder, "open"):
            self._manager = ocp.CheckpointManager(self._place(), options=options, item_handlers=handlers)

    def _place(self):
        """The folder under a name that Orbax can look for files in."""
        if buckets.is_far(self.folder):
            return self.folder
        folder = self.folder.absolute()
        if not PATTERN & set(str(folder)):
            return folder
        if self._link is None:
            self._link = tempfile.TemporaryDirectory(prefix="cnn_jax-")
            (Path(self._link.name) / "checkpoints").symlink_to(folder, target_is_directory=True)
        return Path(self._link.name) / "checkpoints"

    def _sound(self) -> list[Saved]:
        """The steps that may be used, oldest first; what is wrong with others is said once."""
        if self._manager:
            with _said(self.folder, "save"):
                self._manager.wait_until_finished()
        sound, unsound = survey(self.folder)
        for path, reason in unsound.items():
            self._pass_over(path, reason)
        return [each for each in sound if self._path(each.step) not in self._unsound]

    def _pass_over(self, path, reason):
        if path not in self._unsound:
            processes.log(f"the checkpoint {path} {reason}: passed over")
        self._unsound[path] = reason

    def _path(self, step):
        return self.folder / str(step)

    def latest(self) -> int | None:
        """Returns the last step saved, or None."""
        return processes.on_first(lambda: max((each.step for each in self._sound()), default=None))

    def _rank(self, each):
        return (each.score if self.keeps_best else -math.inf, each.step)

    def top_score(self) -> float:
        """Returns the highest score of all checkpoints; -inf where none has one."""
        return processes.on_first(lambda: max((each.score for each in self._sound()), default=-math.inf))

    def check_settings(self, settings: config.Config) -> None:
        """Refuses to go on from checkpoints of a run with other settings.

        Raises:
          UserError: there is one.
        """
        for each in self._sound():
            changed = config.differences(settings, config.from_dict(each.settings))
            if changed:
                raise UserError(
                    f"{self._path(each.step)} was saved by a run with other settings (there -> here):\n  "
                    + "\n  ".join(changed)
                    + "\nuse those settings to continue it, or move that folder elsewhere"
                )

    def save(self, step: int, state, settings: config.Config, score: float | None, *, scheduled: bool = True) -> None:
        """Saves in the background; `wait` tells when it is on the disk.

        Args:
          step: of the state.
          state: any pytree of arrays.
          settings: the run's config.
          score: what "best" goes by; None where nothing was measured.
          scheduled: whether a run that nobody stops saves here too. One that is not goes with the next that is.

        Raises:
          UserError: the folder cannot be written, or the disk is full.
        """
        processes.on_first(lambda: self._save(step, state, settings, score, scheduled))

    def _save(self, step, state, settings, score, scheduled):
        if self._manager is None:
            self._open()
        leases.check_held(self.folder)
        _check_space(self.folder, state)
        arrays, settings = named_leaves(processes.local_copy(state)), config.to_dict(settings)
        metrics = {SCORE: score, SCHEDULED: int(scheduled)}
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(arrays),
            config=ocp.args.JsonSave(settings),
            # Views where the state is in the memory of the processor: JAX leaves what has a view alone.
            checksums=_ChecksumSave({name: np.asarray(leaf) for name, leaf in arrays.items()}, settings, metrics),
        )
        with _said(self.folder, "save"):
            self._manager.wait_until_finished()  # as `save` would
            self._remove()
            self._manager.save(step, args=items, metrics=metrics, force=True)

    def restore_latest(self, like):
        """Returns the newest state that is sound; None where there is none. Arguments as `restore`.

        Where the best one is lost, it is the newest before that: the run then comes to the best one again.

        Raises:
          UserError: it holds other arrays.
        """
        if self.keeps_best:
            self._newest(self._rank, like, self._read_all)  # finds whether the best one is sound
            processes.on_first(self._go_back)
        found = self._newest(lambda each: each.step, like, self._read_all)
        return found and found[1]

    def _go_back(self):
        lost = self._lost_best()
        for each in self._sound() if lost is not None else []:
            if each.step > lost:
                self._pass_over(self._path(each.step), f"comes after the best one, of step {lost}, which is lost")

    def _lost_best(self):
        """The step of the best evaluation if its checkpoint cannot be used; None where it can, or none was saved."""
        if not (self.keeps_best and self._unsound):
            return None
        rows = [row for row in read_rows(self.folder.parent) if row["split"] == "validation"]
        rows = [row for row in rows if row.get("accuracy") is not None]
        best = max(rows, key=lambda row: (row["accuracy"], -row["step"]), default=None)
        return best["step"] if best and self._path(best["step"]) in self._unsound else None

    def restore_chosen(self, like: Variables) -> tuple[Variables, int, str] | None:
        """Restores what evaluation uses of the best state, or of the newest where no score counts, that is sound.

        Args:
          like: variables of the same structure.

        Returns:
          The variables, their step, and the rule that chose it; None where nothing is saved.

        Raises:
          UserError: it holds other variables.
        """
        found = self._newest(self._rank, like, self._read_variables)
        if found is None:
            return None
        step, variables = found
        return variables, step, processes.on_first(lambda: self._rule(step))

    def _rule(self, step):
        if not (self.keeps_best and self._find(step).scored):
            return LAST
        return "best validation accuracy" + " of the checkpoints that are left" * (self._lost_best() is not None)

    def _newest(self, rank, like, read):
        """The first step by rank that can be read, and what was read; None where there is none."""
        held: list = []

        def choose():
            while sound := self._sound():
                each = max(sound, key=rank)
                try:
                    held.extend(read(each, named_leaves(like)))
                    return each.step
                except Damaged as error:
                    if self._path(each.step).exists():  # else it was removed meanwhile, as old ones are
                        self._pass_over(self._path(each.step), f"is damaged ({error.reason})")
            return None

        step = processes.on_first(choose)
        if step is None:
            return None
        leaves = processes.arrays_from_first(lambda: held, named_leaves(like).values())
        return step, jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _find(self, step):
        found = [each for each in self._sound() if each.step == step]
        if not found:
            raise Damaged(self._path(step), "there is no sound checkpoint")
        return found[0]

    def restore(self, step: int, like):
        """Returns the state saved at a step.

        Args:
          step: one of the steps saved.
          like: a state of the same structure; leaves have shapes, types and placement (arrays or ShapeDtypeStruct).

        Raises:
          UserError: the checkpoint is damaged, or holds other arrays.
        """
        wanted = named_leaves(like)
        leaves = processes.arrays_from_first(lambda: self._read_all(self._find(step), wanted), wanted.values())
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _read_all(self, saved, wanted):
        names = self._names(saved)
        _check_names(self._path(saved.step), names, wanted)
        return self._read(saved, names, wanted)

    def _read_variables(self, saved, leaves):
        names = self._names(saved)
        part = "ema" if any(name.startswith("ema.") for name in names) else "params"
        wanted = {name.replace("params", part, 1): leaf for name, leaf in leaves.items()}
        only = {name: each for name, each in names.items() if name.startswith((f"{part}.", "batch_stats."))}
        _check_names(self._path(saved.step), only, wanted)
        return self._read(saved, names, wanted)

    def _names(self, saved):
        """The names that the arrays of a step have now: the names they were saved under, and their shapes."""
        path = self._path(saved.step)
        with _said(path, "read"):
            metadata = self._reader.metadata(self._place() / str(saved.step) / "state").item_metadata
            if metadata is None:
                raise FileNotFoundError("the list of its arrays is missing")
            names = {_name_now(name): (name, tuple(leaf.shape)) for name, leaf in metadata.tree.items()}
            if saved.checksums is not None:
                expected = {name: tuple(shape) for name, (_, shape) in saved.checksums.items()}
                if dict(names.values()) != expected:
                    raise ValueError("the list of its arrays is not that of its saving")
            return names

    def _read(self, saved, names, wanted):
        path, here = self._path(saved.step), processes.local_placement
        place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here(leaf))
        abstract = {names[name][0]: place(leaf) for name, leaf in wanted.items()}
        with _said(path, "read"):
            restore = ocp.args.PyTreeRestore(
                abstract,
                restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
                partial_restore=True,
            )
            loaded = self._reader.restore(self._place() / str(saved.step) / "state", args=restore)
            for name, array in loaded.items():
                if saved.checksums is not None and saved.checksums[name][0] != files.checksum(np.asarray(array)):
                    raise ValueError(f"the checksum of {name} is not that of its saving")
        return [loaded[names[name][0]] for name in wanted]

    def settings(self, step: int) -> dict:
        """Returns the config saved with a step, as a dict."""
        return processes.on_first(lambda: self._find(step).settings)

    def wait(self) -> None:
        """Returns when every save is on the disk.

        Raises:
          UserError: one of them failed.
        """
        processes.on_first(self._wait)

    def _wait(self):
        if self._manager is None:
            return
        with _said(self.folder, "save"):
            self._manager.wait_until_finished()
            self._remove()

    def _remove(self):
        """Removes what was moved out of the way."""
        if not buckets.is_far(self.folder):
            files.remove_folder(self.folder / REMOVED)

    def close(self) -> None:
        """Waits and releases the folder.

        Raises:
          UserError: a save failed.
        """
        if processes.is_first():
            try:
                self._wait()
            finally:
                self._reader.close()
                if self._manager:
                    self._manager.close()
                if self._link:
                    self._link.cleanup()


@dataclasses.dataclass
class _ChecksumSave(ocp.args.CheckpointArgs):
    """What checksums are written of: arrays by name, the settings, the metrics."""

    arrays: dict[str, np.ndarray]
    settings: dict
    metrics: dict


class _ChecksumHandler(ocp.AsyncCheckpointHandler):
    """Writes checksums to a step's folder while Orbax writes the rest."""

    async def async_save(self, directory, args: _ChecksumSave):
        # In a thread of its own, once the folder is there.
        return [future.CommitFutureAwaitingContractedSignals(self._write(directory, args), name=CHECKSUMS)]

    async def _write(self, directory, args):
        self.save(directory, args)

    def save(self, directory, args: _ChecksumSave):
        found = {
            "arrays": {name: (files.checksum(array), array.shape) for name, array in args.arrays.items()},
            "config": text_checksum(args.settings),
            "metrics": text_checksum(args.metrics),
        }
        (directory / CHECKSUMS).write_text(json.dumps(found))

    def restore(self, directory, args=None):
        raise NotImplementedError("checksums are read by saved.py")


ocp.args.register_with_handler(_ChecksumHandler, for_save=True, for_restore=True)(_ChecksumSave)


def _name_now(name):
    """The name of an array; until November 2026 the running statistics were saved under "statistics"."""
    return re.sub(r"^statistics\.", "batch_stats.", name)


def _check_space(folder, state):
    """Refuses a save that cannot fit: a disk that runs full in the middle of one shows as dozens of errors."""
    needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**20
    free = files.free_bytes(folder)
    if free < needed:
        raise UserError(
            f"cannot save {folder}: the disk has {free / 2**20:.1f} MiB left, and a checkpoint may take "
            f"{needed / 2**20:.1f}; make room and start again: the checkpoints before it are whole"
        )


def _check_names(folder, stored, wanted):
    missing = sorted(wanted.keys() - stored.keys())
    unexpected = sorted(stored.keys() - wanted.keys())
    shapes = [
        f"{name}: saved {stored[name][1]}, here {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & stored.keys())
        if stored[name][1] != tuple(wanted[name].shape)
    ]
    found = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    lines = [f"  {what} ({len(names)}): {_some(names)}" for what, names in found if names]
    if lines:
        raise UserError(f"the checkpoint {folder} does not fit this network:\n" + "\n".join(lines))


def _some(names, most=12):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@contextlib.contextmanager
def _said(folder, doing):
    """Turns what Orbax raises over files into one message that names the folder."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what TensorStore meets in damaged files, Orbax wraps in a plain Exception
        text = " ".join(str(error).split()) or type(error).__name__
        full = os.strerror(errno.ENOSPC)
        short = text if len(text) <= 400 else f"{text[:150]} ... {text[-200:]}"  # the cause often stands at the end
        reason = full if full in text else short
        if doing == "read":
            raise Damaged(folder, reason) from error
        hint = {
            "open": "check that the folder can be written",
            "set aside": "it is not sound; check that the folder can be written, or delete it yourself",
            "save": "check the free space and the permissions; the checkpoints before it are whole",
        }[doing]
        raise UserError(f"cannot {doing} {folder}: {reason}; {hint}") from error
