"""The modes of launch.py. Results go to standard output, everything else to standard error."""

import contextlib

import jax
import numpy as np

from cnn_jax import cli, config, distributed, interop, run, workdir
from cnn_jax.data import catalog, source
from cnn_jax.models import outline
from cnn_jax.models.summary import summarise, table
from cnn_jax.reporting.gather import gather
from cnn_jax.reporting.pictures import read_picture
from cnn_jax.run import Session, say
from cnn_jax.training.step import forward, prepare_images

MOST_CLASSES = 10  # of a prediction, printed


def train(wish: cli.Wish, settings, folder) -> None:
    """Trains or continues, measures the test split, writes results.json and report.html."""
    if not jax.distributed.is_initialized():
        run.use_cores(settings)
    with distributed.claimed(folder):
        say(f"compilation cache: {run.enable_compilation_cache()}")
        result = run.train(settings, folder, wish.started, wish.init_from or "", wish.profile)
        if not distributed.leads():
            return
        outcome = result.outcome
        count, wrong = len(outcome.labels), round((1 - outcome.accuracy) * len(outcome.labels))
        results = {
            "test_accuracy": outcome.accuracy,
            "test_top5": outcome.top5,
            "test_loss": outcome.loss,
            "test_examples": count,
            "step": result.step,
            "rule": result.rule,
        }
        workdir.write_json(folder / "results.json", results)
        print(
            f"test accuracy {100 * outcome.accuracy:.2f} % "
            f"({wrong} of {count:,} wrong; {result.rule}, step {result.step:,})"
        )
        if wish.report:
            print(f"report {_write_report(settings, folder, result)}")


def evaluate(wish: cli.Wish, settings, folder) -> None:
    """Measures the chosen checkpoint, or the parameters of --init_from, on the splits that do not train."""
    run.enable_compilation_cache()
    session = Session(settings)
    if wish.init_from:
        variables, chosen = run.taken_from(wish.init_from, session, session.variables_like()), wish.init_from
    else:
        variables, chosen = _chosen(session, folder)
    for split in ["validation"] * (settings.data.validation > 0) + ["test"]:
        outcome = session.evaluator(variables, session.load(split))
        top5 = "" if outcome.top5 is None else f"  top-5 {100 * outcome.top5:.2f} %"
        if distributed.leads():
            print(
                f"{split}: accuracy {100 * outcome.accuracy:.2f} %{top5}  loss {outcome.loss:.4f}  "
                f"n = {len(outcome.labels):,}  ({chosen})"
            )


def _chosen(session, folder):
    """The variables that stand for the run in a folder, and why they do, in words."""
    with contextlib.closing(session.checkpoints(folder)) as checkpoints:
        step, rule = session.chosen(checkpoints)
        return checkpoints.restore_variables(step, session.variables_like()), f"{rule}, step {step:,}"


def predict(wish: cli.Wish, settings, folder) -> None:
    """Class probabilities of image files."""
    run.enable_compilation_cache()
    session = Session(settings)
    facts = catalog.facts(settings.data)
    pictures = [read_picture(name, facts.shape) for name in wish.images]
    variables, chosen = _chosen(session, folder)
    images = np.stack([picture.pixels for picture in pictures])
    prepared = lambda x: prepare_images(session.settings, x)
    outputs = jax.jit(lambda variables, x: forward(session.settings, session.network, variables, prepared(x))[0])
    probabilities = np.asarray(jax.nn.softmax(outputs(variables, images).astype(np.float32)))
    say(f"checkpoint: {chosen}")
    for name, picture, row in zip(wish.images, pictures, probabilities):
        print(f"{name}: {facts.class_names[row.argmax()]} ({picture.changes})")
        for label in np.argsort(-row, kind="stable")[:MOST_CLASSES]:
            print(f"  {facts.class_names[label]:<12} {100 * row[label]:6.2f} %")


def summary(wish: cli.Wish, settings, folder) -> None:
    """The table of layers."""
    del wish, folder
    shape, classes = config.image_shape(settings), catalog.facts(settings.data).classes
    print(f"{settings.experiment}: input {'x'.join(map(str, shape))}, {classes} classes\n")
    print(table(summarise(outline(settings.model, shape, classes))))


def report(wish: cli.Wish, settings, folder) -> None:
    """Rebuilds report.html from the workdir."""
    del wish
    run.enable_compilation_cache()
    session = Session(settings)
    checkpoints = session.checkpoints(folder)
    result = run.measure(session, checkpoints, session.load("test"))
    checkpoints.close()
    print(f"report {_write_report(settings, folder, result)}")


def export(wish: cli.Wish, settings, folder) -> None:
    """Writes the chosen parameters as PyTorch reads them."""
    variables, chosen = _chosen(Session(settings), folder)
    interop.save_torch(variables.params, wish.out)
    print(f"{wish.out}: the parameters of {folder} ({chosen})")


def prepare(wish: cli.Wish, settings, folder) -> None:
    """Gets the experiment's dataset ready."""
    del folder
    say(f"preparing {settings.data.name} in {source.data_root(settings.data)}")
    print(source.prepare(settings.data, experiment=wish.experiment))


def _write_report(settings, folder, result):
    from cnn_jax.reporting.report import write_report  # draws with matplotlib, which takes half a second

    path = folder / "report.html"
    write_report(path, gather(settings, folder, result))
    return path


COMMANDS = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "summary": summary,
    "report": report,
    "export": export,
    "prepare": prepare,
}
