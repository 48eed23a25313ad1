import dataclasses
import json

import pytest

from cnn_jax.config import (
    MODELS,
    Config,
    Data,
    Evaluation,
    FourLayer,
    LeNet,
    LeNet5,
    Log,
    Optimizer,
    Padding,
    Pool,
    Schedule,
    Train,
    differences,
    duration_steps,
    from_dict,
    image_shape,
    to_dict,
)
from cnn_jax.config.rules import problems

pytestmark = pytest.mark.versions


@pytest.mark.parametrize(
    "duration, examples, batch_size, steps",
    [
        ("10 epochs", 60_000, 32, 18_750),
        ("1 epoch", 60_000, 32, 1875),
        ("500 steps", 60_000, 32, 500),
        ("1 step", 60_000, 32, 1),
        ("64000 examples", 60_000, 32, 2000),
        ("10 epochs", 1437, 32, 449),  # 449.06
        ("1 epoch", 1437, 32, 45),  # 44.91
        ("1 epoch", 5, 2, 3),  # 2.5: a half rounds up
        ("3 examples", 5, 2, 2),  # 1.5
        (".5 epochs", 1000, 10, 50),
        ("2.5epochs", 1000, 10, 250),
        (" 3 steps ", 1000, 10, 3),
        ("0 steps", 1000, 10, 0),
    ],
)
def test_a_duration_in_steps(duration, examples, batch_size, steps):
    assert duration_steps(duration, examples, batch_size) == steps


@pytest.mark.parametrize("text", ["", "10", "epochs", "ten epochs", "-1 epochs", "1e3 steps", "5 minutes", "5 steps."])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="not a duration.*10 epochs"):
        duration_steps(text, 1000, 10)


@pytest.mark.parametrize("model", MODELS)
def test_the_defaults_are_sound(model):
    assert problems(Config(model=model())) == []


@pytest.mark.parametrize(
    "config, parts",
    [
        (Config(seed=-1), ["seed = -1", "at least 0"]),
        (Config(seed=2**31), ["seed = 2147483648", "at most 2147483647"]),
        (Config(model=LeNet(padding=Padding(fill="grey"))), ["model.padding.fill = 'grey'", "reflect"]),
        (Config(model=LeNet(dropout=0.99)), ["model.dropout = 0.99", "at most 0.95"]),
        (Config(optimizer=Optimizer(learning_rate=float("inf"))), ["optimizer.learning_rate = inf", "finite"]),
        (Config(optimizer=Optimizer(learning_rate=float("nan"))), ["optimizer.learning_rate = nan", "finite"]),
        (Config(optimizer=Optimizer(accumulate=0)), ["optimizer.accumulate = 0", "at least 1"]),
        (Config(optimizer=Optimizer(accumulate=5)), ["train.batch_size = 32", "multiple of optimizer.accumulate = 5"]),
        (Config(train=Train(duration="ten epochs")), ["train.duration", "'ten epochs' is not a duration"]),
        (Config(train=Train(duration="0 epochs")), ["train.duration = '0 epochs'", "longer than nothing"]),
        (Config(evaluation=Evaluation(every="0 steps")), ["evaluation.every = '0 steps'", "longer than nothing"]),
        (Config(log=Log(every="often")), ["log.every", "'often'"]),
        (Config(schedule=Schedule(warmup="a while")), ["schedule.warmup", "'a while'"]),
        (Config(schedule=Schedule.of(name="step")), ["schedule.name = 'step'", "schedule.drops"]),
        (Config(schedule=Schedule.of(name="step", drops=("5 epochs", "soon"))), ["schedule.drops[1]", "'soon'"]),
        (Config(schedule=Schedule.of(name="plateau")), ["'plateau'", "data.validation"]),
        (Config(data=Data(size=27)), ["data.size = 27", "28"]),
        (Config(data=Data(low=1.0)), ["data.low", "data.high", "1.0"]),
        (Config(model=LeNet5(), train=Train(label_smoothing=0.1)), ["train.label_smoothing", "rbf"]),
        (Config(evaluation=Evaluation(passes=3)), ["evaluation.passes = 3", "model.pool.kind = 'fractional'"]),
    ],
)
def test_a_problem_is_named_with_its_value_and_rule(config, parts):
    (line,) = problems(config)
    for part in parts:
        assert part in line


