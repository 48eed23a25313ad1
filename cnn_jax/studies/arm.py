"""One arm of a study: its seeds are trained in groups, measured, and stored.

The folder of an arm, arms/NAME:

arm.json           what was run and what it cost; written last, so that an arm with this file is finished
outcome.npz        each seed's answers to the test images
measurements.npz   see `measurements/storing.py`
pictures.npz       first filters, and maps of one image before and after each pooling, of the first seed
sweep/             of a study with a sweep: see `sweeps.py`
seed-K/            the workdir of a finished run: --mode=eval, predict, report and train work on it
checkpoints/K-L/   of each group of seeds, until all are done: its owner, its checkpoints while it is being trained and,
                   when it is done, the arrays above and group.json
"""

import contextlib
import dataclasses
import time
from pathlib import Path

import jax
import numpy as np

from cnn_jax import config, files, run, run_data, workdir
from cnn_jax.config.study import Arm, Study
from cnn_jax.data.identity import Identity
from cnn_jax.devices import processes
from cnn_jax.errors import UserError
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.pooling.base import Pooling
from cnn_jax.studies import group, measuring, sweeps
from cnn_jax.studies.measurements import storing
from cnn_jax.training import metrics
from cnn_jax.training.checkpoints import LAST
from cnn_jax.training.learner import Learner, load
from cnn_jax.training.metric_files import TIMES, read_timing

DONE = "arm.json"
MEASURED = "measurements.npz"
GREY = "grey"  # of the pictures


def folder_of(study_folder: Path, arm: Arm) -> Path:
    """Returns the folder of an arm."""
    return study_folder / "arms" / arm.name


def failure_of(study_folder: Path, arm: Arm) -> Path:
    """Returns the path of the file that says why an arm failed."""
    return study_folder / "arms" / f"{arm.name}.failure.txt"


def is_finished(folder: Path) -> bool:
    """Tells whether the arm in a folder has been trained and measured."""
    return (folder / DONE).exists()


NUMBERS = ("parameters", "multiply_adds", "seconds", "images_per_second", "memory", "together")


def read_record(folder: Path) -> dict:
    """Reads what was run in the folder of a finished arm, and what it cost.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged.
    """
    path = folder / DONE
    record = files.read_json(path)
    wrong = [name for name in NUMBERS if type(record.get(name)) not in (int, float)]
    wrong += [name for name in ("config", "study") if not isinstance(record.get(name), dict)]
    if not wrong:
        wrong = [f"study.{name}" for name in ("seeds", "target") if type(record["study"].get(name)) not in (int, float)]
    wrong += ["devices"] * (not isinstance(record.get("devices"), list))
    if wrong:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(wrong)}, or has another kind of value there")
    return record


def group_folder(folder: Path, seeds: list[int]) -> Path:
    """Returns the folder of a group of seeds of the arm in a folder."""
    return folder / "checkpoints" / f"{seeds[0]}-{seeds[-1]}"


def train(
    study: Study, arm: Arm, seeds: list[int], folder: Path, profile: bool = False, known: Identity | None = None
) -> None:
    """Trains, measures and stores a group of seeds of an arm; continues where a killed one stopped.

    Args:
      study: the study.
      arm: one of its arms.
      seeds: one of its groups; no other process trains it.
      folder: of the arm.
      profile: whether to trace some steps.
      known: the data of the study's base.

    Raises:
      Interrupted: a signal came, and the group is saved.
      UserError: a save failed.
    """
    swept = sweeps.read(folder)
    settings = study.settings(arm, swept and swept.value)
    known = group.known_data(study, settings, known)
    training, test = load(settings, "train", known), load(settings, "test", known)
    with contextlib.closing(Learner(settings, seeds, training, known.facts)) as learner:
        watched = test if learner.watched == "test" else load(settings, "validation", known)
        folders = [folder / f"seed-{seed}" for seed in seeds]
        own, selects = group_folder(folder, seeds), study.protocol.select == "best"
        began = time.perf_counter()
        trained = group.train(learner, folders, own, watched, selects, folder / "trace" if profile else None)
        ended = time.perf_counter()
        found = _measure(study, learner, trained, test)
        timing = (read_timing(folders[0]) or [TIMES])[-1]
        # Of this start alone: what a killed process spent besides steps is not known.
        spent = {"compiling": max(0.0, ended - began - timing["seconds"]), "measuring": time.perf_counter() - ended}
        found |= {"lost": trained.lost, "timing": timing, "spent": spent}
        _complete_folders(study, learner, folders, trained, found["evaluations"], test)
        for each in folders:
            run_data.store(each, known)
    _store_group(own, found)


