"""The modes of launch.py. Results go to standard output, everything else to standard error."""

import json
import platform
import threading
import webbrowser

import jax
import numpy as np

from cnn_jax import api, checks, config, files, run, run_data
from cnn_jax.config.study import Study
from cnn_jax.data.datasets import catalog, source
from cnn_jax.data.identity import Identity
from cnn_jax.data.images import asked
from cnn_jax.devices import choice, launchers, processes
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import EXIT_FAILED, UsageError, UserError
from cnn_jax.files import cores, printable
from cnn_jax.flags import Flags
from cnn_jax.models import resolve_layout
from cnn_jax.models import summary as tables
from cnn_jax.training import metrics
from cnn_jax.training.learner import load
from cnn_jax.training.memory import step_memory

MOST_CLASSES = 10  # of a prediction, printed


def train(flags: Flags, settings, folder) -> None:
    """Trains or continues, measures the test split, writes results.json and report.html."""
    this = api.Run(settings, folder, started=flags.started)
    with this.claimed():
        start = {"init_from": flags.init_from or "", "fresh": flags.fresh}
        this.train(**start, signals=True, profile=flags.profile, profile_process=flags.profile_process)
        result = this.measure()
        if not processes.is_first():
            return
        run.store_results(folder, result.evaluation, result.dataset, result.step, result.rule)
        count, accuracy = len(result.evaluation.labels), result.evaluation.accuracy
        wrong = round((1 - accuracy) * count)
        print(f"test accuracy {100 * accuracy:.2f} % ({wrong} of {count:,} wrong; {result.rule}, step {result.step:,})")
        print(f"test {metrics.described(metrics.values(result.evaluation), skip=('accuracy',))}")
        if flags.report:
            print(f"report {this.report(result)}")
        _refuse("test", result.evaluation)


def evaluate_together(flags: Flags, check) -> None:
    """Does `evaluate` in several processes, of which the first alone needs to have the workdir.

    Args:
      flags: of the command line.
      check: `cli.check`.
    """
    said = json.loads(processes.text_from_first(lambda: json.dumps(_to_evaluate(*check(flags)))))
    settings = config.from_dict(said["config"])
    launchers.check_parallel(settings)
    known = said["known"] and Identity.from_dict(said["known"])
    evaluate(flags, settings, files.place(said["folder"], "--workdir"), known)


def _to_evaluate(settings, folder, notes):
    for line in notes:
        processes.log(line)
    known = run_data.stored(folder)
    return {"config": config.to_dict(settings), "folder": str(folder), "known": known and known.to_dict()}


def evaluate(flags: Flags, settings, folder, known: Identity | None = None) -> None:
    """Measures the chosen checkpoint, or the parameters of --init_from, on the splits that do not train.

    Args:
      flags: of the command line.
      settings: of the run.
      folder: the workdir.
      known: the data of the run, where process 0 has told it; None: what the workdir says.
    """
    this = api.Run(settings, folder, known=known)
    variables, chosen = this.chosen(flags.init_from or "")
    unseen, changed = this.unseen()
    if unseen is None:
        # Just found to be those of the run: `Run.dataset` would read all files again, once for each split.
        known = this.identity
        splits = {split: load(settings, split, known) for split in dict.fromkeys((this.learner.watched, "test"))}
    else:
        processes.log("\n  ".join(["the data that are there are not those that the run was trained on:", *changed]))
        splits = {"images it was not trained on": unseen}
    for split, data in splits.items():
        (found,) = this.learner.evaluate(variables, data)
        if processes.is_first():
            rest = metrics.described(metrics.values(found), skip=("accuracy",))
            print(f"{split}: accuracy {100 * found.accuracy:.2f} %  {rest}  n = {len(data.labels):,}  ({chosen})")
            _refuse(split, found)
    if flags.measure:
        from cnn_jax.studies import measuring  # SciPy and more, which runs do without

        more = measuring.measure(flags.measure, measuring.of_run(this.learner, variables, data), processes.log)
        print("\n".join(measuring.described(more)))


def _refuse(split, evaluation):
    """Ends the program with status 1 where what was measured says nothing."""
    if evaluation.problem:
        raise UserError(
            f"{split}: {evaluation.problem}; train anew with a lower optimizer.learning_rate, or with "
            "train.precision=float32"
        )


