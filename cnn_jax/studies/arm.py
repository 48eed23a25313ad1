"""One arm of a study: its seeds are trained side by side, measured, and stored.

The folder of an arm, arms/NAME:

arm.json           what was run and what it cost; written last, so that an arm with this file is finished
outcome.npz        each seed's answers to the test images
measurements.npz   see `measurements/storing.py`
pictures.npz       first filters, and maps of one image before and after each pooling, of the first seed
seed-K/            the workdir of a run, with its last checkpoint: --mode=eval, predict and report work on it
checkpoints/       all seeds together, while the arm is being trained
"""

import contextlib
import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np

from cnn_jax import config, workdir
from cnn_jax.layers.pooling import Pooling
from cnn_jax.run import FLOPS
from cnn_jax.studies.measurements import storing
from cnn_jax.studies.measurements.base import Context
from cnn_jax.studies.measurements.strides import cumulative_strides
from cnn_jax.studies.selection import BestValidation, LastStep, with_own_steps
from cnn_jax.studies.side_by_side import Seeds, cost, network_of, one_device
from cnn_jax.studies.study import Arm, Study
from cnn_jax.studies.training import train
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.loop import Interruption
from cnn_jax.training.state import TrainState

DONE = "arm.json"
MAPPED_IMAGES = 64  # that measurements of feature maps use
REACH = 4  # pixels that measurements shift images by, at most; an eighth of the side


def folder_of(study_folder: Path, arm: Arm) -> Path:
    """Where an arm lies."""
    return study_folder / "arms" / arm.name


def failure_of(study_folder: Path, arm: Arm) -> Path:
    """Where it is said why an arm failed."""
    return study_folder / "arms" / f"{arm.name}.failure.txt"


def is_finished(folder: Path) -> bool:
    """Whether the arm in a folder has been trained and measured."""
    return (folder / DONE).exists()


def run(study: Study, arm: Arm, folder: Path, interruption: Interruption) -> None:
    """Trains, measures and stores an arm; continues where a killed one stopped.

    Args:
      study: the study.
      arm: one of its arms.
      folder: of the arm.
      interruption: tells whether a signal asked to stop.

    Raises:
      UserError: a signal asked to stop, with exit code 75; or a save failed.
    """
    settings = study.settings(arm)
    folder.mkdir(parents=True, exist_ok=True)
    session = one_device(settings)
    training, test = session.load("train"), session.load("test")
    watched = session.load("validation") if settings.data.validation else test
    parts = []
    for numbers in study.groups:
        with contextlib.closing(Seeds(settings, numbers, training)) as seeds:
            folders = [_seed_folder(folder, number) for number in numbers]
            for each in folders:
                each.mkdir(exist_ok=True)
            flops = FLOPS * cost(session).multiply_adds
            own = folder / "checkpoints" / seeds.name
            best = study.study.select == "best"
            selection = BestValidation(own / "best.npz") if best else LastStep()
            state, costs = train(seeds, own, folders, watched, selection, flops, interruption)
            chosen, scores = selection.chosen(state)
            parts.append(_measure(study, seeds, chosen.evaluated, test) | costs | {"steps": seeds.total})
            _store_runs(seeds, chosen, scores, with_own_steps(state), folder)
    _store(study, arm, folder, parts)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _measure(study, seeds, variables, test) -> dict:
    """What a group of seeds says of the test images, and its measurements."""
    probabilities, losses = seeds.ask(variables, test.images, test.labels)
    finite = np.isfinite(losses).all(1)
    found = storing.measure(study.study.measurements, _context(study, seeds, variables, test))
    return {
        "seeds": np.array(seeds.numbers),
        "finite": finite,
        "answers": probabilities.argmax(-1).astype(np.int32),
        "probability": np.take_along_axis(probabilities, test.labels[None, :, None], -1)[..., 0],
        "losses": losses.mean(1, dtype=np.float64),
        "labels": test.labels,
        "measurements": found,
        "pictures": _pictures(seeds, variables, test) if seeds.numbers[0] == seeds.settings.seed else None,
    }


def _context(study, seeds, variables, test) -> Context:
    """What measurements are given of a group of seeds: the networks, and the first test images."""
    images = np.asarray(test.images[: study.study.images or None])
    maps = lambda images: seeds.maps(variables, images)
    return Context(
        predict=lambda images: seeds.ask(variables, images),
        maps=maps,
        images=images,
        labels=test.labels[: len(images)],
        few=images[:MAPPED_IMAGES],
        reach=max(1, min(REACH, images.shape[1] // 8)),
        strides=cumulative_strides(network_of(seeds.session), maps(images[:1])),
    )


def _pictures(seeds: Seeds, variables, test) -> dict[str, np.ndarray]:
    """What the first seed sees: its first filters, and maps of one image before and after each pooling."""
    image = test.images[:1]
    maps = seeds.maps(variables, image)
    seen = [layer for layer in network_of(seeds.session).parts() if layer.name in maps]
    found = {"image": image[0], "filters": np.asarray(variables.params[seen[0].name]["kernel"][0], np.float32)}
    for before, layer in zip(seen, seen[1:]):
        if isinstance(layer, Pooling):
            found[f"before {layer.name}"] = maps[before.name][0, 0]
            found[f"after {layer.name}"] = maps[layer.name][0, 0]
    return found


def _store_runs(seeds: Seeds, chosen: TrainState, scores, last: TrainState, folder: Path) -> None:
    """Makes each seed's folder the workdir of a finished run, with the state that counts and the last one."""
    for k, number in enumerate(seeds.numbers):
        place = _seed_folder(folder, number)
        settings = dataclasses.replace(seeds.settings, seed=number)
        workdir.store_config(place, settings)
        with contextlib.closing(Checkpoints(place, keep=2)) as checkpoints:
            for state, score in ((chosen, scores[k]), (last, None)):
                one = jax.tree.map(lambda leaf: leaf[k], state)
                if int(one.step) > (checkpoints.latest() or 0):
                    checkpoints.save(int(one.step), one, settings, score)


def _store(study: Study, arm: Arm, folder: Path, parts: list[dict]) -> None:
    joined = lambda name: np.concatenate([part[name] for part in parts])
    arrays = {name: joined(name) for name in ("seeds", "finite", "answers", "probability", "losses")}
    np.savez_compressed(folder / "outcome.npz", labels=parts[0]["labels"], **arrays)
    np.savez_compressed(folder / "pictures.npz", **parts[0]["pictures"])
    storing.store(folder / "measurements.npz", storing.joined([part["measurements"] for part in parts]))
    settings = study.settings(arm)
    size = settings.train.batch_size
    record = {
        "arm": arm.name,
        "changes": list(arm.changes),
        "config": config.to_dict(settings),
        "study": dataclasses.asdict(study.study),
        **dataclasses.asdict(cost(one_device(settings))),
        "seconds": sum(part["steps"] * len(part["seeds"]) * size / part["images_per_second"] for part in parts),
        "images_per_second": float(np.mean([part["images_per_second"] for part in parts])),
        "memory": max(part["memory"] for part in parts),
        "together": max(len(part["seeds"]) for part in parts),
        "devices": [str(device) for device in jax.devices()],
    }
    workdir.write_json(folder / DONE, record)


def _seed_folder(folder, number):
    return folder / f"seed-{number}"
