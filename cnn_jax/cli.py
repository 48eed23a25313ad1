"""The command line: checks, without jax, what the flags ask for; cnn_jax.modes carries it out."""

import difflib
import errno
import importlib.util
import shutil
import sys
from pathlib import Path

from cnn_jax import buckets, checks, config, files, signals, trained, watchdog, workdir
from cnn_jax.config import experiments, overrides, reference
from cnn_jax.config import study as studies
from cnn_jax.data.images import asked
from cnn_jax.devices import accelerators, launchers
from cnn_jax.errors import EXIT_FAILED, Interrupted, UsageError, UserError
from cnn_jax.flags import MODES, Flags, program
from cnn_jax.studies import measurements

STORED = ("eval", "predict", "report", "export")  # modes that take the settings of the run in the workdir
FROM_WEIGHTS = ("train", "eval", "predict", "report", "export", "explore")  # modes that --init_from goes with
OF_STUDIES = ("train", "summary", "report", "prepare", "devices")  # modes that a study has
COMPUTING = ("train", "eval", "predict", "report", "compare", "explore", "devices")  # modes that use the devices

LESS = "; lower train.batch_size or raise optimizer.accumulate, see --mode=summary"
WHOLE = "; make room and start again: what was saved before is whole"
ELSEWHERE = "; check the permissions, or choose another folder"
WAYS_OUT = {errno.ENOSPC: WHOLE, errno.EDQUOT: WHOLE, errno.EACCES: ELSEWHERE, errno.EPERM: ELSEWHERE}
WAYS_OUT |= {errno.EROFS: ELSEWHERE}


def main(flags: Flags) -> int:
    """Does what is asked, or tells in one line why it cannot; returns the exit status."""
    try:
        return _do(flags)
    except Interrupted as stopped:
        return _ended(str(stopped), stopped.exit_code)
    except UserError as error:
        return _ended(f"error: {error}", error.exit_code)
    except OSError as error:
        # A full disk or a folder that vanished can surface anywhere; the state on disk is whole at all times.
        if (said := buckets.said(error)) is not None:
            return _ended(f"error: {said}", EXIT_FAILED)
        where = f"{error.filename}: " if error.filename else ""
        way_out = WAYS_OUT.get(error.errno or 0, "")
        return _ended(f"error: {where}{error.strerror or error}{way_out}", EXIT_FAILED)
    except MemoryError as error:
        return _ended(f"error: not enough memory{f' ({error})' if str(error) else ''}{LESS}", EXIT_FAILED)
    except RuntimeError as error:  # JAX's own error is one, and jax is not imported here
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = " ".join(str(error).split())[:200]
        return _ended(f"error: not enough memory on the device ({reason}){LESS}", EXIT_FAILED)
    except signals.Stopped as stopped:
        return _ended(str(stopped), stopped.status)
    except Exception as error:
        said = buckets.said(error)
        if said is None:
            raise
        return _ended(f"error: {said}", EXIT_FAILED)


def _do(flags):
    """Does what needs no settings; `_do_with_settings` does the rest."""
    if flags.list:
        _print_list()
        return 0
    if flags.mode == "settings":
        print(listed_settings(flags))
        return 0
    if flags.mode in COMPUTING:
        accelerators.tell_once()
    if flags.mode == "compare":
        _check_comparison(flags)
    elif flags.mode == "explore":
        _check_served()
        if not flags.runs:
            return _do_with_settings(flags)
        _check_exploration(flags)
    elif flags.mode != "devices" or flags.experiment:
        return _do_with_settings(flags)
    from cnn_jax import modes  # imports jax, which takes a second

    modes.WITHOUT_SETTINGS[flags.mode](flags)
    return 0


def _do_with_settings(flags):
    rendezvous = launchers.from_flags(flags)
    if flags.measure and rendezvous:
        raise UsageError("--measure is done by one process, and there are several: start one, with --distributed=off")
    if flags.mode == "eval" and rendezvous:
        from cnn_jax import modes
        from cnn_jax.devices import processes

        with watchdog.watching(flags.watchdog), processes.joined(rendezvous):
            modes.evaluate_together(flags, check)
        return 0
    settings, folder, notes = check(flags)
    if isinstance(settings, studies.Study):
        rendezvous = None
    elif rendezvous:
        launchers.check_parallel(settings)
    from cnn_jax import modes
    from cnn_jax.devices import processes

    # What else may take long, such as preparing a set of TFDS, does not say that it goes on.
    watched = flags.watchdog if flags.mode == "train" else 0
    with watchdog.watching(watched), processes.joined(rendezvous):
        for line in notes:
            processes.log(line)
        if isinstance(settings, config.Config):
            modes.OF_RUNS[flags.mode](flags, settings, folder)
            return 0
        return modes.OF_STUDIES[flags.mode](flags, settings, folder)


