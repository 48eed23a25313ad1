"""The loop: rows, saves, signals, crashes and continuing, with every random and stateful part of the recipe on.

These runs are compiled as users' are, so that "equal to the bit" is said of the same programs.
"""

import contextlib
import math
import os
import re
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import PLAIN, RECIPE, STEPS, TinyRun, assert_same_bits, dataset

from cnn_jax import signals
from cnn_jax.config import overrides
from cnn_jax.errors import EXIT_INTERRUPTED, Interrupted, UserError
from cnn_jax.progress import Lines
from cnn_jax.training import loop
from cnn_jax.training import step as training_step
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.learner import Learner
from cnn_jax.training.metric_files import read_rows, read_timing
from cnn_jax.training.metrics import Evaluation
from cnn_jax.training.state import Variables, named_leaves


class Acting(Lines):
    """Does something once the run has come to a step."""

    def __init__(self, at=STEPS + 1, act=lambda: None):
        super().__init__(STEPS)
        self._at, self._act, self.stopped_at = at, act, None

    def log(self, text):
        pass

    def step(self, step, text, clock):
        if step >= self._at and self.stopped_at is None:
            self.stopped_at = step
            self._act()


def train(run, folder, progress=None, keep=10, spoil=lambda state: state, **more):
    """Starts or continues the run in a folder, as `run.train` does; the last state."""
    checkpoints = Checkpoints(folder, keep)
    latest = checkpoints.latest()
    state = run.first_state() if latest is None else checkpoints.restore(latest, run.learner.state_like())
    validation, started = dataset("validation", 20), time.perf_counter()
    try:
        with signals.heard():
            return loop.train(
                run.learner, spoil(state), checkpoints, [folder], validation,
                started=started, progress=progress or Acting(), **more,
            )  # fmt: skip
    finally:
        checkpoints.close()


def metrics(folder):
    return [(folder / name).read_bytes() for name in ("metrics.jsonl", "metrics.csv")]


