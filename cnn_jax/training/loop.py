"""The training loop. Its order is fixed: write rows, evaluate, save, then draw the next batches and step.

A checkpoint therefore always comes after the rows of its step, and a run that continues from it repeats nothing. It is
the same for a run and for the seeds of a study's arm: rows and files are those of each network, the checkpoint of all.
"""

import collections
import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import signals, watchdog
from cnn_jax.config.training import Plateau
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.devices import processes
from cnn_jax.devices.peaks import peak
from cnn_jax.errors import Interrupted, UserError
from cnn_jax.progress import Clock, Lines, Silence, make_progress
from cnn_jax.training import metrics, trackers
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.layer_metrics import LayerMetrics, NoLayerMetrics
from cnn_jax.training.learner import Learner
from cnn_jax.training.metric_files import MetricFiles, NoFiles, evaluation_row, training_row
from cnn_jax.training.optimizer import plateau_update
from cnn_jax.training.profile import Profile
from cnn_jax.training.selection import NoBest
from cnn_jax.training.state import Report, TrainState, named_leaves
from cnn_jax.training.timetable import Timetable

DISPATCH_SECONDS = 0.25  # of a stretch; two are under way, so a signal waits twice as long
# Entering a dispatch costs a CPU a tenth of AlexNet's step of over a second, so that slow steps share one too.
SHARED_STEPS, SHARED_SECONDS = 4, 6.0
AGREEMENT_SECONDS = 1.0  # between the agreements of several processes
TIMING_SECONDS = 10.0  # between rows of timing.jsonl, besides those of training rows: few, however long a run is


class AllLost(UserError):
    """No network is left to train.

    Args:
      message: why.
      state: marked as for each that is lost.
    """

    def __init__(self, message: str, state: TrainState):
        super().__init__(message)
        self.state = state


