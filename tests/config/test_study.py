"""What a study is: its arms, what may be set, and what is refused."""

import dataclasses

import pytest

from cnn_jax import workdir
from cnn_jax.config import Config, Data, LeNet, Pool, Protocol
from cnn_jax.config.study import Arm, Study, apply
from cnn_jax.errors import UsageError
from cnn_jax.studies import measurements, runner

pytestmark = pytest.mark.versions

STUDY = Study(
    experiment="small",
    base=Config(experiment="small", model=LeNet(activation="relu"), data=Data.of(name="digits")),
    arms=(
        Arm(name="max"),
        Arm(name="average", changes=("model.pool.kind=average",)),
        Arm(name="wide", changes=("model.pool.window=3",), parameters="windows of 3 leave smaller maps"),
    ),
    baseline="max",
    protocol=Protocol(seeds=3),
)


def changed(**fields):
    return dataclasses.replace(STUDY, **fields)


def test_settings_go_to_the_study_or_to_all_arms():
    asked = apply(STUDY, ["study.seeds=5", "study.measurements=consistency, border", "train.batch_size=8", "seed=2"])
    assert (asked.protocol.seeds, asked.protocol.measurements) == (5, ("consistency", "border"))
    for arm, kind in zip(asked.arms, ("max", "average", "max"), strict=True):
        settings = asked.settings(arm)
        assert (settings.train.batch_size, settings.seed, settings.model.pool.kind.name) == (8, 2, kind)
    assert asked.settings(asked.arms[2]).model.pool == Pool(window=3)


def test_arms_may_be_chosen_and_the_baseline_stays():
    assert [arm.name for arm in apply(STUDY, ["study.arms=wide"]).chosen] == ["max", "wide"]
    assert STUDY.chosen == STUDY.arms


def test_an_arm_may_have_another_network_and_keeps_what_both_have():
    other = Arm(name="linear", changes=("model.name=mlp", "model.units=0"), parameters="another network")
    study = apply(changed(arms=(*STUDY.arms, other)), [])
    model = study.settings(other).model
    assert (model.name, model.units, model.activation) == ("mlp", 0, "relu")
    with pytest.raises(UsageError, match="cannot be set: all arms are of one experiment"):
        apply(changed(arms=(*STUDY.arms, Arm(name="x", changes=("experiment=another",)))), [])
    with pytest.raises(UsageError, match="model.name = 'mlp' cannot be set"):  # the base keeps its network
        apply(STUDY, ["model.name=mlp"])


@pytest.mark.parametrize(
    "specs, message",
    [
        (["study.seed=3"], "there is no setting study.seed; did you mean study.seeds"),
        (["study.seeds=0"], "study.seeds = 0 must be at least 1"),
        (["study.arms=maximum"], "study.arms: there is no maximum; there are max, average, wide"),
        (
            ["study.measurements=colour"],
            "study.measurements: there is no colour; there are border, circular, consistency",
        ),
        (["study.measurements=swapped"], "'swapped' is for data.name = 'red_green', not 'digits'"),
        (["model.pool.kind=largest"], "model.pool.kind = 'largest' must be one of"),
        (["schedule.name=plateau", "data.validation=100"], "every seed would have a rate of its own"),
        (["study.select=best"], "study.select = 'best' goes by the validation accuracy: hold out examples"),
    ],
)
def test_what_does_not_fit_is_refused(specs, message):
    with pytest.raises(UsageError, match=message):
        apply(STUDY, specs, measurements.problems)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"baseline": "min"}, "the baseline 'min' is none of the arms: max, average, wide"),
        ({"arms": (*STUDY.arms, Arm(name="max"))}, "two arms named 'max'"),
        ({"arms": (*STUDY.arms, Arm(name="odd", changes=("model.pol=1",)))}, "arm 'odd' of small: .*model.pol"),
        ({"arms": (*STUDY.arms, Arm(name="a/b"))}, "the arm's name 'a/b' must be made of letters"),
    ],
)
def test_a_study_that_is_not_sound_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        apply(changed(**fields), [])


def test_the_plan_names_arms_sizes_and_what_differs():
    lines = runner.plan(STUDY).splitlines()
    assert lines[0] == "small: 3 arms x 3 seeds, 10 epochs of digits, baseline max"
    assert lines[-3].split() == ["max", "44,426", "281,640", "(the", "base)"]
    assert lines[-2].split() == ["average", "44,426", "281,640", "model.pool.kind=average"]
    assert "30,986" in lines[-1]
    assert "parameters: windows of 3 leave smaller maps]" in lines[-1]


def test_another_number_of_parameters_has_to_be_declared():
    silent = dataclasses.replace(STUDY.arms[2], parameters="")
    with pytest.raises(UsageError, match="arm 'wide' has 30,986 parameters, and the baseline 'max' has 44,426"):
        runner.checked(changed(arms=(*STUDY.arms[:2], silent)))


def test_an_arm_whose_windows_do_not_fit_is_named():
    arm = Arm(name="huge", changes=("model.pool.window=13", "model.pool.stride=13"), parameters="less")
    with pytest.raises(UsageError, match="arm 'huge' of small: conv2: input 1x1x6"):
        runner.checked(changed(arms=(*STUDY.arms, arm)))


def test_a_folder_goes_on_with_the_same_study_and_with_more_arms(tmp_path):
    workdir.store_study(tmp_path, STUDY)
    assert workdir.stored_study(tmp_path) == STUDY
    more = changed(arms=(*STUDY.arms, Arm(name="min", changes=("model.pool.kind=min",))))
    workdir.check_same_study(tmp_path, more, resume=True)
    workdir.check_same_study(tmp_path, apply(STUDY, ["study.test=wilcoxon", "data.placement=host"]), resume=True)
    other = changed(arms=(STUDY.arms[0], Arm(name="average", changes=("model.pool.kind=min",))))
    for study, message in (
        (apply(STUDY, ["train.batch_size=8"]), "train.batch_size: 32 -> 8"),
        (apply(STUDY, ["study.seeds=4"]), "study.seeds: 3 -> 4"),
        (other, "arm average: .*average.* -> .*min"),
    ):
        with pytest.raises(UsageError, match=message):
            workdir.check_same_study(tmp_path, study, resume=True)
    with pytest.raises(UsageError, match="already holds a study"):
        workdir.check_same_study(tmp_path, STUDY, resume=False)


def test_a_folder_with_a_run_is_no_place_for_a_study(tmp_path):
    workdir.store_config(tmp_path, STUDY.base)
    with pytest.raises(UsageError, match="holds a run, not a study"):
        workdir.check_same_study(tmp_path, STUDY, resume=True)


def test_the_seeds_of_each_program():
    assert apply(STUDY, ["study.seeds=5", "seed=2"]).groups == [[2, 3, 4, 5, 6]]
    assert apply(STUDY, ["study.seeds=5", "study.together=2"]).groups == [[0, 1], [2, 3], [4]]
