"""A whole study: its arms one after the other, and what they add up to.

The workdir of a study:

study.json     the arms, the base, the protocol; a study continues only under the same ones
starts.jsonl   as of a run
arms/NAME/     see `arm.py`
results.csv    one row for each arm and seed
summary.csv    one row for each arm, with its difference to the baseline
table.tex      the same, for a paper
report.html
"""

import dataclasses
import time
import traceback
from pathlib import Path

import jax

from cnn_jax import files, run_data, workdir
from cnn_jax.config.study import Study
from cnn_jax.data.datasets import source
from cnn_jax.data.identity import Identity
from cnn_jax.devices import choice
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import Interrupted, UsageError, UserError
from cnn_jax.studies import arm as arms
from cnn_jax.studies import measurements, results
from cnn_jax.training.learner import Cost, Learner, load


def _cost(study, arm):
    try:
        return Learner(dataclasses.replace(study.settings(arm), parallel="jit")).cost
    except UsageError as error:
        raise UsageError(f"arm {arm.name!r} of {study.experiment}: {error}") from None


def checked(study: Study) -> dict[str, Cost]:
    """The sizes of the chosen arms' networks.

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


def run(study: Study, folder: Path, log, profile: bool = False, known: Identity | None = None) -> list[str]:
    """Trains and measures all arms that are not finished; the failures, a line each.

    Args:
      study: the study.
      folder: its workdir, claimed by the caller.
      log: prints a line.
      profile: whether to trace some steps of each arm.
      known: the data of its base; None where they are not prepared yet.

    Raises:
      Interrupted: a signal came, and the arm is saved.
      UserError: see the message.
    """
    checked(study)
    count = study.protocol.seeds
    for seeds in study.groups:
        Parallel(choice.mode_for(study.base, len(seeds)), seeds=len(seeds))
    workdir.store_study(folder, study)
    known = known or _prepared(study.base)
    run_data.store(folder, known)
    for line in run_data.told(known):
        log(line)
    devices = [str(device) for device in jax.devices()]
    protocol = dataclasses.asdict(study.protocol)
    workdir.record_start(folder, study.base, devices=devices, study=protocol, **choice.numerics())
    chosen, failures = study.chosen, []
    files.make_folder(folder / "arms")
    for place, arm in enumerate(chosen, 1):
        title = f"arm {place}/{len(chosen)} {arm.name}"
        if arms.is_finished(arms.folder_of(folder, arm)):
            damage = _damage(arm, arms.folder_of(folder, arm))
            log(f"{title}: {f'{damage}; it is trained again' if damage else 'already done'}")
            if not damage:
                continue
            (arms.folder_of(folder, arm) / arms.DONE).unlink()
        log(f"{title}: {count} seeds{''.join(', ' + change for change in arm.changes)}")
        began = time.perf_counter()
        failed = _failure(study, arm, folder, profile, known)
        if failed:
            failures.append(f"arm {arm.name} failed: {failed}")
        log(failures[-1] if failed else f"{title}: done in {time.perf_counter() - began:.0f} s")
    return failures


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


def _failure(study, arm, folder, profile, known):
    """Runs an arm; "", or why it failed, which is written beside its folder as well."""
    path = arms.failure_of(folder, arm)
    try:
        arms.train(study, arm, arms.folder_of(folder, arm), profile, known)
    except Interrupted:
        raise
    except UserError as error:
        files.write_text(path, str(error))
        return str(error)
    except Exception as error:  # whatever breaks one arm must not cost the others their hours
        files.write_text(path, traceback.format_exc())
        return f"{type(error).__name__}: {error} (details in {path})"
    path.unlink(missing_ok=True)
    return ""