@pytest.fixture(scope="module")
def run():
    return TinyRun()


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """An uninterrupted run: its folder and last state."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(run, folder)


def test_rows_and_saves_come_when_they_are_due(run, whole):
    folder, state = whole
    rows = read_rows(folder)
    times = {split: [row["step"] for row in rows if row["split"] == split] for split in ("train", "validation")}
    assert times == {"train": [3, 6, 9, 12, 15, 18, 20], "validation": [8, 16, 20]}
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert all(row["epoch"] == row["step"] * 16 / 50 for row in rows)
    checkpoints = Checkpoints(folder, keep=10)
    assert checkpoints.latest() == STEPS
    assert_same_bits(checkpoints.restore(STEPS, run.learner.state_like()), state)
    checkpoints.close()
    assert sorted(int(path.name) for path in (folder / "checkpoints").iterdir()) == [5, 10, 15, 20]
    timing = read_timing(folder)
    assert timing[-1]["step"] == STEPS and all(0 <= row["waiting"] <= 1 for row in timing)


def test_training_rows_are_means_since_the_row_before(run, whole):
    losses, _ = run.losses()
    rows = [row for row in read_rows(whole[0]) if row["split"] == "train"]
    for start, row in zip([0, 3, 6, 9, 12, 15, 18], rows, strict=True):
        assert row["loss"] == pytest.approx(losses[start : row["step"]].mean(), rel=1e-6)
        assert row["learning_rate"] == float(run.schedule(row["step"] - 1))
        assert 0 <= row["accuracy"] <= 1 and row["gradient_norm"] > 0


def test_evaluation_rows_are_of_the_averaged_parameters(run, whole):
    folder, state = whole
    outcome = run.evaluator(state.evaluated, dataset("validation", 20))
    row = read_rows(folder)[-1]
    assert (row["split"], row["loss"], row["accuracy"]) == ("validation", outcome.loss, outcome.accuracy)
    assert row["loss"] != run.evaluator(Variables(state.params, {}), dataset("validation", 20)).loss
    assert row["learning_rate"] is None and row["gradient_norm"] is None


@pytest.mark.parametrize("stretches", [[20], [1, 1, 3, 15], [7, 13], [1] * 20])
def test_however_a_run_is_cut_it_is_the_same_to_the_bit(run, stretches, whole):
    state = run.first_state()
    for steps in stretches:
        state = run.advance(state, steps)
    assert int(state.step) == STEPS
    # All but the totals, which the loop sets to zero at every row.
    assert_same_bits(state._replace(totals=None), whole[1]._replace(totals=None))


def test_training_from_the_host_is_the_same_to_the_bit(whole, tmp_path):
    host = TinyRun("data.placement=host")
    assert type(host.feed).__name__ == "HostFeed"
    assert_same_bits(train(host, tmp_path), whole[1])
    assert metrics(tmp_path) == metrics(whole[0])


def test_a_run_once_more_is_the_same_to_the_byte(run, whole, tmp_path):
    assert_same_bits(train(run, tmp_path), whole[1])
    assert metrics(tmp_path) == metrics(whole[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [1, 7, 13])
def test_a_signal_saves_at_the_very_step_and_continuing_leaves_no_trace(run, number, at, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "DISPATCH_SECONDS", 0.0)  # one step at a time
    before = signal.getsignal(number)
    stop = Acting(at, lambda: os.kill(os.getpid(), number))
    # Another step is under way while one is seen to be done, but for the first.
    saved = at + (at > 1)
    with pytest.raises(Interrupted, match=f"saved at step {saved} of {STEPS}; the same command continues") as caught:
        train(run, tmp_path, stop)
    assert caught.value.exit_code == EXIT_INTERRUPTED == 75
    assert signal.getsignal(number) is before
    assert (tmp_path / "checkpoints" / str(saved)).is_dir()
    assert max(row["step"] for row in read_timing(tmp_path)) == saved and stop.stopped_at == at
    monkeypatch.undo()
    assert_same_bits(train(run, tmp_path), whole[1])
    assert metrics(tmp_path) == metrics(whole[0])


def test_training_in_parts_leaves_no_trace_and_tells_each_row(run, whole, tmp_path):
    rows = []
    for last in (1, 7, 13, STEPS + 5):
        assert int(train(run, tmp_path, last=last, listen=rows.append).step) == min(last, STEPS)
        assert (tmp_path / "checkpoints" / str(min(last, STEPS))).is_dir()
    assert metrics(tmp_path) == metrics(whole[0])
    assert rows == read_rows(tmp_path)


@pytest.mark.parametrize("at", [2, 8, 17])
def test_continuing_after_a_crash_leaves_no_trace(run, at, whole, tmp_path):
    """Nothing is saved at the crash: the run goes back to a checkpoint, and its rows after that are written anew."""

    class Crash(Exception):
        pass

    def crash():
        raise Crash

    with pytest.raises(Crash):
        train(run, tmp_path, Acting(at, crash))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 18, "ep')
    assert_same_bits(train(run, tmp_path), whole[1])
    assert metrics(tmp_path) == metrics(whole[0])


def test_a_finished_run_has_nothing_left_to_do(run, whole):
    before = metrics(whole[0])
    assert_same_bits(train(run, whole[0]), whole[1])
    assert metrics(whole[0]) == before


def test_a_state_that_is_not_finite_is_not_saved(run, tmp_path):
    """The average can be lost while the loss is still a number."""

    def spoil(state):
        ema = jax.tree.map(lambda leaf: leaf.at[:1].set(np.inf) if leaf.ndim == 1 else leaf, state.ema)
        return state._replace(ema=ema)

    with pytest.raises(UserError, match="not saved at step 5: ema.conv1.bias holds numbers that are not finite"):
        train(run, tmp_path, spoil=spoil)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_the_plateau_schedule_shows_in_the_rows(tmp_path, monkeypatch):
    """Evaluations at steps 8, 16 and 20 give the same loss: the factor falls after the second and the third."""
    run = TinyRun("schedule.name=plateau", "schedule.patience=1", "schedule.factor=0.5", "data.validation=1")
    flat = lambda variables, data: [Evaluation(np.ones(1, np.float32), np.eye(10, dtype=np.float32)[:1], np.int32([0]))]
    monkeypatch.setattr(run.learner, "evaluate", flat)
    state = train(run, tmp_path)
    rates = {row["step"]: row["learning_rate"] for row in read_rows(tmp_path) if row["split"] == "train"}
    for step, rate in rates.items():
        factor = 1.0 if step <= 16 else 0.5
        assert math.isclose(rate, float(run.schedule(step - 1)) * factor, rel_tol=1e-6)
    assert float(state.plateau.factor) == 0.25  # again at step 20


def train_two(learner, folder, progress=None):
    """Trains or continues seeds together in a folder, as a study does; the last states."""
    folders = [folder / f"seed-{seed}" for seed in learner.seeds]
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        latest = checkpoints.latest()
        state = learner.initial() if latest is None else checkpoints.restore(latest, learner.state_like())
        validation = dataset("validation", 20)
        last = loop.train(learner, state, checkpoints, folders, validation, progress=progress or Acting())
    return learner.each(last)


@pytest.mark.slow
def test_each_of_two_seeds_leaves_the_bytes_of_a_run_of_its_own(whole, tmp_path):
    """Metrics and every leaf of the state, on a CPU."""
    learner = Learner(RECIPE, [RECIPE.seed, 11], dataset())
    learner.feed.most_steps = STEPS
    states = train_two(learner, tmp_path)
    learner.close()
    assert_same_bits(states[0], jax.device_get(whole[1]))
    assert metrics(tmp_path / "seed-3") == metrics(whole[0])
    assert metrics(tmp_path / "seed-11") != metrics(whole[0])
    alone = Learner(overrides.apply(RECIPE, ["seed=11"]), training=dataset())
    alone.feed.most_steps = STEPS
    (tmp_path / "alone").mkdir()
    with contextlib.closing(Checkpoints(tmp_path / "alone")) as checkpoints:
        arguments = alone.initial(), checkpoints, [tmp_path / "alone"], dataset("validation", 20)
        assert_same_bits(loop.train(alone, *arguments, progress=Acting()), states[1])
    assert metrics(tmp_path / "seed-11") == metrics(tmp_path / "alone")


# From here on: what is compiled is not what users run.


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, quick_compile):
    steep = ("optimizer.learning_rate=1e30", "optimizer.clip_norm=0")
    steep += ("schedule.warmup=0 steps", "schedule.name=constant")
    run = TinyRun(*PLAIN, *steep)
    with pytest.raises(UserError) as caught:
        train(run, tmp_path)
    message = str(caught.value)
    numbers = r"at step [12]: learning rate 1e\+30, gradient norm \S+, largest finite parameter \d"
    assert re.search("not a finite number " + numbers, message)
    bad = re.search(r"first bad leaf ([\w.]+)\.", message)[1]
    assert f"params.{bad}" in named_leaves(run.first_state())
    assert "Nothing of it was saved; the last checkpoint is none. Lower optimizer.learning_rate" in message
    assert not (tmp_path / "checkpoints").exists() and read_rows(tmp_path) == []


@pytest.mark.slow
def test_one_seed_is_lost_and_the_others_go_on(tmp_path, monkeypatch, quick_compile):
    """Its loss is made infinite from a step on; what is saved is finite, and a run that continues knows of it."""
    spoilt = lambda state: jnp.where((state.seed == 11) & (state.step >= 7), jnp.inf, 0.0)
    make_loss = training_step._make_loss

    def make(settings, network):
        loss = make_loss(settings, network)

        def worse(params, batch_stats, state, batch):
            value, rest = loss(params, batch_stats, state, batch)
            return value + spoilt(state), rest

        return worse

    monkeypatch.setattr(training_step, "_make_loss", make)
    learner = Learner(RECIPE, [3, 11], dataset())
    learner.feed.most_steps = STEPS
    said = []

    class Telling(Acting):
        def log(self, text):
            said.append(text)

    def crash():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_two(learner, tmp_path, Telling(15, crash))
    assert [line for line in said if "seed 11 is lost, the others go on" in line and "step 7" in line] != []
    states = train_two(learner, tmp_path)
    learner.close()
    assert [int(state.step) for state in states] == [STEPS, 7]
    assert all(np.isfinite(leaf).all() for state in states for leaf in jax.tree.leaves((state.params, state.ema)))
    assert max(row["step"] for row in read_rows(tmp_path / "seed-11")) == 6
    assert max(row["step"] for row in read_rows(tmp_path / "seed-3")) == STEPS


def test_when_no_seed_is_left_training_ends(tmp_path, quick_compile):
    steep = [
        "optimizer.learning_rate=1e30",
        "optimizer.clip_norm=0",
        "schedule.warmup=0 steps",
        "schedule.name=constant",
    ]
    learner = Learner(overrides.apply(RECIPE, [*PLAIN, *steep]), [3, 4], dataset())
    with pytest.raises(UserError, match="all 2 seeds are lost; the last one: the loss or its gradient is not a finite"):
        train_two(learner, tmp_path)
    learner.close()
    assert not (tmp_path / "checkpoints").exists()
