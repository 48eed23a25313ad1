"""Checkpoints: the whole state by name, with the config and the metrics, kept by Orbax.

A checkpoint holds a flat dict from dotted paths ("params.conv1.kernel") to arrays; what is missing, unexpected or of
another shape is then a list of names. Of several processes the first one alone reads and writes: every process holds
the whole state, so a checkpoint does not depend on how many there were, and needs no shared disk.
"""

import contextlib
import json
import logging
import math
import re
import shutil
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from cnn_jax import config
from cnn_jax.devices import processes
from cnn_jax.errors import UserError
from cnn_jax.training.state import Variables, named_leaves

# What a checkpoint has at least; one that lacks any was cut short while it was removed, or damaged.
PARTS = ("_CHECKPOINT_METADATA", "config/metadata", "metrics/metrics", "state/_METADATA", "state/manifest.ocdbt")
REMOVED = "removed"  # folder that old checkpoints are moved to before they are removed
SCHEDULED = "scheduled"  # 1, or 0 where a signal or a part of a run asked for it; missing until November 2026
SCORE = "score"  # what "best" goes by: the higher the better; -inf where nothing was measured


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
        processes.on_first(lambda: self._open(keep))

    def _open(self, keep):
        kept = [_Latest(keep)]
        score = lambda metrics: metrics[SCORE]
        if self.keeps_best:
            kept.append(policies.BestN(get_metric_fn=score, n=1))
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        options = ocp.CheckpointManagerOptions(
            create=False,
            multiprocessing_options=alone,
            best_fn=score,
            best_mode="max",
            preservation_policy=policies.AnyPreservationPolicy(kept),
            enable_async_checkpointing=True,
            # A checkpoint goes in one move, so that a kill leaves it whole or not at all.
            todelete_subdir=REMOVED,
        )
        _set_aside(self.folder)
        _check_scores(self.folder)
        with _said(self.folder, "open"):
            self.folder.mkdir(parents=True, exist_ok=True)
            handlers = {
                "state": ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
                "config": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
            }
            self._manager = ocp.CheckpointManager(self.folder.absolute(), options=options, item_handlers=handlers)

    def latest(self) -> int | None:
        """The last step saved, or None."""
        return processes.on_first(lambda: self._manager.latest_step())

    def best(self) -> int | None:
        """The step with the highest score if the run keeps one, else the last step; None where nothing is saved."""
        return processes.on_first(self._best_step)

    def _best_step(self):
        scored = self.keeps_best and any(map(self._scored, self._manager.all_steps()))
        return self._manager.best_step() if scored else self._manager.latest_step()

    def scored(self, step: int) -> bool:
        """Tells whether a step was saved with a score."""
        return processes.on_first(lambda: self._scored(step))

    def _scored(self, step):
        return math.isfinite(self._manager.metrics(step)[SCORE])

    def top_score(self) -> float:
        """The highest score of all checkpoints; -inf where none has one."""
        return processes.on_first(
            lambda: max((self._manager.metrics(step)[SCORE] for step in self._manager.all_steps()), default=-math.inf)
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
        _check_space(self.folder, state)
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(named_leaves(processes.local_copy(state))),
            config=ocp.args.JsonSave(config.to_dict(settings)),
        )
        with _said(self.folder, "save"):
            self._manager.wait_until_finished()  # as `save` would
            self._remove()
            metrics = {SCORE: -math.inf if score is None else score, SCHEDULED: int(scheduled)}
            self._manager.save(step, args=items, metrics=metrics, force=True)

    def restore(self, step: int, like):
        """The state saved at a step.

        Args:
          step: one of the steps saved.
          like: a state of the same structure; leaves have shapes, types and placement (arrays or ShapeDtypeStruct).

        Raises:
          UserError: the checkpoint is damaged, or holds other arrays.
        """
        wanted = named_leaves(like)

        def read():
            _check_names(self.folder / str(step), self._stored(step), wanted)
            return self._read(step, wanted)

        return jax.tree.unflatten(jax.tree.structure(like), processes.arrays_from_first(read, wanted.values()))

    def restore_variables(self, step: int, like: Variables) -> Variables:
        """Restores what evaluation uses of the state saved at a step: the averaged parameters where there are any.

        Args:
          step: one of the steps saved.
          like: variables of the same structure.

        Raises:
          UserError: the checkpoint is damaged, or holds other variables.
        """
        leaves = named_leaves(like)

        def read():
            stored = self._stored(step)
            part = "ema" if any(name.startswith("ema.") for name in stored) else "params"
            wanted = {name.replace("params", part, 1): leaf for name, leaf in leaves.items()}
            only = {name: shape for name, shape in stored.items() if name.startswith((f"{part}.", "batch_stats."))}
            _check_names(self.folder / str(step), only, wanted)
            return self._read(step, wanted)

        return jax.tree.unflatten(jax.tree.structure(like), processes.arrays_from_first(read, leaves.values()))

    def _stored(self, step):
        return {_name_now(name): leaf for name, leaf in self._tree(step).items()}

    def _tree(self, step):
        with _said(self.folder / str(step), "read"):
            metadata = self._manager.item_metadata(step)["state"]
            if metadata is None:
                raise FileNotFoundError("the list of its arrays is missing")
            return metadata.tree

    def _read(self, step, wanted):
        here = processes.local_placement
        saved = {_name_now(name): name for name in self._tree(step)}
        abstract = {saved[name]: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here(x)) for name, x in wanted.items()}
        with _said(self.folder / str(step), "read"):
            arrays = ocp.checkpoint_utils.construct_restore_args(abstract)
            restore = ocp.args.PyTreeRestore(abstract, restore_args=arrays, partial_restore=True)
            loaded = self._manager.restore(step, args=ocp.args.Composite(state=restore))["state"]
        return [loaded[saved[name]] for name in wanted]

    def settings(self, step: int) -> dict:
        """The config saved with a step, as a dict."""

        def read():
            with _said(self.folder / str(step), "read"):
                return self._manager.restore(step, args=ocp.args.Composite(config=ocp.args.JsonRestore()))["config"]

        return processes.on_first(read)

    def wait(self) -> None:
        """Returns when every save is on the disk.

        Raises:
          UserError: one of them failed.
        """
        processes.on_first(self._wait)

    def _wait(self):
        with _said(self.folder, "save"):
            self._manager.wait_until_finished()
            self._remove()

    def _remove(self):
        """Removes what was moved out of the way."""
        shutil.rmtree(self.folder / REMOVED, ignore_errors=True)

    def close(self) -> None:
        """Waits and releases the folder.

        Raises:
          UserError: a save failed.
        """
        if processes.is_first():
            self._wait()
            self._manager.close()