def predict(flags: Flags, settings, folder) -> None:
    """Class probabilities of image files; those that cannot be read are named at the end."""
    origin = flags.init_from or ""
    this = api.Run(settings, folder, known=run.data_of(origin) if origin else None)
    names = asked.expand(flags.images)
    found = this.predict(names, skip=True, init_from=origin)
    processes.log(f"checkpoint: {found.parameters}")
    for file, name, picture, row in zip(found.files, found.names, found.pictures, found.probabilities):
        print(f"{printable(file)}: {name} ({picture.changes})")
        for warning in picture.warnings:
            print(f"  take care: {warning}")
        if len(row) > MOST_CLASSES:
            print(f"  the {MOST_CLASSES} most probable of {len(row):,} classes:")
        best = np.argsort(-row, kind="stable")[:MOST_CLASSES]
        width = max(12, *(len(found.class_names[label]) for label in best))
        for label in best:
            print(f"  {found.class_names[label]:<{width}} {100 * row[label]:6.2f} %")
    if flags.out:
        this.write_answers(found, flags.out)
        print(f"answers {printable(flags.out)}")
    if found.unreadable:
        raise UserError("\n".join([*found.unreadable.values(), f"{len(found.unreadable)} of {len(names)} not read"]))


def summary(flags: Flags, settings, folder) -> None:
    """Prints the table of layers, and then the memory of training, which takes a compilation or two."""
    del flags, folder
    network = api.build(settings)
    shape = "x".join(map(str, network.image_shape))
    print(f"{settings.experiment}: input {shape}, {len(network.class_names)} classes\n")
    print(network, flush=True)
    sums = tables.sizes(network.layers)
    if sums:
        print("\nsides of the maps: (n + 2p - k) / s + 1, rounded down, of n pixels, for padding p, window k, stride s")
        print("\n".join(f"  {line}" for line in sums.splitlines()), flush=True)
    parts = settings.optimizer.accumulate
    sizes = [settings.train.batch_size, 2 * settings.train.batch_size]
    bytes_of = [step_memory(network.settings, size) for size in sizes]
    kind = jax.devices()[0].device_kind
    print(f"\ntraining on one {kind} device, in MiB beside the images kept there:")
    for size, used in zip(sizes, bytes_of):
        print(f"  batches of {size:,}{f' in {parts} parts' * (parts > 1)}: {_mebibytes(used)}")
    print(f"  each further image: {_mebibytes((bytes_of[1] - bytes_of[0]) / (sizes[1] - sizes[0]))}")


def _mebibytes(count):
    size = count / 2**20
    return f"{size:,.0f}" if size >= 100 else f"{size:.3g}"


def report(flags: Flags, settings, folder) -> None:
    """Rebuilds report.html from the workdir, with images of the reader's choice on their way through the network.

    With --init_from it is a page on that network alone, at --out, which needs no data.
    """
    if flags.init_from:
        _named(flags, settings, folder).report(flags.out, asked.expand(flags.images))
        print(f"report {flags.out}")
        return
    print(f"report {api.Run(settings, folder).report(images=asked.expand(flags.images, numbers=True))}")


def _named(flags, settings, folder):
    """The network that --init_from names."""
    return api.Run(settings, folder, known=run.data_of(flags.init_from)).network(flags.init_from)


def compare_runs(flags: Flags) -> None:
    """Writes a page that puts runs beside each other."""
    from cnn_jax.comparison import compare  # draws with matplotlib, which takes half a second

    images = asked.expand(flags.images, numbers=True)
    print(f"report {compare(flags.runs, flags.out or 'runs/compare.html', images)}")


def explore(flags: Flags, settings, folder) -> None:
    """Serves the live page of the run in the workdir, of --init_from, or of a network that was not trained."""
    if flags.init_from:
        network, name = _named(flags, settings, folder), flags.init_from
    elif (folder / "config.json").exists():
        network, name = api.Run(settings, folder).network(), settings.experiment
    else:
        processes.log(f"there is no run in {folder}: the network is shown with random weights, as training begins")
        network, name = api.build(settings), f"{settings.experiment}, not trained"
    _serve(flags, {printable(name): network})


def explore_several(flags: Flags) -> None:
    """Serves the live page of the networks that --runs names."""
    _serve(flags, {printable(each): api.load(each) for each in flags.runs})


def _serve(flags, networks):
    from cnn_jax.explore.scene import Scene
    from cnn_jax.explore.server import serving  # an extra

    with serving(Scene(networks), flags.port) as address:
        print(f"explore {address}", flush=True)
        processes.log("Ctrl-C ends it")
        if flags.browser:
            webbrowser.open(address)
        threading.Event().wait()