def _print_list():
    width = max(map(len, experiments.names()), default=0)
    for name, summary in experiments.summaries():
        print(f"{name:<{width}}  {summary}")
    if trained.names():
        print(f"\nalready trained, for --init_from: {', '.join(trained.names())}")


HELP = """\
Train and study LeNet-5 and AlexNet.

  {program} --list                                       the experiments
  {program} --experiment=lenet_digits                    train one; seconds, no download
  {program} --experiment=lenet_digits --mode=predict --images=a.png
  {program} --init_from=lenet5_modern_mnist --mode=predict --images=a.png   one that is already trained
  {program} --init_from=lenet5_mnist --mode=explore      draw a digit, and watch every layer
  {program} --experiment=lenet_mnist --set optimizer.learning_rate=0.002 --seed=3 --workdir=runs/mine
  {program} --experiment=pooling_digits                  a study: arms x seeds, statistics, a report

--mode is one of
{modes}

Exit status: 0 done; 1 failed; 2 wrong flags or settings; 75 stopped by a signal while training or
preparing: the same command goes on; 76 ended for want of progress: likewise; 128 + the signal's number:
stopped while doing something else.
"""


def help_text(flags_help: str) -> str:
    """Returns what --help prints.

    Args:
      flags_help: the flags, as absl describes them.
    """
    modes = "\n".join(f"  {name:<8} {line}" for name, line in MODES.items())
    listed = flags_help.strip().partition("\n")[2]  # without the name of the module
    return f"{HELP.format(program=' '.join(program()), modes=modes)}\nFlags:\n{listed}"


def _ended(message, status):
    print(files.printable(message, lines=True), file=sys.stderr)
    if "jax" not in sys.modules:
        return status
    from cnn_jax.devices import processes

    return processes.leave(status)


def check(flags: Flags) -> tuple[config.Config | studies.Study, Path, list[str]]:
    """Returns the settings, of a run or of a study, the workdir that the flags add up to, and notes on them.

    Raises:
      UsageError: they do not add up.
    """
    if flags.rest:
        raise UsageError(f"{' '.join(flags.rest)!r} belongs to no flag; flags look like --name=value, see --help")
    settings = _base(flags)
    name = experiments.title(settings.experiment)
    name += "_sweep" * bool(flags.sweep and isinstance(settings, config.Config))
    settings, specs = checks.with_sweep(settings, _specs(flags), flags.sweep)
    folder = _place(flags, "workdir") or files.place(f"runs/{name}", "--workdir")
    if flags.like and (not flags.workdir or folder == _place(flags, "like")):
        raise UsageError(f"--like={flags.like} starts that run once more: name another folder with --workdir")
    stored = flags.mode in STORED and not flags.init_from
    if flags.mode == "explore" and not flags.init_from:  # a network that was not trained can be looked at as well
        stored = workdir.stored_config(folder) is not None
    if isinstance(settings, studies.Study):
        # The folder of one of its seeds is the workdir of a run, which any mode works on.
        seed = (folder / "config.json").exists() and not flags.init_from and flags.mode in (*STORED, "train", "explore")
        if not seed:
            return _check_study(flags, settings, specs, folder)
        stored = True
    if stored:
        settings = _stored(settings, folder, flags.mode)
    asked = checks.changed(settings, specs)
    if stored:
        changed = config.differences(asked, settings)
        if changed:
            raise UsageError(
                f"--mode={flags.mode} works on the run in {folder} as it was trained (there -> asked):\n  "
                + "\n  ".join(changed)
            )
    if flags.mode == "train":
        workdir.check_same_run(folder, asked, flags.resume)
    _check_flags(flags)
    refused = measurements.refused(flags.measure, asked)
    if refused:
        raise UsageError("\n".join(f"--measure: {line}" for line in refused))
    if flags.mode == "train":
        checks.check_data(asked)
    return asked, folder, overrides.left_out(settings, asked)