def finish(study: Study, arm: Arm, folder: Path) -> None:
    """Makes an arm of its groups, which are all done.

    Raises:
      UserError: no seed is left.
    """
    groups = [group_folder(folder, seeds) for seeds in study.groups]
    records = [files.read_json(each / group.DONE) for each in groups]
    outcome = _joined([files.read_arrays(each / "outcome.npz") for each in groups])
    if not outcome["finite"].any():
        lost = "no seed gives finite numbers for the test images; lower optimizer.learning_rate"
        raise UserError(next((record["lost"] for record in records if record["lost"]), lost))
    files.write_arrays(folder / "outcome.npz", **outcome)
    files.write_arrays(folder / "pictures.npz", **files.read_arrays(groups[0] / "pictures.npz"))
    storing.store(folder / MEASURED, storing.joined([storing.load(each / MEASURED) for each in groups]))
    swept = sweeps.read(folder)
    settings = study.settings(arm, swept and swept.value)
    timing = [record["timing"] for record in records]
    record = {
        "arm": arm.name,
        "changes": list(arm.changes),
        "swept": swept and swept.value,
        "config": config.to_dict(settings),
        "study": dataclasses.asdict(study.protocol),
        **dataclasses.asdict(Learner(dataclasses.replace(settings, parallel="jit")).cost),
        "seconds": sum(row["seconds"] for row in timing),
        "images_per_second": float(np.mean([row["mean_examples_per_second"] for row in timing])),
        **{f"seconds_{name}": sum(each["spent"][name] for each in records) for name in ("compiling", "measuring")},
        "seconds_sweeping": swept.seconds if swept else 0.0,
        "memory": max(row["memory"] for row in timing),
        "together": max(row["seeds"] for row in timing),
        "devices": sorted({device for each in records for device in each["devices"]}),
    }
    files.write_json(folder / DONE, record)
    files.remove_folder(folder / "checkpoints")


def _measure(study: Study, learner: Learner, trained: group.Trained, test) -> dict:
    """Returns the evaluations of the test images, measurements and pictures."""
    variables = trained.chosen.evaluated
    processes.log("measuring the test images")
    evaluations = learner.evaluate(variables, test)
    for seed, each in zip(learner.seeds, evaluations):
        if each.problem:
            processes.log(f"seed {seed} counts as lost: {each.problem}")
    alive = trained.alive & [not each.problem for each in evaluations]
    first = learner.seeds[0] == study.base.seed
    return {
        "seeds": np.array(learner.seeds),
        "finite": alive,
        "evaluations": evaluations,
        "measurements": measuring.measure(
            study.protocol.measurements,
            measuring.context(study.protocol, learner, variables, test, alive),
            processes.log,
        ),
        "pictures": _pictures(learner, variables, test) if first else {},
    }


