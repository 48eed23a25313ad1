"""The parts of a training run, from its first state to its final measurement."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from cnn_jax import config, files, origins, run_data, weights, workdir
from cnn_jax.data.augment.transforms import centre_crop, to_canvas
from cnn_jax.data.datasets import source
from cnn_jax.data.identity import Identity
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.devices import choice, processes
from cnn_jax.errors import UsageError, UserError
from cnn_jax.models import torchvision
from cnn_jax.models.summary import summarise
from cnn_jax.training import metrics
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.learner import Learner
from cnn_jax.training.metrics import Evaluation
from cnn_jax.training.state import Variables, named_leaves


@dataclasses.dataclass(frozen=True)
class Result:
    """The end of a run.

    Attributes:
      evaluation: on the split.
      dataset: the split, "test" unless asked otherwise.
      variables: the parameters and statistics measured.
      step: of the parameters.
      rule: why that step.
    """

    evaluation: Evaluation
    dataset: Dataset
    variables: Variables
    step: int
    rule: str


def begin(learner: Learner, settings: config.Config, folder: Path, step: int, known: Identity | None) -> None:
    """Notes a start in the workdir, and says what it is.

    Args:
      learner: of one network.
      settings: as they were asked for.
      folder: the workdir, claimed by the caller.
      step: that it starts from.
      known: the data; None where they were prepared just now.
    """
    known = known or source.identity(settings.data)
    if processes.is_first():
        workdir.store_config(folder, settings)
        run_data.store(folder, known)
        workdir.record_start(folder, settings, **facts(learner), step=step)
    what = f"{learner.order.examples:,} training images, {learner.total:,} steps of {learner.order.batch_size}"
    processes.log(f"{settings.experiment}: {what}, in {folder}")
    for line in run_data.told(known):
        processes.log(line)
    processes.log(f"parallel: {learner.parallel}; data: {learner.placement}; layout {learner.settings.model.layout}")
    parts = settings.optimizer.accumulate
    if parts > 1 and any(row.statistics for row in summarise(learner.model)):
        processes.log(
            f"optimizer.accumulate = {parts}: batch normalisation goes by the statistics of each part of a batch"
        )
    if step == learner.total:
        processes.log(f"already at its last step, {step:,}: nothing left to train")
    elif step:
        processes.log(f"continuing from step {step:,}")


def facts(learner: Learner) -> dict:
    """Returns the entries of a record of a start that describe the devices and the placement of the data."""
    return {
        "devices": [str(device) for device in learner.parallel.devices],
        "parallel": str(learner.parallel),
        "placement": learner.placement,
        **choice.numerics(),
    }


def first_state(learner: Learner, checkpoints: Checkpoints, init_from: str = "", fresh: Sequence[str] = ()):
    """Returns the state to start from: the last checkpoint, or a new one, with the parameters of another run if asked.

    Args:
      learner: the network.
      checkpoints: of the run.
      init_from: see `taken_from`; "": nothing is taken.
      fresh: layers that are not taken.
    """
    processes.on_first(lambda: checkpoints.check_settings(learner.settings))
    saved = checkpoints.restore_latest(learner.state_like())
    if saved is not None:
        return saved
    state = learner.initial()
    if not init_from:
        return state
    params, batch_stats = taken_from(init_from, learner, Variables(state.params, state.batch_stats), fresh)
    ema = None if state.ema is None else jax.tree.map(lambda x: x.copy(), params)
    return state._replace(params=params, batch_stats=batch_stats, ema=ema)


def measure(learner: Learner, checkpoints: Checkpoints, dataset: Dataset) -> Result:
    """Returns the chosen parameters of a run on a split."""
    variables, step, rule = learner.chosen(checkpoints)
    return measured(learner, variables, dataset, step, rule)


def measured(learner: Learner, variables: Variables, dataset: Dataset, step: int, rule: str) -> Result:
    """Returns some parameters of a run, of a step that a rule chose, on a split."""
    (evaluation,) = learner.evaluate(variables, dataset)
    return Result(evaluation, dataset, processes.local_copy(variables), step, rule)


def as_seen(settings: config.Config, images: np.ndarray) -> np.ndarray:
    """Returns stored images as the network is given them: on their canvas, and cut; uint8 [N, H, W, C]."""
    return np.asarray(centre_crop(to_canvas(images, settings.data.size), settings.data.crop))


def store_results(folder: Path, evaluation: Evaluation, dataset: Dataset, step: int, rule: str) -> None:
    """Writes results.json, of a run measured on the test split: every metric, those of classes by their names."""
    values = {"test_examples": len(evaluation.labels), "step": step, "rule": rule}
    for metric in metrics.METRICS:
        value = metric.of(evaluation)
        if metric.per_class and value is not None:
            value = {name: float(each) if np.isfinite(each) else None for name, each in zip(dataset.class_names, value)}
        values[f"test_{metric.name}"] = value
    files.write_json(folder / "results.json", values)


def taken_from(origin: str, learner: Learner, like: Variables, fresh: Sequence[str] = ()) -> Variables:
    """Returns the variables of another run, or of a network that PyTorch saved, and says which layers they are of.

    Args:
      origin: a trained network, a weight file, a workdir, or a PyTorch state dict; see `origins`.
      learner: the network and devices they are for.
      like: variables of the same structure; those of layers that are `fresh` are returned as they are.
      fresh: layers that are not taken.

    Raises:
      UsageError: there are none, they are of another network, or it has no such layer.
    """
    strange = [name for name in fresh if name not in like.params]
    if strange:
        raise UsageError(f"--fresh={','.join(strange)}: there is no such layer; there are {', '.join(like.params)}")
    path = origins.find(origin)
    if path.is_file():
        with files.on_disk(path) as near:
            found, class_names = _of_file(near, learner, like, fresh)
        where = str(path)
    else:
        found, class_names, where = _of_run(origin, path, learner, like, fresh)
    taken = [name for name in like.params if name not in fresh]
    processes.log(f"parameters from {where}: {', '.join(taken)}{''.join(f'; {name} is fresh' for name in fresh)}")
    ours = learner.facts.class_names
    if class_names and tuple(class_names) != ours and list(like.params)[-1] not in fresh:
        some = lambda names: ", ".join(names[:4]) + ", ..." * (len(names) > 4)
        processes.log(f"take care: they were trained for the classes {some(class_names)}; the data have {some(ours)}")
    return found


def _of_file(path, learner, like, fresh):
    """Variables in a file, and the names of its classes."""
    known = weights.about(path)
    if known is None:
        params = learner.parallel.replicate(torchvision.load_torch(path, like.params, fresh))
        class_names = torchvision.class_names(path)
        whole = {name: params.get(name, leaves) for name, leaves in like.params.items()}
        return Variables(whole, like.batch_stats), class_names
    leaves = named_leaves(like)
    wanted = {name: leaf.shape for name, leaf in leaves.items() if name.split(".")[1] not in fresh}
    arrays = learner.parallel.replicate(weights.load(path, wanted, [*leaves] if fresh else ()))
    found = [arrays.get(name, leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(like), found), known.identity.class_names


def data_of(origin: str) -> Identity | None:
    """Returns the data that what --init_from names was trained on; None where nothing says them.

    Raises:
      UserError: there is no such network, or its file is damaged.
    """
    path = origins.find(origin)
    if path.is_dir():
        return run_data.stored(path)
    known = weights.about(path)
    return known.identity if known else None


def about(settings: config.Config, folder: Path, known: Identity, step: int, rule: str) -> weights.About:
    """Returns what a weight file says of a run.

    Args:
      settings: of the run.
      folder: its workdir.
      known: its data.
      step: of the parameters.
      rule: that chose it.
    """
    results = folder / "results.json"
    found = files.read_json(results) if results.exists() else {}
    test = {}
    if found.get("step") == step:
        test = {name.removeprefix("test_"): value for name, value in found.items() if name.startswith("test_")}
        test = {name: float(value) for name, value in test.items() if isinstance(value, int | float)}
    starts = workdir.starts(folder)
    commit = ((starts[-1].get("git") or {}).get("commit") if starts else "") or ""
    return weights.About(settings=settings, identity=known, step=step, rule=rule, commit=commit, test=test)


def _of_run(origin, path, learner, like, fresh):
    """Variables of the run in a folder, the names of its classes, and the folder of the checkpoint."""
    with contextlib.closing(Checkpoints(path, best=True)) as others:
        settings, known = workdir.stored_config(path), run_data.stored(path)
        theirs = like
        if fresh and settings is not None:  # other shapes: those of its own network
            theirs = Learner(settings, facts=known.facts if known else None).variables_like()
        try:
            found = others.restore_chosen(theirs)
        except UserError as error:
            raise type(error)(f"{error}\nlayers that differ are left out with --fresh=LAYER,...") from error
        if found is None:
            raise UsageError(f"--init_from={origin}: there is no checkpoint in {others.folder}")
        variables, step, _ = found
    if theirs is not like:  # placed on the devices as its own network is
        variables = Variables(*map(learner.parallel.replicate, jax.tree.map(np.asarray, variables)))
    wrong = []
    for group, wanted in zip(variables, like):
        for name in wanted:
            shapes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
            if name not in fresh and shapes(group.get(name)) != shapes(wanted[name]):
                wrong.append(name)
    if wrong:
        raise UsageError(
            f"--init_from={origin}: {', '.join(dict.fromkeys(wrong))} of that network differ from this one's: leave "
            f"them out with --fresh={','.join([*fresh, *dict.fromkeys(wrong)])}"
        )
    pick = lambda ours, theirs: {name: ours[name] if name in fresh else theirs[name] for name in ours}
    merged = Variables(*(pick(ours, theirs) for ours, theirs in zip(like, variables)))
    return merged, known.class_names if known else (), str(others.folder / str(step))