def export(flags: Flags, settings, folder) -> None:
    """Writes the chosen parameters, or those of --init_from, to a file."""
    if flags.init_from:
        _named(flags, settings, folder).export(flags.out, flags.format or "")
        print(f"{flags.out}: the parameters of {flags.init_from}")
        return
    chosen = api.Run(settings, folder).export(flags.out, flags.format or "")
    print(f"{flags.out}: the parameters of {folder} ({chosen})")


def prepare(flags: Flags, settings, folder) -> None:
    """Gets the experiment's dataset ready."""
    del flags, folder
    processes.log(f"preparing {settings.data.name} in {catalog.data_root(settings.data)}")
    print(source.prepare(settings.data, experiment=settings.experiment))


def devices(flags: Flags, settings: config.Config | None = None, folder=None) -> None:
    """Prints what JAX sees here and, of an experiment, how the work would be shared."""
    del flags, folder
    if settings:
        choice.prepare(settings)
    print(f"JAX {jax.__version__} on {platform.machine()}, {cores()} cores; backend {jax.default_backend()}")
    for device in jax.devices():
        print(f"  {device}  {device.device_kind}{_memory(device)}")
    if settings:
        mode = choice.mode_for(settings)
        parallel = Parallel(mode, settings.train.batch_size, accumulate=settings.optimizer.accumulate)
        layout = resolve_layout(settings.model.layout, jax.default_backend(), parallel.mode == "mesh")
        print(f"{settings.experiment} would run with --parallel={parallel.mode}: {parallel}, layout {layout}")
    for name, value in choice.numerics().items():
        print(f"{name}: {value or 'the default'}")


def _memory(device):
    """The memory of an accelerator, in words; a CPU's device does not say."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return ""
    return f"  {stats['bytes_limit'] / 2**30:.1f} GiB for JAX, {stats.get('bytes_in_use', 0) / 2**30:.1f} in use"


def devices_of_study(flags: Flags, study: Study, folder) -> int:
    """Prints what JAX sees here, and how the seeds of an arm would be shared."""
    choice.prepare(study.base, study.sizes)
    devices(flags, None, folder)
    for size in dict.fromkeys(study.sizes):
        parallel = Parallel(choice.mode_for(study.base, size), seeds=size)
        print(f"{study.experiment} would train {size} networks of an arm at the same time: {parallel}")
    return 0


def train_study(flags: Flags, study: Study, folder) -> int:
    """Trains and measures the arms that are not finished, and writes what they add up to."""
    this = api.StudyRun(study, folder)
    failures = this.train(signals=True, profile=flags.profile)
    _tell(this, flags.report)
    for failure in failures:
        processes.log(f"error: {failure}")
    return EXIT_FAILED if failures else 0


def plan_study(flags: Flags, study: Study, folder) -> int:
    """Prints what the study would do: its arms, their size, what differs, and how long it would take."""
    del flags
    try:
        checks.check_data(study)
    except UsageError:
        raise
    except UserError as error:  # it is planned before its data are there
        processes.log(f"so far: {error}")
    this = api.StudyRun(study, folder)
    print(this.plan(), flush=True)
    print(f"\n{this.estimate()}")
    return 0


def report_study(flags: Flags, study: Study, folder) -> int:
    """Writes tables and report anew from the arms that are finished."""
    if not (folder / "study.json").exists():
        raise UsageError(
            f"--mode=report needs a study, and there is none in {folder}: train first, or name its --workdir"
        )
    _tell(api.StudyRun(study if flags.set else None, folder), True)
    return 0


def prepare_study(flags: Flags, study: Study, folder) -> int:
    """Gets the study's dataset ready."""
    del flags, folder
    print(source.prepare(study.base.data, experiment=study.experiment))
    return 0


def _tell(this, with_report):
    print(this)
    names = "results.csv", "summary.csv", "comparisons.csv", "table.tex"
    print(f"tables {', '.join(str(this.folder / name) for name in names)}")
    path = this.report() if with_report else None
    if path:
        print(f"report {path}")


WITHOUT_SETTINGS = {"compare": compare_runs, "explore": explore_several, "devices": devices}
OF_RUNS = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "summary": summary,
    "report": report,
    "explore": explore,
    "export": export,
    "prepare": prepare,
    "devices": devices,
}
OF_STUDIES = {
    "train": train_study,
    "summary": plan_study,
    "report": report_study,
    "prepare": prepare_study,
    "devices": devices_of_study,
}