def train(
    learner: Learner,
    state: TrainState,
    checkpoints: Checkpoints,
    folders: Sequence[Path],
    watched: Dataset,
    *,
    last: int | None = None,
    best=NoBest(),
    listen: Callable[[dict], None] = lambda row: None,
    profile: Path | None = None,
    started: float | None = None,
    progress: Lines | None = None,
) -> TrainState:
    """Trains from the state's step to the last one, and saves that.

    A network whose loss or gradient is not a finite number ends the training if it is alone. One of several is marked
    by a `step` that stays where it was lost. Its weights are those it began with from then on, so that all that is
    saved is finite; the others go on.

    Args:
      learner: the networks.
      state: fresh, or restored.
      checkpoints: where states go.
      folders: of each network, where its rows go.
      watched: the split measured while training; "validation" may select, "test" never does.
      last: the step to end at, before that of the settings; the schedules do not change.
      best: is told each network's validation accuracy, see `selection.py`.
      listen: is given each row of metrics.jsonl, of any network, once it is written.
      profile: where a trace of some steps of this process goes; None: there is none.
      started: `time.perf_counter()` when the process began, for the time to the first step.
      progress: what a person sees; default: a bar or lines.

    Returns:
      The last state.

    Raises:
      Interrupted: a signal came, where somebody listens (see `signals.py`), and the state is saved.
      AllLost: no network is left.
      UserError: a save failed.
    """
    settings, total, first = learner.settings, learner.total, processes.is_first()
    times = lambda every: Timetable(every, total, learner.order.examples, settings.train.batch_size)
    rows, evaluations, saves = (times(part.every) for part in (settings.log, settings.evaluation, settings.checkpoint))
    step = int(np.asarray(state.step).max())
    end = total if last is None else min(last, total)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(signals.saving())
        openers = trackers.chosen(settings) if first else []
        files = [
            stack.enter_context(
                contextlib.closing(
                    MetricFiles(each, step, [opener(each, step) for opener in openers], listen) if first else NoFiles()
                )
            )
            for each in folders
        ]
        progress = progress or (make_progress(total, step) if processes.speaks() else Silence(total))
        trace = Profile(profile, progress.log if first else functools.partial(print, file=sys.stderr, flush=True))
        stack.enter_context(contextlib.closing(trace))
        stack.enter_context(progress)
        worker = _Worker(learner, state, files, progress, checkpoints, watched, best)
        examples = settings.train.batch_size * len(files)
        most = 1e12 * settings.log.peak or peak(learner.parallel.devices, settings.train.precision)
        clock = Clock(examples, files[0].seconds, learner.flops, most)
        pace = Pace(learner.feed.most_steps)
        agreement = processes.Agreement()
        under_way: collections.deque[_Stretch] = collections.deque()
        settled = time.perf_counter()  # when the devices were last seen to be done with something

        def fetch(start, steps):
            dues = [*(table.after(start) for table in (rows, evaluations, saves)), agreement.step]
            until = min([start + steps, end, *(due for due in dues if due is not None and due > start)])
            return until, learner.begin(start, until)

        def settle(most):
            """Waits until so many stretches at most are under way, and reads what the others leave."""
            nonlocal settled
            while len(under_way) > most:
                done = under_way.popleft()
                worker.drop_lost(done.report, step)
                now = time.perf_counter()
                seconds, settled = now - max(settled, done.began), now
                if done.is_first and started is not None:
                    progress.log(f"first step done {now - started:.1f} s after the start")
                watchdog.note()
                clock.note(done.until - done.start, seconds, min(done.waited, seconds))
                pace.note(done.until - done.start, seconds)
                worker.show(done, clock, done.until in rows)
                if done.until in rows:
                    worker.write_training_rows(done)
                trace.note()

        coming, is_first = None, True  # nothing has been stepped yet, so nothing is due
        while True:
            stopping, steps = agreement.ask(step, stop(), pace.steps, pace.steps_in(AGREEMENT_SECONDS))
            evaluating, saving = step in evaluations and not is_first, step in saves
            if is_first or evaluating or saving or stopping or step == end or step in rows and worker.looks_at_states:
                settle(0)
            if step in rows and not is_first:
                worker.zero_totals()
            scores = worker.evaluate(step) if evaluating else None
            scheduled = saving or worker.is_best(scores)
            if not is_first and (scheduled or stopping or step == end):
                worker.save(step, scores if scheduled else None, scheduled)
            if stopping:
                checkpoints.wait()
                raise Interrupted(f"saved at step {step:,} of {total:,}; the same command continues")
            if step >= end:
                break
            until, fetched = coming or fetch(step, steps)
            began = time.perf_counter()
            data = fetched.result()
            # The devices have waited only if they were done with what was under way.
            idle = not under_way or under_way[-1].report.counts.is_ready()
            waited = time.perf_counter() - began if idle else 0.0
            report = worker.advance(data, step, until)
            under_way.append(_Stretch(step, until, report, began, waited, is_first))
            step = until
            if is_first:
                settle(0)  # it was compiled in that time, and says how long the next ones should be
                is_first = False
                learner.prepare_evaluation(worker.state.evaluated, watched)  # while the next ones are computed
            coming = fetch(step, steps) if step < end else None
            settle(1)
        checkpoints.wait()
        return worker.state


@dataclasses.dataclass(frozen=True)
class _Stretch:
    """Steps that were given to the devices.

    Attributes:
      start, until: the steps before and after them.
      report: of the state after them; there when they are computed.
      began: when their data were asked for.
      waited: seconds that the devices waited for these.
      is_first: whether they are the first of this start.
    """

    start: int
    until: int
    report: Report
    began: float
    waited: float
    is_first: bool


