"""The modes of launch.py. Results go to standard output, everything else to standard error."""

import contextlib

import jax
import numpy as np

from cnn_jax import config, run, workdir
from cnn_jax.config.study import Study
from cnn_jax.data.datasets import catalog, source
from cnn_jax.data.images.pictures import read_picture
from cnn_jax.devices import choice, processes
from cnn_jax.errors import EXIT_FAILED, UsageError
from cnn_jax.flags import Flags
from cnn_jax.models import outline, torchvision
from cnn_jax.models.summary import summarise, table
from cnn_jax.reports.run.collect import collect
from cnn_jax.training import metrics
from cnn_jax.training.learner import Learner, load

MOST_CLASSES = 10  # of a prediction, printed


def train(flags: Flags, settings, folder) -> None:
    """Trains or continues, measures the test split, writes results.json and report.html."""
    if not jax.distributed.is_initialized():
        choice.prepare(settings)
    with processes.claimed(folder):
        processes.log(f"compilation cache: {choice.enable_compilation_cache()}")
        result = run.train(settings, folder, flags.started, flags.init_from or "", flags.profile)
        if not processes.is_first():
            return
        run.store_results(folder, result.evaluation, result.dataset, result.step, result.rule)
        count, accuracy = len(result.evaluation.labels), result.evaluation.accuracy
        wrong = round((1 - accuracy) * count)
        print(f"test accuracy {100 * accuracy:.2f} % ({wrong} of {count:,} wrong; {result.rule}, step {result.step:,})")
        rest = metrics.described(metrics.values(result.evaluation), skip=("accuracy",))
        print(f"test {rest}")
        if flags.report:
            print(f"report {_write_report(settings, folder, result)}")


def evaluate(flags: Flags, settings, folder) -> None:
    """Measures the chosen checkpoint, or the parameters of --init_from, on the splits that do not train."""
    choice.enable_compilation_cache()
    learner = Learner(settings)
    if flags.init_from:
        variables, chosen = run.taken_from(flags.init_from, learner, learner.variables_like()), flags.init_from
    else:
        variables, chosen = _chosen(learner, folder)
    for split in ["validation"] * (settings.data.validation > 0) + ["test"]:
        (found,) = learner.evaluate(variables, load(settings, split))
        if processes.is_first():
            rest = metrics.described(metrics.values(found), skip=("accuracy",))
            count = len(found.labels)
            print(f"{split}: accuracy {100 * found.accuracy:.2f} %  {rest}  n = {count:,}  ({chosen})")


def _chosen(learner, folder):
    """The variables that stand for the run in a folder, and why they do, in words."""
    with contextlib.closing(learner.checkpoints(folder)) as checkpoints:
        step, rule = learner.chosen(checkpoints)
        return checkpoints.restore_variables(step, learner.variables_like()), f"{rule}, step {step:,}"


def predict(flags: Flags, settings, folder) -> None:
    """Class probabilities of image files."""
    choice.enable_compilation_cache()
    learner = Learner(settings)
    facts = source.facts(settings.data)
    pictures = [read_picture(name, facts.shape) for name in flags.images]
    variables, chosen = _chosen(learner, folder)
    (probabilities,) = learner.predict(variables, np.stack([picture.pixels for picture in pictures]))
    processes.log(f"checkpoint: {chosen}")
    for name, picture, row in zip(flags.images, pictures, probabilities):
        print(f"{name}: {facts.class_names[row.argmax()]} ({picture.changes})")
        for label in np.argsort(-row, kind="stable")[:MOST_CLASSES]:
            print(f"  {facts.class_names[label]:<12} {100 * row[label]:6.2f} %")


def summary(flags: Flags, settings, folder) -> None:
    """The table of layers."""
    del flags, folder
    facts = source.facts(settings.data)
    shape = config.image_shape(settings.data, facts.shape)
    print(f"{settings.experiment}: input {'x'.join(map(str, shape))}, {facts.classes} classes\n")
    print(table(summarise(outline(settings.model, shape, facts.classes))))


def report(flags: Flags, settings, folder) -> None:
    """Rebuilds report.html from the workdir."""
    del flags
    choice.enable_compilation_cache()
    learner = Learner(settings)
    checkpoints = learner.checkpoints(folder)
    result = run.measure(learner, checkpoints, load(settings, "test"))
    checkpoints.close()
    print(f"report {_write_report(settings, folder, result)}")


def export(flags: Flags, settings, folder) -> None:
    """Writes the chosen parameters as PyTorch reads them."""
    variables, chosen = _chosen(Learner(settings), folder)
    torchvision.save_torch(variables.params, flags.out)
    print(f"{flags.out}: the parameters of {folder} ({chosen})")


def prepare(flags: Flags, settings, folder) -> None:
    """Gets the experiment's dataset ready."""
    del folder
    processes.log(f"preparing {settings.data.name} in {catalog.data_root(settings.data)}")
    print(source.prepare(settings.data, experiment=flags.experiment))


def _write_report(settings, folder, result):
    from cnn_jax.reports.run.report import write_report  # draws with matplotlib, which takes half a second

    path = folder / "report.html"
    write_report(path, collect(settings, folder, result))
    return path


def train_study(flags: Flags, study: Study, folder) -> int:
    """Trains and measures the arms that are not finished, and writes what they add up to."""
    from cnn_jax.studies import runner  # SciPy and more, which runs do without

    choice.prepare(study.base, study.groups)
    with processes.claimed(folder):
        processes.log(f"compilation cache: {choice.enable_compilation_cache()}")
        failures = runner.run(study, folder, processes.log, flags.profile)
        _write_study(flags.report, study, folder)
        for failure in failures:
            processes.log(f"error: {failure}")
        return EXIT_FAILED if failures else 0


def plan_study(flags: Flags, study: Study, folder) -> int:
    """Prints what the study would do: its arms, their size, and what differs. Trains nothing."""
    del flags, folder
    from cnn_jax.studies import runner

    print(runner.plan(study))
    return 0


def report_study(flags: Flags, study: Study, folder) -> int:
    """Writes tables and report anew from the arms that are finished."""
    stored = workdir.stored_study(folder)
    if stored is None:
        raise UsageError(
            f"--mode=report needs a study, and there is none in {folder}: train first, or name its --workdir"
        )
    _write_study(True, study if flags.set else stored, folder)
    return 0


def prepare_study(flags: Flags, study: Study, folder) -> int:
    """Gets the study's dataset ready."""
    del folder
    print(source.prepare(study.base.data, experiment=flags.experiment))
    return 0


def _write_study(with_report, study, folder):
    from cnn_jax.studies import results

    found = results.load(study, folder)
    results.write(found, folder)
    print(results.text(found))
    print(f"tables {folder / 'results.csv'}, {folder / 'summary.csv'}, {folder / 'table.tex'}")
    if with_report and found.arms:
        from cnn_jax.reports.study.report import write_report  # draws with matplotlib, which takes half a second

        path = folder / "report.html"
        write_report(path, found, folder)
        print(f"report {path}")


OF_RUNS = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "summary": summary,
    "report": report,
    "export": export,
    "prepare": prepare,
}
OF_STUDIES = {"train": train_study, "summary": plan_study, "report": report_study, "prepare": prepare_study}
