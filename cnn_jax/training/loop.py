"""The training loop. Its order is fixed: write rows, evaluate, save, then draw the next batches and step.

A checkpoint therefore always comes after the rows of its step, and a run that continues from it repeats nothing.
"""

import concurrent.futures
import dataclasses
import signal
import threading
import time

import jax
import numpy as np

from cnn_jax import config
from cnn_jax.data.batches.order import IndexPlan
from cnn_jax.data.datasets.source import Dataset
from cnn_jax.devices import processes
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import EXIT_INTERRUPTED, UserError
from cnn_jax.progress import Clock, Lines
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.evaluation import Evaluator
from cnn_jax.training.metrics import MetricFiles, evaluation_row, training_row
from cnn_jax.training.optimizer import plateau_update
from cnn_jax.training.profile import Profile
from cnn_jax.training.state import TrainState, named_leaves, zero_totals
from cnn_jax.training.timetable import Timetable

DISPATCH_SECONDS = 0.5  # a signal waits this long, and the progress line moves this often


class Interruption:
    """SIGTERM and Ctrl-C, noted: the first asks the loop to save and stop, the second ends the process at once."""

    def __init__(self):
        self.asked = False

    def __enter__(self):
        self._before = {}
        # Handlers can only be set in the main thread; elsewhere (a test, a notebook) signals keep their meaning.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number, _frame):
        self.asked = True
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loop works with; made once by `run.train`.

    Attributes:
      settings: the run's config.
      plan: which examples each step sees.
      feed: gives the data of a stretch of steps.
      run: compiled `run(state, data, count) -> (state, finite)`.
      schedule: step to learning rate.
      parallel: the devices.
      evaluator: measures the network.
      watched: the split measured while training; "validation" may select, "test" never does.
      checkpoints: where states go.
      files: where rows go.
      progress: what a person sees.
      clock: where the time goes.
      profile: traces some steps, if asked.
      total: steps of the run.
    """

    settings: config.Config
    plan: IndexPlan
    feed: object
    run: object
    schedule: object
    parallel: Parallel
    evaluator: Evaluator
    watched: Dataset
    checkpoints: Checkpoints
    files: MetricFiles
    progress: Lines
    clock: Clock
    profile: Profile
    total: int


def train(parts: Parts, state: TrainState, started: float) -> TrainState:
    """Runs from the state's step to the last one.

    Args:
      parts: what the loop works with.
      state: fresh, or restored.
      started: `time.perf_counter()` when the process began, for the time to the first step.

    Returns:
      The last state.

    Raises:
      UserError: loss or gradient is not finite; a save failed; or a signal asked to stop, with exit code 75.
    """
    settings = parts.settings
    times = lambda every: Timetable(every, parts.total, parts.plan.examples, settings.train.batch_size)
    rows, evaluations, saves = (times(part.every) for part in (settings.log, settings.evaluation, settings.checkpoint))
    step = int(state.step)
    fresh = True  # nothing has been stepped yet, so nothing is due
    pace, clock = Pace(parts.feed.most_steps), parts.clock

    def stretch(start, steps):
        ends = [table.after(start) for table in (rows, evaluations, saves)]
        stop = min([start + steps, *[end for end in ends if end is not None]])
        return stop, parts.feed.stretch(start, stop)

    with Interruption() as interruption, concurrent.futures.ThreadPoolExecutor(1) as worker, parts.progress:
        coming = worker.submit(stretch, step, pace.steps) if step < parts.total else None
        while True:
            stopping, steps = processes.agree(interruption.asked, pace.steps)
            score = None
            if not fresh and step in rows:
                state = _write_training_row(parts, state, step)
            if not fresh and step in evaluations:
                state, score = _evaluate(parts, state, step)
            if not fresh and (step in saves or stopping):
                _save(parts, state, step, score)
            if stopping:
                parts.checkpoints.wait()
                raise UserError(f"stopped by a signal at step {step:,}; the same command continues", EXIT_INTERRUPTED)
            if step == parts.total:
                break
            asked = time.perf_counter()
            stop, data = coming.result()
            waited = time.perf_counter() - asked
            state, finite = parts.run(state, data, np.int32(stop - step))
            coming = worker.submit(stretch, stop, steps) if stop < parts.total else None
            if not finite:
                raise _not_finite(parts, state)
            seconds = time.perf_counter() - asked
            if fresh:
                parts.progress.say(f"first step done {time.perf_counter() - started:.1f} s after the start")
            clock.note(stop - step, seconds, waited)
            pace.note(stop - step, seconds)
            _show(parts, state, stop, clock)
            parts.profile.note()
            step, fresh = stop, False
    parts.checkpoints.wait()
    return state


def _show(parts, state, step, clock):
    totals = jax.device_get(state.totals)
    loss, accuracy = float(totals.loss) / int(totals.steps), int(totals.correct) / int(totals.examples)
    parts.progress.step(step, loss, accuracy, clock)
    parts.files.write_timing(
        {
            "step": step,
            "seconds": round(clock.seconds, 3),
            "examples_per_second": round(clock.examples_per_second, 1),
            "flops_per_second": round(clock.flops_per_second),
            "utilisation": clock.utilisation,
            "waiting": round(clock.waiting, 4),
        }
    )


class Pace:
    """How many steps to put in one dispatch: one at first, then about `DISPATCH_SECONDS` worth."""

    def __init__(self, most: int):
        self._most = most
        self._compiled = False
        self.steps = 1

    def note(self, steps: int, seconds: float):
        """Learns from a dispatch; the first one does not count, as it was compiled in that time."""
        if self._compiled:
            wanted = int(DISPATCH_SECONDS * steps / max(seconds, 1e-6))
            self.steps = max(1, min(self._most, wanted, 10 * self.steps))
        self._compiled = True


def _write_training_row(parts, state, step):
    """A row of means since the row before; the state with its totals at zero."""
    rate = float(parts.schedule(step - 1)) * float(state.plateau.factor)
    row = training_row(step, parts.plan.epoch(step), jax.device_get(state.totals), rate)
    parts.files.write(row)
    parts.progress.row(row)
    return state._replace(totals=parts.parallel.replicate(zero_totals()))


def _evaluate(parts, state, step):
    """A row of the watched split; the state with what the plateau schedule makes of it; the score for "best",
    which the test set never gives."""
    outcome = parts.evaluator(state.evaluated, parts.watched)
    row = evaluation_row(step, parts.plan.epoch(step), parts.watched.split, outcome)
    parts.files.write(row)
    parts.progress.row(row)
    if isinstance(parts.settings.schedule.kind, config.training.Plateau):
        plateau = plateau_update(state.plateau, outcome.loss, parts.settings.schedule.kind)
        state = state._replace(plateau=parts.parallel.replicate(plateau))
    return state, outcome.accuracy if parts.watched.split == "validation" else None


def _save(parts, state, step, score):
    bad = _first_bad_leaf(state)
    if bad:
        raise UserError(
            f"not saved at step {step}: {bad} holds numbers that are not finite; lower optimizer.learning_rate"
        )
    parts.files.flush()
    parts.checkpoints.save(step, state, parts.settings, score)


def _first_bad_leaf(state):
    # The plateau's best loss is infinite until the first evaluation; totals were written as a row.
    for name, leaf in named_leaves(jax.device_get(state._replace(plateau=None, totals=None))).items():
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
            return name
    return None


def _not_finite(parts, state):
    step = int(state.step) - 1
    rate = float(parts.schedule(step)) * float(state.plateau.factor)
    largest = max(
        float(np.abs(leaf[np.isfinite(leaf)]).max(initial=0)) for leaf in jax.tree.leaves(jax.device_get(state.params))
    )
    bad = {
        name: leaf for name, leaf in named_leaves(jax.device_get(state.params)).items() if not np.isfinite(leaf).all()
    }
    latest = parts.checkpoints.latest()
    return UserError(
        f"the loss or its gradient is not a finite number at step {step}: learning rate {rate:.3g}, "
        f"gradient norm {float(state.totals.gradient_norm):.3g}, largest finite parameter {largest:.3g}, "
        f"first bad leaf {next(iter(bad), 'none')}. Nothing of it was saved; the last checkpoint is "
        f"{'step ' + str(latest) if latest is not None else 'none'}. "
        "Lower optimizer.learning_rate, add schedule.warmup, or set optimizer.clip_norm"
    )
