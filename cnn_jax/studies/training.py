"""The training of a group of seeds side by side: the order of `training/loop.py`, rows and checkpoints for all of them.

A checkpoint comes after the rows of its step, and training that continues from it repeats nothing.
"""

import contextlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.data.datasets.source import Dataset
from cnn_jax.errors import EXIT_INTERRUPTED, UserError
from cnn_jax.progress import Clock, make_progress
from cnn_jax.studies.side_by_side import Seeds
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.evaluation import Outcome
from cnn_jax.training.loop import Interruption, Pace
from cnn_jax.training.metrics import MetricFiles, evaluation_row, read_timing, training_row
from cnn_jax.training.state import TrainState, zero_totals
from cnn_jax.training.timetable import Timetable


def train(
    seeds: Seeds, folder, folders, watched: Dataset, selection, flops: int, interruption: Interruption
) -> tuple[TrainState, dict]:
    """The last states of a group of seeds, and what they cost.

    Args:
      seeds: the group.
      folder: where its checkpoints go.
      folders: of each seed, where its rows go.
      watched: the split that is measured on the way.
      selection: is told what was measured; see `selection.py`.
      flops: operations of one training example.
      interruption: tells whether a signal asked to stop.

    Raises:
      UserError: a signal asked to stop, with exit code 75; or a save failed.
    """
    settings, total = seeds.settings, seeds.total
    times = lambda every: Timetable(every, total, seeds.plan.examples, settings.train.batch_size)
    rows, evaluations, saves = (times(part.every) for part in (settings.log, settings.evaluation, settings.checkpoint))
    after = lambda step: min((end for table in (rows, evaluations, saves) if (end := table.after(step))), default=step)
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(folder)))
        state, latest = seeds.initial(), checkpoints.latest()
        if latest is not None:
            state = seeds.placed(checkpoints.restore(latest, state))
        step = latest or 0
        files = [MetricFiles(each, step, settings.log.tensorboard) for each in folders]
        for file in files:
            stack.enter_context(contextlib.closing(file))
        clock = Clock(settings.train.batch_size * len(files), files[0].seconds, flops)
        progress = stack.enter_context(make_progress(total, step))
        if latest is not None:
            progress.say(f"continuing from step {step:,}")
        stepper = _Stepper(seeds, step, after)
        while step < total:
            state, step = stepper.advance(state, clock)
            progress.step(step, *_means(state), clock)
            if step in rows:
                state = _write_rows(seeds, files, state, step)
            if step in evaluations:
                selection.note(state, _evaluate(seeds, files, progress, state, watched, step))
            if step in saves or interruption.asked:
                spent = {"seconds": round(clock.seconds, 3), "images_per_second": clock.mean_rate}
                files[0].write_timing({"step": step, **spent, "memory": stepper.memory})
                for file in files:
                    file.flush()
                checkpoints.save(step, state, settings, None)
            if interruption.asked:
                checkpoints.wait()
                message = f"stopped by a signal at step {step:,} of this arm; the same command continues"
                raise UserError(message, EXIT_INTERRUPTED)
        last = read_timing(folders[0])[-1]
        return state, {"images_per_second": last["images_per_second"], "memory": last["memory"]}


class _Stepper:
    """Takes the seeds from one event to the next, in stretches of about the same time.

    Attributes:
      memory: bytes that the program takes.
    """

    def __init__(self, seeds: Seeds, step: int, after):
        self._seeds, self._after, self._step = seeds, after, step
        self._pace, self._program, self.memory = Pace(seeds.most_steps), None, 0
        self._fetch()

    def _fetch(self):
        self._stop = min(self._step + self._pace.steps, self._after(self._step))
        self._coming = self._seeds.begin(self._step, self._stop) if self._stop > self._step else None

    def advance(self, state: TrainState, clock: Clock) -> tuple[TrainState, int]:
        """The states after the next stretch, and their step."""
        asked = time.perf_counter()
        data = self._coming.result()
        waited = time.perf_counter() - asked
        if self._program is None:
            self._program, self.memory = self._seeds.compiled(state, data)
            asked = time.perf_counter()
        steps = self._stop - self._step
        state, _ = self._program(state, data, np.int32(steps))
        self._step = self._stop
        self._fetch()
        jax.block_until_ready(state.totals)
        seconds = time.perf_counter() - asked
        clock.note(steps, seconds, waited)
        self._pace.note(steps, seconds)
        return state, self._step


def _means(state):
    """Loss and accuracy since the last training row, mean over the seeds."""
    totals = jax.device_get(state.totals)
    return float(np.mean(totals.loss / totals.steps)), float(np.mean(totals.correct / totals.examples))


def _write_rows(seeds, files, state, step):
    totals = jax.device_get(state.totals)
    rate = float(seeds.schedule(step - 1))
    for k, file in enumerate(files):
        one = jax.tree.map(lambda leaf: leaf[k], totals)
        file.write(training_row(step, seeds.plan.epoch(step), one, rate))
    zero = jax.tree.map(lambda x: jnp.zeros(len(files), x.dtype), zero_totals())
    return seeds.placed(state._replace(totals=zero))


def _evaluate(seeds, files, progress, state, watched, step):
    answers = seeds.ask(state.evaluated, watched.images, watched.labels)
    outcomes = [Outcome(losses, probabilities, watched.labels) for probabilities, losses in zip(*answers)]
    rows = [evaluation_row(step, seeds.plan.epoch(step), watched.split, outcome) for outcome in outcomes]
    for file, row in zip(files, rows):
        file.write(row)
    progress.row(rows[0] | {name: float(np.mean([row[name] for row in rows])) for name in ("loss", "accuracy")})
    return [row["accuracy"] for row in rows]
