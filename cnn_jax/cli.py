"""What the flags ask for: checked here, without jax, and carried out by cnn_jax.commands."""

import dataclasses
import sys
from pathlib import Path

from cnn_jax import config, overrides, registry, workdir
from cnn_jax.errors import EXIT_FAILED, UsageError, UserError

MODES = ["train", "eval", "predict", "summary", "report", "prepare"]
STORED = ("eval", "predict", "report")  # modes that take the settings of the run in the workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """The values of the flags, under their names; None where a flag was not given.

    Attributes:
      rest: words that belong to no flag.
      started: `time.perf_counter()` when the process began.
    """

    experiment: str | None
    list: bool
    mode: str
    set: list[str]
    workdir: str | None
    seed: int | None
    parallel: str | None
    resume: bool
    init_from: str | None
    report: bool
    images: list[str]
    rest: list[str]
    started: float


def main(wish: Wish) -> int:
    """Does what is asked; the exit status."""
    try:
        if wish.list:
            width = max(map(len, registry.names()), default=0)
            for name, summary in registry.summaries():
                print(f"{name:<{width}}  {summary}")
            return 0
        settings, folder = check(wish)
        from cnn_jax import commands  # imports jax, which takes a second

        commands.COMMANDS[wish.mode](wish, settings, folder)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # A full disk or a folder that vanished can surface anywhere; the state on disk is whole at all times.
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def check(wish: Wish) -> tuple[config.Config, Path]:
    """The settings and the workdir that the flags add up to.

    Raises:
      UsageError: they do not add up.
    """
    if wish.rest:
        raise UsageError(f"{' '.join(wish.rest)!r} belongs to no flag; flags look like --name=value, see --help")
    if not wish.experiment:
        raise UsageError("which experiment? Use --experiment=NAME; --list shows the names")
    settings = registry.load(wish.experiment)
    folder = workdir.locate(wish.workdir or f"runs/{wish.experiment}")
    if wish.mode in STORED:
        settings = _stored(settings, folder, wish.mode)
    specs = list(wish.set)
    specs += [] if wish.seed is None else [f"seed={wish.seed}"]
    specs += [] if wish.parallel is None else [f"parallel={wish.parallel}"]
    asked = overrides.apply(settings, specs)
    if wish.mode in STORED:
        changed = config.differences(asked, settings)
        if changed:
            raise UsageError(
                f"--mode={wish.mode} works on the run in {folder} as it was trained (there -> asked):\n  "
                + "\n  ".join(changed)
            )
    if wish.mode == "train":
        workdir.check_same_run(folder, asked, wish.resume)
    _check_flags(wish)
    return asked, folder


def _stored(settings, folder, mode):
    stored = workdir.stored_config(folder)
    if stored is None:
        raise UsageError(
            f"--mode={mode} needs a trained run, and there is none in {folder}: train first, or name its --workdir"
        )
    if stored.experiment != settings.experiment:
        raise UsageError(f"{folder} holds a run of {stored.experiment}, not of {settings.experiment}")
    return stored


def _check_flags(wish):
    if wish.mode == "predict":
        if not wish.images:
            raise UsageError("--mode=predict needs --images=a.png,b.png")
        missing = [name for name in wish.images if not Path(name).expanduser().is_file()]
        if missing:
            raise UsageError(f"--images: no such file: {', '.join(missing)}")
    elif wish.images:
        raise UsageError(f"--images goes with --mode=predict, not --mode={wish.mode}")
    if wish.init_from:
        if wish.mode != "train":
            raise UsageError(f"--init_from goes with --mode=train, not --mode={wish.mode}")
        saved = workdir.locate(wish.init_from) / "checkpoints"
        if not saved.is_dir():
            raise UsageError(f"--init_from={wish.init_from}: there is no folder {saved}; name the workdir of a run")