def _check_runs_alone(flags, others, what):
    """Refuses the flags that say which run is meant, and `others`, where --runs says it."""
    if flags.rest:
        raise UsageError(f"{' '.join(flags.rest)!r} belongs to no flag; runs are separated by commas")
    for name in ("experiment", "set", "sweep", "workdir", "init_from", "like", "measure", *others):
        if getattr(flags, name):
            raise UsageError(f"--{name} does not go with {what}")


def _check_comparison(flags):
    _check_runs_alone(flags, (), "--mode=compare, which takes runs as they are: --runs=A,B")
    if len(set(flags.runs)) < 2:
        raise UsageError("--mode=compare needs --runs=runs/a,runs/b: the workdirs of two runs or more")
    if flags.out and not flags.out.endswith(".html"):
        raise UsageError(f"--mode=compare: --out={flags.out} must end in .html")
    for text in flags.runs:
        folder = files.place(text, f"--runs={text}")
        if workdir.stored_config(folder) is None:
            raise UsageError(f"--runs={text}: there is no run in {folder}")
    asked.expand(flags.images, numbers=True)


def _check_served():
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--mode=explore needs {' and '.join(missing)}: pip install '.[explore]'")


def _check_exploration(flags):
    _check_runs_alone(flags, ("images", "out"), "--runs, which names all that is shown")
    if len(flags.runs) > 2 or len(set(flags.runs)) < len(flags.runs):
        raise UsageError(f"--mode=explore shows one network or two different ones, and --runs names {len(flags.runs)}")
    from cnn_jax import origins  # reads weight files

    for text in flags.runs:
        if files.place(text, f"--runs={text}").is_dir() and not workdir.stored_config(files.place(text, text)):
            raise UsageError(f"--runs={text}: there is no run in {text}")
        try:
            known = origins.settings(text)
        except UsageError as error:
            raise UsageError(str(error).replace("--init_from=", "--runs=")) from None
        if known is None:
            raise UsageError(f"--runs={text} does not say which network it is of")


def _base(flags):
    """Returns the settings that --set changes: of the experiment or, where none is named, of the run in a workdir."""
    if flags.experiment and flags.like:
        raise UsageError("--experiment and --like exclude each other: --like takes the settings of its workdir")
    if flags.experiment:
        return experiments.load(flags.experiment)
    for name in ("like", "workdir"):
        value = getattr(flags, name)
        folder = _place(flags, name)
        found = folder and (workdir.stored_config(folder) or workdir.stored_study(folder))
        if found:
            return found
        if name == "like" and value:
            raise UsageError(f"--like={value}: there is neither a run nor a study in {folder}")
    if flags.init_from:
        from cnn_jax import origins  # reads weight files

        found = origins.settings(flags.init_from)
        if found:
            return found
    if flags.workdir:
        raise UsageError(
            f"--workdir={flags.workdir} holds no run that names its experiment: add --experiment=NAME, see --list"
        )
    raise UsageError("which experiment? Use --experiment=NAME; --list shows the names")


def _place(flags, name):
    """The folder that a flag names; None where it is not given."""
    text = getattr(flags, name)
    return files.place(text, f"--{name}={text}") if text else None


def listed_settings(flags: Flags) -> str:
    """Returns what --mode=settings prints.

    Raises:
      UsageError: there is no such experiment, or no setting begins with one of the words.
    """
    config, changed = None, {}
    if flags.experiment or flags.workdir:
        found = checks.changed(_base(flags), _specs(flags))
        config = found.base if isinstance(found, studies.Study) else found
        changed = reference.changes(config)
        changed |= reference.changes_of_study(found.protocol) if isinstance(found, studies.Study) else {}
    entries = reference.entries(config)
    for word in flags.rest:
        if not reference.matching(entries, [word]):
            tops = dict.fromkeys(entry.path.rpartition(".")[0] or entry.path for entry in entries)
            close = difflib.get_close_matches(word, [*tops, *(entry.path for entry in entries)], n=1)
            hint = f"; did you mean {close[0]}?" if close else ";"
            raise UsageError(f"no setting begins with {word!r}{hint} there are {', '.join(tops)}")
    width = min(shutil.get_terminal_size().columns, 120)
    return reference.text(reference.matching(entries, flags.rest), changed, width)