def test_sound_combinations_are_not_refused():
    for config in [
        Config(schedule=Schedule.of(name="step", drops=("5 epochs", "8 epochs"), warmup="0 steps")),
        Config(schedule=Schedule.of(name="plateau"), data=Data(validation=1000)),
        Config(optimizer=Optimizer(accumulate=4)),
        Config(data=Data(size=32, low=-0.1, high=1.175), model=LeNet5()),
        Config(model=LeNet5(output="softmax"), train=Train(label_smoothing=0.1)),
        Config(model=LeNet(pool=Pool.of(kind="lps")), evaluation=Evaluation(passes=3)),
    ]:
        assert problems(config) == []


def test_all_problems_are_found():
    config = Config(seed=-1, train=Train(batch_size=0, duration=""), log=Log(every=""))
    assert len(problems(config)) == 4


def test_the_canvas_sets_the_shape_of_the_input():
    assert image_shape(Data.of(name="mnist"), (28, 28, 1)) == (28, 28, 1)
    assert image_shape(Data.of(name="mnist", size=32), (28, 28, 1)) == (32, 32, 1)


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(experiment="x", seed=3, model=LeNet(padding=Padding(mode="2"), pool=Pool.of(kind="min", stride=1))),
        Config(model=LeNet5(output="softmax"), schedule=Schedule.of(name="step", drops=("6 epochs", "8 epochs"))),
    ],
)
def test_a_config_comes_back_from_json(config):
    restored = from_dict(json.loads(json.dumps(to_dict(config))))
    assert restored == config
    assert type(restored.model) is type(config.model)
    assert hash(restored) == hash(config)  # lists would not be hashable


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Data.of(name="mnits"), "name = 'mnits' must be one of digits, mnist, fashion_mnist"),
        (lambda: Pool.of(kind="median"), "kind = 'median' must be one of max, average, min, subsample"),
        (lambda: Schedule.of(drops=("5 epochs",)), "unknown settings drops"),
        (lambda: Optimizer.of(name="adam", trust=1.0), "unknown settings trust"),
    ],
)
def test_a_kind_and_its_settings_are_checked_when_they_are_written_down(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_two_kinds_of_a_pooling_share_is_one_setting():
    pool = Pool.of(kind="lp", last="lp", p=5.0, window=3)
    assert (pool.kind.p, pool.last.p, pool.last.learned) == (5.0, 5.0, False)
    assert Pool.of(last="lp", p=4.0).last.p == 4.0


def test_a_config_of_the_first_format_held_the_settings_of_all_kinds():
    old = to_dict(Config(optimizer=Optimizer.of(name="sgd", momentum=0.5)))
    del old["format"]
    old["optimizer"] |= {"trust": 3.0, "beta1": 0.7}
    old["model"]["pool"] |= {"beta": 2.0, "levels": 5}
    old["data"] |= {"classes": 3, "path": ""}
    assert from_dict(old).optimizer == Optimizer.of(name="sgd", momentum=0.5)
    with pytest.raises(ValueError, match="unknown settings model.pool.beta, model.pool.levels"):
        from_dict(old | {"format": 2})
    with pytest.raises(ValueError, match="later version"):
        from_dict(old | {"format": 99})


def test_adaptive_polyphase_pooling_chose_after_its_blur_before_format_3():
    new = to_dict(Config(model=FourLayer(pool=Pool.of(kind="aps"), later_pool=Pool.of(kind="aps", norm="l1"))))
    assert new["model"]["pool"].pop("choose") == new["model"]["later_pool"].pop("choose") == "before_blur"
    model = from_dict(new | {"format": 2}).model
    assert (model.pool.kind.choose, model.later_pool.kind.choose, model.later_pool.kind.norm) == (
        *["after_blur"] * 2,
        "l1",
    )
    assert from_dict(new).model.pool.kind.choose == "before_blur"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sead": 1}, "sead"),
        ({"train": {"batchsize": 1}}, r"train\.batchsize"),
        ({"model": {"name": "lenet", "pool": {"windw": 2}}}, r"model\.pool\.windw"),
        ({"model": {"name": "alexnot"}}, "alexnot"),
    ],
)
def test_settings_of_another_version_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict(to_dict(Config()) | change)


def test_differences_are_those_that_change_results():
    data = Data(data_dir="/elsewhere", placement="host")
    ours = Config(parallel="pmap", data=data, evaluation=Evaluation(batch_size=7))
    assert differences(ours, Config()) == []
    assert differences(dataclasses.replace(ours, seed=1), Config()) == ["seed: 0 -> 1"]


def test_differences_between_models_name_the_settings_that_one_lacks():
    lines = differences(Config(model=LeNet5()), Config())
    assert "model.name: 'lenet' -> 'lenet5'" in lines
    assert "model.output: '(absent)' -> 'rbf'" in lines


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1