def _name_now(name):
    """The name of an array; until November 2026 the running statistics were saved under "statistics"."""
    return re.sub(r"^statistics\.", "batch_stats.", name)


def _check_space(folder, state):
    """Refuses a save that cannot fit: a disk that runs full in the middle of one shows as dozens of errors."""
    needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**20
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"cannot save {folder}: the disk has {free / 2**20:.1f} MiB left, and a checkpoint may take "
            f"{needed / 2**20:.1f}; make room and start again: the checkpoints before it are whole"
        )


def _set_aside(folder):
    """Renames checkpoints that are not whole, so that the newest whole one is used."""
    for path in sorted(folder.glob("*")):
        if not (path.name.isdigit() and path.is_dir()):
            continue
        missing = [part for part in PARTS if not (path / part).exists()]
        if missing:
            aside = path.with_name(f"damaged-{path.name}")
            with _said(path, "set aside"):
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
            processes.log(
                f"the checkpoint {path} is not whole, it lacks {', '.join(missing)}: set aside as {aside.name}"
            )


def _check_scores(folder):
    """Opening the folder reads the score of every checkpoint; a damaged one is named here."""
    for path in sorted(folder.glob("*/metrics/metrics")):
        with _said(path.parent.parent, "read"):
            json.loads(path.read_text(encoding="utf-8"))


def _check_names(folder, stored, wanted):
    missing = sorted(wanted.keys() - stored.keys())
    unexpected = sorted(stored.keys() - wanted.keys())
    shapes = [
        f"{name}: saved {tuple(stored[name].shape)}, here {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & stored.keys())
        if tuple(stored[name].shape) != tuple(wanted[name].shape)
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
    except (OSError, ValueError, KeyError, RuntimeError, FileNotFoundError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        reason = text if len(text) <= 400 else f"{text[:150]} ... {text[-200:]}"  # the cause often stands at the end
        hint = {
            "open": "check that the folder can be written",
            "set aside": "it is not whole; check that the folder can be written, or delete it yourself",
            "save": "check the free space and the permissions; the checkpoints before it are whole",
            "read": "it may be damaged: delete this folder to go on from the checkpoint before it",
        }[doing]
        raise UserError(f"cannot {doing} {folder}: {reason}\n{hint}") from error