def _specs(flags):
    specs = list(flags.set)
    specs += [] if flags.seed is None else [f"seed={flags.seed}"]
    return specs + ([] if flags.parallel is None else [f"parallel={flags.parallel}"])


def _check_study(flags, study, specs, folder):
    if flags.mode not in OF_STUDIES:
        run = f"{folder}/arms/NAME/seed-0"
        raise UsageError(
            f"{study.experiment} is a study: --mode={flags.mode} works on one of its runs, such as --workdir={run}"
        )
    meant = {"--init_from": flags.init_from, "--process_count": flags.process_count}
    for flag, value in meant.items():
        if value:
            raise UsageError(f"{flag} does not go with a study, and {study.experiment} is one")
    asked = checks.changed(study, specs)
    if flags.mode == "train":
        workdir.check_same_study(folder, asked, flags.resume)
    _check_flags(flags)
    if flags.mode == "train":
        checks.check_data(asked)
    return asked, folder, overrides.left_out(study.base, asked.base)


def _stored(settings, folder, mode):
    stored = workdir.stored_config(folder)
    if stored is None:
        raise UsageError(
            f"--mode={mode} needs a trained run, and there is none in {folder}: train first, or name its --workdir"
        )
    if stored.experiment != settings.experiment:
        raise UsageError(f"{folder} holds a run of {stored.experiment}, not of {settings.experiment}")
    return stored


def _check_flags(flags):
    if flags.mode == "predict":
        if not asked.expand(flags.images):
            raise UsageError("--mode=predict needs --images=a.png,b.png; a folder or a pattern will do as well")
    if flags.runs:
        raise UsageError(f"--runs goes with --mode=compare and explore, not --mode={flags.mode}")
    if flags.port and flags.mode != "explore":
        raise UsageError(f"--port={flags.port} goes with --mode=explore, not --mode={flags.mode}")
    if flags.images and flags.mode not in ("predict", "report"):
        raise UsageError(f"--images goes with --mode=predict and --mode=report, not --mode={flags.mode}")
    if flags.mode == "export":
        from cnn_jax import weights  # reads weight files

        if not flags.out:
            raise UsageError("--mode=export needs --out=FILE.safetensors, FILE.stablehlo or FILE.onnx")
        weights.format_of(flags.out, flags.format or "")
    elif flags.format:
        raise UsageError(f"--format goes with --mode=export, not --mode={flags.mode}")
    if flags.mode == "report":
        asked.expand(flags.images, numbers=not flags.init_from)
    alone = flags.mode == "report" and bool(flags.init_from)  # a page on a network that has no workdir
    if alone and not ((flags.out or "").endswith(".html") and flags.images):
        raise UsageError("--mode=report --init_from=... needs --images=a.png,b.png and --out=FILE.html")
    if flags.out and flags.mode not in ("export", "predict") and not alone:
        raise UsageError(
            f"--out goes with --mode=export, predict and, with --init_from, report, not --mode={flags.mode}"
        )
    if flags.out and flags.mode == "predict" and Path(flags.out).suffix not in (".html", ".csv", ".json"):
        raise UsageError(f"--mode=predict: --out={flags.out} must end in .html, .csv or .json")
    if flags.measure and flags.mode != "eval":
        raise UsageError(f"--measure goes with --mode=eval, not --mode={flags.mode}")
    if flags.profile and flags.mode != "train":
        raise UsageError(f"--profile goes with --mode=train, not --mode={flags.mode}")
    if flags.profile_process and not flags.profile:
        raise UsageError(f"--profile_process={flags.profile_process} goes with --profile")
    if flags.fresh and not (flags.init_from and flags.mode == "train"):
        raise UsageError(f"--fresh={','.join(flags.fresh)} goes with --init_from and --mode=train")
    if flags.init_from:
        if flags.mode not in FROM_WEIGHTS:
            raise UsageError(f"--init_from goes with --mode={', '.join(FROM_WEIGHTS)}, not --mode={flags.mode}")
        from cnn_jax import origins  # reads weight files

        origins.find(flags.init_from)
