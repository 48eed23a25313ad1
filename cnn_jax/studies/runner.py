"""A whole study: its arms one after the other, and what they add up to.

Several processes, of one machine or of many, work on a study that lies where all of them can write: each takes a group
of seeds of an arm that nobody works on, and looks for the next when it is done. One that dies leaves its group to the
others, which go on from its last checkpoint.

The workdir of a study:

study.json     the arms, the base, the protocol; a study continues only under the same ones
starts.jsonl   as of a run
arms/NAME/     see `arm.py`
results.csv    one row for each arm and seed
summary.csv    one row for each arm, with its difference to the baseline
table.tex      the same, for a paper
report.html
"""

import contextlib
import dataclasses
import functools
import time
import traceback
from pathlib import Path

import jax

from cnn_jax import files, leases, run_data, watchdog, workdir
from cnn_jax.config.study import Study
from cnn_jax.data.datasets import source
from cnn_jax.data.identity import Identity
from cnn_jax.devices import choice
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import Interrupted, UsageError, UserError
from cnn_jax.progress import duration
from cnn_jax.studies import arm as arms
from cnn_jax.studies import group, measurements, results, sweeps
from cnn_jax.training.learner import Cost, Learner, load

WAIT = 0.5  # seconds between looks for something to do
TIMED = 1.0  # seconds of steps from which an estimate is made


def _cost(study, arm):
    try:
        return Learner(dataclasses.replace(study.settings(arm), parallel="jit")).cost
    except UsageError as error:
        raise UsageError(f"arm {arm.name!r} of {study.experiment}: {error}") from None


def checked(study: Study) -> dict[str, Cost]:
    """Returns the sizes of the chosen arms' networks.

    Raises:
      UsageError: a network cannot be built, or an arm has another number of parameters than the baseline and does
        not say why.
    """
    costs = {arm.name: _cost(study, arm) for arm in study.chosen}
    expected = costs[study.baseline].parameters
    silent = [
        f"arm {arm.name!r} has {costs[arm.name].parameters:,} parameters, and the baseline {study.baseline!r} has "
        f"{expected:,}"
        for arm in study.chosen
        if costs[arm.name].parameters != expected and not arm.parameters
    ]
    if silent:
        raise UsageError(
            "\n".join(silent) + "\nsay why in the arm's `parameters`, or change it so that the numbers are equal"
        )
    return costs


def plan(study: Study) -> str:
    """Returns what a study would do, as a table: arms, their size, and what differs from the base."""
    costs = checked(study)
    baseline = costs[study.baseline]
    lines = [
        f"{study.experiment}: {len(study.chosen)} arms x {study.protocol.seeds} seeds, {study.base.train.duration} of "
        f"{study.base.data.name}, baseline {study.baseline}",
        *_sweep_plan(study),
        f"measured: accuracy{''.join(', ' + name for name in study.protocol.measurements)}; of "
        + {"last": "the last step", "best": "the step with the best validation accuracy"}[study.protocol.select],
        *(f"  {name}: {measurements.summary(name)}" for name in study.protocol.measurements),
        "",
    ]
    heads = ("arm", "parameters", "multiply-adds", "what differs")
    cells = [heads]
    for arm in study.chosen:
        size = costs[arm.name]
        words = " ".join(arm.changes) or "(the base)"
        if size.parameters != baseline.parameters:
            words += f"  [{size.parameters - baseline.parameters:+,} parameters: {arm.parameters}]"
        cells.append((arm.name, f"{size.parameters:,}", f"{size.multiply_adds:,}", words))
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    for name, parameters, adds, words in cells:
        lines.append(f"{name:<{widths[0]}}  {parameters:>{widths[1]}}  {adds:>{widths[2]}}  {words}".rstrip())
    return "\n".join(lines)


def estimate(study: Study) -> str:
    """Returns how long a study would take here, in words: some steps of its baseline are timed, which takes seconds.

    Args:
      study: the study, whose data must be prepared; otherwise that is what is said.
    """
    baseline = next(arm for arm in study.chosen if arm.name == study.baseline)
    settings = study.settings(baseline)
    if not source.of(settings.data).is_prepared():
        return f"how long it will take is not known before {settings.data.name} is prepared (--mode=prepare)"
    seeds = study.groups[0]
    with contextlib.closing(Learner(settings, seeds, load(settings, "train"))) as learner:
        most = learner.feed.most_steps
        state, compiling = _timed(learner, learner.initial(), 1)
        count = min(most, 2)
        state, seconds = _timed(learner, state, count)
        while seconds < TIMED and count < most:
            count = min(most, max(2 * count, int(count * TIMED / seconds)))
            state, seconds = _timed(learner, state, count)
        total = learner.total
    step = seconds / count / len(seeds)  # of one network
    arms = len(study.chosen)
    steps = duration(arms * total * sum(study.sizes) * step)  # the runs of a sweep have almost as many
    return (
        f"about {steps} of steps here ({1000 * step:,.1f} ms for each network, as the baseline's), and "
        f"{duration(arms * compiling)} or more of compiling; measuring is not counted"
    )