class _Worker:
    """The things that the loop does to the state, in its order.

    Attributes:
      state: of all networks.
      alive: bool [R], which are trained.
    """

    def __init__(self, learner, state, files, progress, checkpoints, watched, best):
        self.learner, self.state, self.files, self.progress = learner, state, files, progress
        self.checkpoints, self.watched, self.best = checkpoints, watched, best
        measured = learner.settings.log.layers and processes.is_first()
        self.layers = LayerMetrics(learner, learner.training) if measured else NoLayerMetrics()
        self.looks_at_states = measured
        self.factors = [float(plateau.factor) for plateau in learner.each(state.plateau)]
        self.times, self.timed = None, 0.0  # the last row of timing.jsonl until it is written, and the time of that
        steps = np.atleast_1d(np.asarray(state.step))
        self.alive = steps == steps.max()
        self.top = checkpoints.top_score()

    def _living(self, things):
        return [(k, thing) for k, thing in enumerate(things) if self.alive[k]]

    def advance(self, data, step, stop) -> Report:
        """Begins a stretch of steps."""
        self.state, report = self.learner.advance(self.state, data, (stop - step) * self.alive)
        return report

    def drop_lost(self, report, step):
        """Marks the networks that are not finite any more; the only one ends the run.

        Args:
          report: of a stretch; this waits for it.
          step: that the others have come to, or will when all that is under way is done. The lost ones stay where they
            were lost.
        """
        finite = np.atleast_1d(report.finite)
        self._drop({k: _not_finite for k in np.flatnonzero(self.alive & ~finite)}, step)

    def _drop(self, lost, step):
        if not lost:
            return
        states = self.learner.each(self.state)
        reasons = {k: reason(self, states[k]) for k, reason in lost.items()}
        count = len(states)
        fresh = self.learner.each(self.learner.initial())
        for k, reason in reasons.items():
            self.alive[k] = False
            at = min(int(states[k].step), step) - 1  # below the step of the others, for good
            states[k] = fresh[k]._replace(step=np.int32(at))
            if count > 1:
                self.progress.log(f"seed {self.learner.seeds[k]} is lost, the others go on: {reason}")
        self.state = self.learner.joined(states)
        if not self.alive.any():
            raise AllLost(reason if count == 1 else f"all {count} seeds are lost; the last one: {reason}", self.state)

    def show(self, done, clock, due):
        """Writes the progress line and, where it is due or some time after the last, a row of timing.jsonl."""
        living = self._living(done.report.totals())
        known = [metric for metric in metrics.numbers() if metric.of_totals]
        means = {metric.name: np.mean([metric.of_totals(totals) for _, totals in living]) for metric in known}
        self.progress.step(done.until, metrics.described(means), clock)
        self.times = {
            "step": done.until,
            "seconds": round(clock.seconds, 3),
            "examples_per_second": round(clock.examples_per_second, 1),
            "mean_examples_per_second": round(clock.mean_rate, 1),
            "flops_per_second": round(clock.flops_per_second),
            "utilisation": clock.utilisation,
            "waiting": round(clock.waiting, 4),
            "seeds": len(self.files),
            "memory": self.learner.program.memory,
        }
        if due or clock.seconds - self.timed >= TIMING_SECONDS:
            self.write_times()

    def write_times(self):
        """Writes a row of timing.jsonl, unless the last one is written already."""
        if self.times:
            self.timed = self.times["seconds"]
            for file in self.files:
                file.write_timing(self.times)
        self.times = None

    def write_training_rows(self, done):
        """Writes a row of means since the row before, for each network."""
        learner, step, totals = self.learner, done.until, done.report.totals()
        for k, file in self._living(self.files):
            rate = float(learner.schedule(step - 1)) * self.factors[k]
            file.write(training_row(step, learner.order.epoch(step), totals[k], rate))
            file.write_layers(self.layers.rows(k, self.state, step))

    def zero_totals(self):
        """Begins the sums of the next training row; waits for nothing."""
        self.state = self.state._replace(totals=_zeroed(self.state.totals))

    def evaluate(self, step):
        """Returns a row of the watched split for each network, and what the plateau schedule makes of it.

        Returns:
          Each one's score for "best", [R]; None where the split is the test set, which never gives one.
        """
        learner, found = self.learner, self.learner.evaluate(self.state.evaluated, self.watched)
        rows = [evaluation_row(step, learner.order.epoch(step), self.watched.split, each) for each in found]
        for k, file in self._living(self.files):
            file.write(rows[k])
        living = [row for _, row in self._living(rows)]
        said = [metric.name for metric in metrics.numbers() if all(row[metric.name] is not None for row in living)]
        means = metrics.described({name: np.mean([row[name] for row in living]) for name in said})
        self.progress.measured(step, learner.order.epoch(step), self.watched.split, means)
        schedule = learner.settings.schedule.kind
        if isinstance(schedule, Plateau):
            plateaus = [
                plateau_update(plateau, each.loss, schedule) if alive else plateau
                for plateau, each, alive in zip(learner.each(self.state.plateau), found, self.alive)
            ]
            self.state = self.state._replace(plateau=learner.joined(jax.device_get(plateaus)))
            self.factors = [float(plateau.factor) for plateau in plateaus]
        if self.watched.split != "validation":
            return None
        scores = [row["accuracy"] if alive else -np.inf for row, alive in zip(rows, self.alive)]
        self.best.note(self.state, scores)
        return scores

    def is_best(self, scores):
        """Tells whether a single network has never had a better score: it is then saved, whenever saves are due."""
        if scores is None or not self.checkpoints.keeps_best or scores[0] <= self.top:
            return False
        self.top = scores[0]
        return True

    def save(self, step, scores, scheduled):
        """Saves a checkpoint of all networks, with the score of a single one."""
        states = self.learner.each(self.state)
        self._drop({k: _not_saved(name) for k, each in self._living(states) if (name := _first_bad_leaf(each))}, step)
        self.write_times()
        for file in self.files:
            file.flush()
        score = scores[0] if scores and len(self.files) == 1 else None
        self.checkpoints.save(step, self.state, self.learner.settings, score, scheduled=scheduled)