def _complete_folders(study, learner, folders, trained: group.Trained, evaluations, test) -> None:
    """Makes each seed's folder the workdir of a finished run, with the state that counts and the last one."""
    rule = "best validation accuracy" if study.protocol.select == "best" else LAST
    states = learner.each(trained.chosen), learner.each(trained.last)
    rows = zip(folders, learner.seeds, *states, trained.scores, evaluations)
    for place, seed, state, end, score, evaluation in rows:
        settings = dataclasses.replace(learner.settings, seed=seed, parallel=study.base.parallel)
        workdir.store_config(place, settings)
        workdir.record_start(place, settings, **run.facts(learner), step=0, seeds=learner.seeds)
        if int(end.step) < learner.total:  # lost on the way
            files.write_json(place / "lost.json", {"step": int(end.step)})
            continue
        with contextlib.closing(learner.checkpoints(place, keep=2)) as checkpoints:
            for one, mark in ((state, score), (end, None)):
                if int(one.step) > (checkpoints.latest() or 0):
                    checkpoints.save(int(one.step), one, settings, mark)
        run.store_results(place, evaluation, test, int(state.step), rule)


def _pictures(learner: Learner, variables, test) -> dict[str, np.ndarray]:
    """Returns the first seed's first-layer filters, one image, and its maps before and after each pooling.

    And, under `GREY`, what the last convolution makes of a plain grey image: the mean size of its maps. What the
    network does not have is left out.
    """
    image = test.images[:1]
    maps = learner.maps(variables, image)
    seen = [layer for layer in learner.model.parts() if layer.name in maps]
    found = {"image": image[0]}
    convolutions = [layer.name for layer in seen if isinstance(layer, Convolution)]
    if convolutions:  # a multilayer perceptron has none
        filters = learner.each(variables.params[convolutions[0]]["kernel"])[0]
        found["filters"] = np.asarray(filters, np.float32)
    for before, layer in zip(seen, seen[1:]):
        if isinstance(layer, Pooling):
            found[f"before {layer.name}"] = maps[before.name][0, 0]
            found[f"after {layer.name}"] = maps[layer.name][0, 0]
    wide = [layer.name for layer in seen if isinstance(layer, Convolution) and layer.output_shape[:2] != (1, 1)]
    if wide:
        plain = learner.maps(variables, np.full_like(image, 128))[wide[-1]][0, 0]
        found[GREY] = np.abs(np.asarray(plain, np.float32)).mean(-1)
    return found


def _store_group(own: Path, found: dict) -> None:
    evaluations = found["evaluations"]
    labels = evaluations[0].labels
    files.write_arrays(
        own / "outcome.npz",
        labels=labels,
        seeds=found["seeds"],
        finite=found["finite"],
        answers=np.stack([each.probabilities.argmax(-1).astype(np.int32) for each in evaluations]),
        probability=np.stack([each.probabilities[np.arange(len(labels)), labels] for each in evaluations]),
        losses=np.array([each.losses.mean(dtype=np.float64) for each in evaluations]),
        **_metrics(evaluations),
    )
    files.write_arrays(own / "pictures.npz", **found["pictures"])
    storing.store(own / MEASURED, found["measurements"])
    devices = [str(device) for device in jax.devices()]
    files.write_json(
        own / group.DONE,
        {"timing": found["timing"], "lost": found["lost"], "spent": found["spent"], "devices": devices},
    )


def _joined(outcomes: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outcomes of all groups as one; a metric that one of them lacks, as all its seeds were lost, is NaN there."""
    found = {}
    for name in dict.fromkeys(name for each in outcomes for name in each):
        if name == "labels":
            found[name] = outcomes[0][name]
            continue
        shape = next(each[name].shape[1:] for each in outcomes if name in each)
        lost = lambda each: np.full((len(each["seeds"]), *shape), np.nan)
        found[name] = np.concatenate([each[name] if name in each else lost(each) for each in outcomes])
    return found


def _metrics(evaluations) -> dict[str, np.ndarray]:
    """Every metric that says something, as arrays metric/NAME, [seeds] or [seeds, classes]."""
    found = [metrics.values(evaluation) for evaluation in evaluations]
    stacked = {name: [each[name] for each in found] for name in found[0]}
    known = {name: values for name, values in stacked.items() if any(value is not None for value in values)}
    return {f"metric/{name}": np.array(values, np.float64) for name, values in known.items()}