def _timed(learner, state, steps):
    """The state after some steps, and the seconds that they took."""
    data = learner.begin(0, steps).result()
    began = time.perf_counter()
    state, report = learner.advance(state, data, [steps] * len(learner.seeds))
    jax.block_until_ready(report)
    return state, time.perf_counter() - began


def _sweep_plan(study):
    if study.sweep is None:
        return []
    runs = len(study.sweep.values) * study.protocol.sweep_seeds
    return [
        f"each arm with the best {study.sweep.setting} of {', '.join(study.sweep.values)}: {runs} runs, compared on "
        "training images held out for that"
    ]


def run(study: Study, folder: Path, log, profile: bool = False, known: Identity | None = None) -> list[str]:
    """Trains and measures all arms that are not finished, with other processes that do so; the failures, a line each.

    Args:
      study: the study.
      folder: its workdir.
      log: prints a line.
      profile: whether to trace some steps of each arm.
      known: the data of its base; None where they are not prepared yet.

    Raises:
      Interrupted: a signal came, and the group is saved.
      UserError: see the message.
    """
    checked(study)
    for size in study.sizes:
        Parallel(choice.mode_for(study.base, size), seeds=size)
    known = known or _prepared(study.base)
    devices = [str(device) for device in jax.devices()]
    protocol = dataclasses.asdict(study.protocol)
    files.make_workdir(folder)
    with leases.waited_for(folder):
        files.sweep(folder)
        workdir.check_same_study(folder, study, resume=True)
        workdir.store_study(folder, study)
        run_data.store(folder, known)
        workdir.record_start(folder, study.base, devices=devices, study=protocol, **choice.numerics())
    for line in run_data.told(known):
        log(line)
    return _Crew(study, folder, log, profile, known).work()