@functools.partial(jax.jit, donate_argnums=0)
def _zeroed(totals):
    """Totals of no steps; where a sum was not finite it stays so, as nobody may have looked yet."""
    return jax.tree.map(lambda total: jnp.where(jnp.isfinite(total), 0, total), totals)


class Pace:
    """The steps to put in one dispatch: one at first, then `DISPATCH_SECONDS` worth, or a few where each is slow."""

    def __init__(self, most: int):
        self._most = most
        self._step_seconds = None
        self._compiled = False
        self.steps = 1

    def steps_in(self, seconds: float) -> int:
        """Returns about how many steps are done in some seconds, 1 at least."""
        return max(1, int(seconds / self._step_seconds)) if self._step_seconds and DISPATCH_SECONDS else 1

    def note(self, steps: int, seconds: float):
        """Learns from a dispatch; the first one does not count, as it was compiled in that time."""
        if self._compiled:
            each = self._step_seconds = max(seconds, 1e-6) / steps
            wanted = int(DISPATCH_SECONDS / each)
            if DISPATCH_SECONDS:
                wanted = max(wanted, min(SHARED_STEPS, int(SHARED_SECONDS / each)))
            self.steps = max(1, min(self._most, wanted, 10 * self.steps))
        self._compiled = True


def _first_bad_leaf(state):
    # The plateau's best loss is infinite until the first evaluation; totals were written as a row.
    for name, leaf in named_leaves(state._replace(plateau=None, totals=None)).items():
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
            return name
    return None


def _not_saved(name):
    def reason(worker, state):
        del worker
        return (
            f"not saved at step {int(state.step)}: {name} holds numbers that are not finite; "
            "lower optimizer.learning_rate"
        )

    return reason


def _not_finite(worker, state):
    step = int(state.step) - 1
    rate = float(worker.learner.schedule(step)) * float(state.plateau.factor)
    leaves = named_leaves(state.params)
    largest = max(float(np.abs(leaf[np.isfinite(leaf)]).max(initial=0)) for leaf in leaves.values())
    bad = [name for name, leaf in leaves.items() if not np.isfinite(leaf).all()]
    latest = worker.checkpoints.latest()
    return (
        f"the loss or its gradient is not a finite number at step {step}: learning rate {rate:.3g}, "
        f"gradient norm {float(state.totals.gradient_norm):.3g}, largest finite parameter {largest:.3g}, "
        f"first bad leaf {next(iter(bad), 'none')}. Nothing of it was saved; the last checkpoint is "
        f"{'step ' + str(latest) if latest is not None else 'none'}. "
        "Lower optimizer.learning_rate, add schedule.warmup, or set optimizer.clip_norm"
    )
