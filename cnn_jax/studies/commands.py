"""The modes of launch.py for a study. Results go to standard output, everything else to standard error."""

import math

from cnn_jax import cli, run, workdir
from cnn_jax.data import source
from cnn_jax.errors import EXIT_FAILED, UsageError
from cnn_jax.parallel import a_device_for_each_core
from cnn_jax.run import say
from cnn_jax.studies import results, runner
from cnn_jax.studies.study import Study


def train(wish: cli.Wish, study: Study, folder) -> int:
    """Trains and measures the arms that are not finished, and writes what they add up to."""
    if study.base.parallel == "auto":
        seeds = math.gcd(*map(len, study.groups))
        a_device_for_each_core(lambda devices: seeds % devices == 0)
    with workdir.claimed(folder):
        say(f"compilation cache: {run.enable_compilation_cache()}")
        failures = runner.run(study, folder, say)
        _write(wish.report, study, folder)
        for failure in failures:
            say(f"error: {failure}")
        return EXIT_FAILED if failures else 0


def summary(wish: cli.Wish, study: Study, folder) -> int:
    """What the study would do: its arms, their size, and what differs. Trains nothing."""
    del wish, folder
    print(runner.plan(study))
    return 0


def report(wish: cli.Wish, study: Study, folder) -> int:
    """Writes tables and report anew from the arms that are finished."""
    stored = workdir.stored_study(folder)
    if stored is None:
        raise UsageError(
            f"--mode=report needs a study, and there is none in {folder}: train first, or name its --workdir"
        )
    _write(True, study if wish.set else stored, folder)
    return 0


def prepare(wish: cli.Wish, study: Study, folder) -> int:
    """Gets the study's dataset ready."""
    del folder
    print(source.prepare(study.base.data, experiment=wish.experiment))
    return 0


def _write(with_report, study, folder):
    found = results.load(study, folder)
    results.write(found, folder)
    print(results.text(found))
    print(f"tables {folder / 'results.csv'}, {folder / 'summary.csv'}, {folder / 'table.tex'}")
    if with_report and found.arms:
        from cnn_jax.studies.report import write_report  # draws with matplotlib, which takes half a second

        path = folder / "report.html"
        write_report(path, found, folder)
        print(f"report {path}")


COMMANDS = {"train": train, "summary": summary, "report": report, "prepare": prepare}