class _Crew:
    """This process's part in a study.

    Attributes:
      failures: by name of arm, why it failed, here or in another process since this one began.
    """

    def __init__(self, study: Study, folder: Path, log, profile: bool, known: Identity):
        self.study, self.folder, self.log, self.profile, self.known = study, folder, log, profile, known
        self.failures: dict[str, str] = {}
        self._earlier = {arm.name: self._failed(arm) for arm in study.chosen}
        self._said: set[str] = set()

    def work(self) -> list[str]:
        """Takes group after group until every arm is finished or has failed; the failures, a line each."""
        for arm in self.study.chosen:
            self._look(arm)
        while waiting := [arm for arm in self.study.chosen if not self._is_settled(arm)]:
            # Those that nobody has begun, and only then those whose owner may have been killed.
            if not any(self._take(arm, ask) for ask in (False, True) for arm in waiting):
                watchdog.note()
                time.sleep(WAIT)
        return [f"arm {name} failed: {why}" for name, why in self.failures.items()]

    def _own(self, arm):
        return arms.folder_of(self.folder, arm)

    def _title(self, arm):
        return f"arm {self.study.chosen.index(arm) + 1}/{len(self.study.chosen)} {arm.name}"

    def _look(self, arm):
        """Says what is there of an arm; what is damaged is trained again."""
        own = self._own(arm)
        if arms.is_finished(own):
            damage = _damage(arm, own)
            self.log(f"{self._title(arm)}: {f'{damage}; it is trained again' if damage else 'already done'}")
            if damage:
                (own / arms.DONE).unlink(missing_ok=True)

    def _failed(self, arm):
        """What is another with every failure of an arm; "" where it has not failed."""
        try:
            return files.version(arms.failure_of(self.folder, arm))
        except OSError:
            return ""

    def _is_settled(self, arm):
        if arm.name in self.failures or arms.is_finished(self._own(arm)):
            return True
        if self._failed(arm) in ("", self._earlier[arm.name]):  # an earlier start failed; it is tried again
            return False
        said = arms.failure_of(self.folder, arm).read_text(encoding="utf-8", errors="replace")
        self.failures[arm.name] = f"{said.strip().rpartition(chr(10))[2]} (in another process)"
        return True

    def _take(self, arm, ask) -> bool:
        """Tells whether there was something to do for an arm, which is done then."""
        own = self._own(arm)
        try:
            if self.study.sweep and not sweeps.is_finished(own):
                count = len(self.study.trials)
                runs = {sweeps.group_folder(own, k): functools.partial(self._try, arm, k) for k in range(count)}
                return self._take_one(runs, ask, sweeps.folder_of(own), functools.partial(self._choose, arm))
            groups = self.study.groups
            runs = {arms.group_folder(own, seeds): functools.partial(self._train, arm, seeds) for seeds in groups}
            return self._take_one(runs, ask, own, functools.partial(self._finish, arm))
        except Interrupted:
            raise
        except UserError as error:
            self._fail(arm, str(error), str(error))
        except Exception as error:  # whatever breaks one arm must not cost the others their hours
            path = arms.failure_of(self.folder, arm)
            self._fail(arm, f"{type(error).__name__}: {error} (details in {path})", traceback.format_exc())
        return True

    def _take_one(self, runs, ask, place, finish) -> bool:
        """Trains a group that is not done and nobody works on or, when all are done, ends their work; whether it could.

        Args:
          runs: what trains each group, by its folder.
          ask: whether to ask owners for a sign of life.
          place: the folder of them all.
          finish: ends their work.
        """
        left = {group_place: run for group_place, run in runs.items() if not group.is_done(group_place)}
        taken = any(self._alone(group_place, ask, run) for group_place, run in left.items())
        return taken or not left and self._alone(place, ask, finish)

    def _alone(self, place, ask, do) -> bool:
        """Does something in a folder that no other process works in; whether it could."""
        files.make_folder(place)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(leases.held(place, ask, self._say_once))
            except leases.Busy as busy:
                if ask:
                    self._say_once(f"waiting: {busy.what}")
                return False
            except FileNotFoundError:  # whoever finished the arm has removed it since
                return False
            do()
        return True

    def _say_once(self, line):
        if line not in self._said:
            self._said.add(line)
            self.log(line)

    def _try(self, arm, number):
        """Trains a group of runs of an arm's sweep, unless others did so before this process had it."""
        own = self._own(arm)
        if sweeps.is_finished(own):
            files.remove_folder(sweeps.folder_of(own) / "checkpoints")  # whose folder was just made anew
        if self._is_settled(arm) or sweeps.is_finished(own) or group.is_done(sweeps.group_folder(own, number)):
            return
        trials = self.study.trials[number]
        values = ", ".join(dict.fromkeys(value for value, _ in trials))
        runs = f"{len(trials)} run{'s' * (len(trials) > 1)}"
        self.log(f"{self._title(arm)}: sweep, {runs} with {self.study.sweep.setting} = {values}")
        sweeps.train(self.study, arm, number, own, self.known)

    def _choose(self, arm):
        """Ends the sweep of an arm, unless others have."""
        own = self._own(arm)
        if self._is_settled(arm) or sweeps.is_finished(own):
            return
        found = sweeps.finish(self.study, own)
        self.log(f"{self._title(arm)}: {found.setting} = {found.value} is best on {found.images:,} held-out images")

    def _train(self, arm, seeds):
        """Trains a group, unless others did so before this process had it."""
        own, title = self._own(arm), self._title(arm)
        if arms.is_finished(own):
            files.remove_folder(own / "checkpoints")  # whose folder was just made anew
        if self._is_settled(arm) or group.is_done(arms.group_folder(own, seeds)):
            return
        title += f", seeds {seeds[0]} to {seeds[-1]}" if len(self.study.groups) > 1 else ""
        self.log(
            f"{title}: {len(seeds)} seed{'s' * (len(seeds) > 1)}{''.join(', ' + change for change in arm.changes)}"
        )
        began = time.perf_counter()
        arms.train(self.study, arm, seeds, own, self.profile, self.known)
        self.log(f"{title}: done in {time.perf_counter() - began:.0f} s")

    def _finish(self, arm):
        """Makes the arm of its groups, unless others have."""
        if not self._is_settled(arm):
            arms.finish(self.study, arm, self._own(arm))
            arms.failure_of(self.folder, arm).unlink(missing_ok=True)

    def _fail(self, arm, said, details):
        self.failures[arm.name] = said
        self.log(f"arm {arm.name} failed: {said}")
        files.write_text(arms.failure_of(self.folder, arm), details)


def _damage(arm, own):
    """The reason why the results of a finished arm cannot be used; "" if there is none."""
    try:
        results.load_arm(arm, own)
    except ValueError as error:
        return str(error)
    return ""


def _prepared(base):
    """The data of a study's base, prepared if need be."""
    load(base, "test")
    return source.identity(base.data)
