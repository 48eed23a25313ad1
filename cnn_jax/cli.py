"""What the flags ask for: checked here, without jax, and carried out by cnn_jax.commands."""

import dataclasses
import sys
from pathlib import Path

from cnn_jax import config, meetings, overrides, registry, workdir
from cnn_jax.errors import EXIT_FAILED, UsageError, UserError
from cnn_jax.studies import study as studies

MODES = ["train", "eval", "predict", "summary", "report", "export", "prepare"]
STORED = ("eval", "predict", "report", "export")  # modes that take the settings of the run in the workdir
OF_STUDIES = ("train", "summary", "report", "prepare")  # modes that a study has


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
    distributed: str
    coordinator: str | None
    process_count: int | None
    process_index: int | None
    coordinator_timeout: int
    resume: bool
    init_from: str | None
    report: bool
    profile: bool
    out: str | None
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
        if isinstance(settings, studies.Study):
            from cnn_jax.studies import commands  # imports jax, which takes a second

            return commands.COMMANDS[wish.mode](wish, settings, folder)
        meeting = meetings.find(wish, settings)
        from cnn_jax import commands, distributed

        with distributed.joined(meeting):
            commands.COMMANDS[wish.mode](wish, settings, folder)
        return 0
    except UserError as error:
        return _failed(str(error), error.exit_code)
    except OSError as error:
        # A full disk or a folder that vanished can surface anywhere; the state on disk is whole at all times.
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"{where}{error.strerror or error}", EXIT_FAILED)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)


def _failed(message, status):
    print(f"error: {message}", file=sys.stderr)
    if "jax" not in sys.modules:
        return status
    from cnn_jax import distributed

    return distributed.leave(status)


def check(wish: Wish) -> tuple[config.Config | studies.Study, Path]:
    """The settings, of a run or of a study, and the workdir that the flags add up to.

    Raises:
      UsageError: they do not add up.
    """
    if wish.rest:
        raise UsageError(f"{' '.join(wish.rest)!r} belongs to no flag; flags look like --name=value, see --help")
    if not wish.experiment:
        raise UsageError("which experiment? Use --experiment=NAME; --list shows the names")
    settings = registry.load(wish.experiment)
    folder = workdir.locate(wish.workdir or f"runs/{wish.experiment}")
    stored = wish.mode in STORED and not wish.init_from
    if isinstance(settings, studies.Study) and not (stored and (folder / "config.json").exists()):
        return _check_study(wish, settings, folder)
    if stored:
        settings = _stored(settings, folder, wish.mode)
    asked = overrides.apply(settings, _specs(wish))
    if stored:
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


def _specs(wish):
    specs = list(wish.set)
    specs += [] if wish.seed is None else [f"seed={wish.seed}"]
    return specs + ([] if wish.parallel is None else [f"parallel={wish.parallel}"])


def _check_study(wish, study, folder):
    if wish.mode not in OF_STUDIES:
        run = f"{folder}/arms/NAME/seed-0"
        raise UsageError(
            f"{study.experiment} is a study: --mode={wish.mode} works on one of its runs, such as --workdir={run}"
        )
    meant = {"--init_from": wish.init_from, "--profile": wish.profile, "--process_count": wish.process_count}
    for flag, value in meant.items():
        if value:
            raise UsageError(f"{flag} does not go with a study, and {study.experiment} is one")
    asked = studies.apply(study, _specs(wish))
    if wish.mode == "train":
        workdir.check_same_study(folder, asked, wish.resume)
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
    if wish.images and wish.mode != "predict":
        raise UsageError(f"--images goes with --mode=predict, not --mode={wish.mode}")
    if wish.mode == "export" and not (wish.out or "").endswith(".safetensors"):
        raise UsageError("--mode=export needs --out=FILE.safetensors")
    if wish.out and wish.mode != "export":
        raise UsageError(f"--out goes with --mode=export, not --mode={wish.mode}")
    if wish.profile and wish.mode != "train":
        raise UsageError(f"--profile goes with --mode=train, not --mode={wish.mode}")
    if wish.init_from:
        if wish.mode not in ("train", "eval"):
            raise UsageError(f"--init_from goes with --mode=train and --mode=eval, not --mode={wish.mode}")
        source = workdir.locate(wish.init_from)
        saved = source / "checkpoints"
        if not source.is_file() and not saved.is_dir():
            raise UsageError(
                f"--init_from={wish.init_from}: there is no folder {saved}; "
                "name the workdir of a run, or a state dict of PyTorch"
            )
