"""Collects from a finished run what its report shows."""

from collections.abc import Sequence

import numpy as np

from cnn_jax import config, workdir
from cnn_jax.config import experiments
from cnn_jax.config.training import Plateau
from cnn_jax.data.identity import Identity
from cnn_jax.models.summary import summarise
from cnn_jax.reports.network.collect import SEARCHED, Followed, bitmaps, example, filters, of_split
from cnn_jax.reports.run.contents import Contents
from cnn_jax.run import Result
from cnn_jax.training import metrics
from cnn_jax.training.learner import Learner
from cnn_jax.training.metric_files import read_rows, read_timing
from cnn_jax.training.optimizer import make_schedule

POINTS = 200  # of the curve of the learning rate


def collect(
    settings: config.Config,
    folder,
    result: Result,
    learner: Learner,
    known: Identity | None,
    followed: Sequence[Followed] = (),
) -> Contents:
    """Returns the contents of the report on the run in a folder.

    Args:
      settings: the run's config.
      folder: its workdir.
      result: the chosen parameters, measured on the test split.
      learner: the network.
      known: what the run's data are.
      followed: images to follow through the network; none: the first of the split whose answer is right.
    """
    dataset, variables = result.dataset, result.variables
    starts, times, rows = workdir.starts(folder), read_timing(folder), read_rows(folder)
    if not followed:
        chosen = int(np.flatnonzero(result.evaluation.probabilities.argmax(-1) == dataset.labels)[:1].sum())
        followed = [of_split(dataset, chosen)]
    searched = min(SEARCHED, len(dataset.labels))
    return Contents(
        title=experiments.title(settings.experiment),
        description=experiments.recipe(settings.experiment),
        command=starts[0]["command"] if starts else "",
        config=config.to_dict(settings),
        metrics=rows,
        checkpoint_step=result.step,
        checkpoint_rule=result.rule,
        evaluated=dataset.split,
        images=dataset.images,
        labels=dataset.labels,
        probabilities=result.evaluation.probabilities,
        class_names=dataset.class_names,
        layers=summarise(learner.model),
        filters=filters(learner, variables, dataset.images[:searched]),
        searched=searched,
        examples=[example(learner, variables, each) for each in followed],
        bitmaps=bitmaps(learner),
        records=starts,
        seconds=times[-1]["seconds"] if times else None,
        measured=metrics.values(result.evaluation),
        departures=experiments.departures(settings),
        rates=_rates(settings, rows),
        counts=known.counts() if known else {},
        left_out=known.left_out if known else {},
        unreadable=known.unreadable if known else {},
    )


def _rates(settings, rows):
    """The learning rate at some two hundred steps, up to the last one that was logged."""
    last = max(rows, key=lambda row: row["step"], default=None)
    if not last or not last.get("epoch") or isinstance(settings.schedule.kind, Plateau):
        return []
    size = settings.train.batch_size
    examples = round(last["step"] * size / last["epoch"])
    total = config.duration_steps(settings.train.duration, examples, size)
    schedule = make_schedule(settings.schedule, settings.optimizer.learning_rate, total, examples, size)
    steps = np.unique(np.linspace(0, last["step"] - 1, POINTS).astype(int))
    return [
        {
            "split": "train",
            "step": step + 1,
            "epoch": (step + 1) * size / examples,
            "learning_rate": float(schedule(step)),
        }
        for step in steps.tolist()
    ]
