"""Experiment trackers, which are given every number of the metric files as well: TensorBoard, Weights & Biases.

Another one is a class with the methods of `Tracker`, and a line in `chosen`.
"""

import functools
import importlib.util
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from cnn_jax import buckets, config
from cnn_jax.errors import UserError
from cnn_jax.files import named, write_text


class Tracker(Protocol):
    """What shows the numbers of a run."""

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a number."""

    def flush(self) -> None:
        """Puts the numbers where they are to stay."""

    def close(self) -> None:
        """Flushes and closes."""


Opener = Callable[[Path, int], Callable[[], Tracker]]  # of a workdir and the step that it continues from


def chosen(settings: config.Config) -> list[Opener]:
    """Returns the trackers that the settings ask for; each is opened at the first number.

    Raises:
      UserError: a package is missing.
    """
    found: list[Opener] = []
    if settings.log.tensorboard:
        found.append(lambda workdir, step: functools.partial(_board, workdir / "tensorboard", step))
    if settings.log.wandb:
        if importlib.util.find_spec("wandb") is None:
            raise UserError(f"log.wandb = {settings.log.wandb!r} needs wandb: pip install '.[wandb]'")
        found.append(_weights_and_biases(settings))
    return found


def _board(folder, step):
    from cnn_jax.training.tensorboard import Board  # here: it takes a fifth of a second, and is not always wanted

    with named(folder):
        return Board(folder, step)


def _weights_and_biases(settings):
    def opener(workdir, step):
        del step
        run = WeightsAndBiases(settings, workdir)  # now: it may have something to say before training begins
        return lambda: run

    return opener


class WeightsAndBiases:
    """A run of Weights & Biases; where it goes and whether it waits on the disk are wandb's own WANDB_MODE and others.

    A run that is continued is the same run there. Rows that were written before it was killed and are written anew are
    there twice, with the same numbers.

    Args:
      settings: of the run; `log.wandb` is the project.
      workdir: its folder; wandb writes to the folder wandb in it.

    Raises:
      UserError: wandb refuses, as without a login.
    """

    def __init__(self, settings: config.Config, workdir: Path):
        import wandb

        parts = workdir.parts
        of_study = len(parts) > 3 and parts[-3] == "arms"
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False)
        try:
            self._run = wandb.init(
                project=settings.log.wandb,
                id=_identifier(workdir),
                name="/".join(parts[-2:]) if of_study else parts[-1],
                group=parts[-4] if of_study else None,
                config=config.to_dict(settings),
                dir=tempfile.mkdtemp() if buckets.is_far(workdir) else os.fspath(workdir),
                resume="allow",
                reinit="create_new",  # the seeds of an arm are runs at the same time
                settings=quiet,
            )
        except (wandb.errors.Error, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"log.wandb = {settings.log.wandb!r}: {reason}; log in with `wandb login`, or keep the run on this "
                "disk with WANDB_MODE=offline"
            ) from None
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self._row: dict[str, Any] = {}

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a number; those of a step go together."""
        if self._row.get("step") != step:
            self.flush()
        self._row |= {"step": step, name: value}

    def flush(self) -> None:
        """Hands over what was added."""
        if self._row:
            self._run.log(self._row)
            self._row = {}

    def close(self) -> None:
        """Hands over the rest, and waits until wandb has it."""
        self.flush()
        self._run.finish()


def _identifier(workdir):
    """The name by which wandb knows the run, kept in its folder."""
    path = workdir / "wandb_id.txt"
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:12])
    return path.read_text(encoding="utf-8").strip()
