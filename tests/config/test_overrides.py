import dataclasses

import pytest

from cnn_jax.config import Config, LeNet5, Optimizer, Padding, Pool, leaves
from cnn_jax.config.overrides import apply, left_out
from cnn_jax.errors import EXIT_USAGE, UsageError

pytestmark = pytest.mark.versions


def refusal(*specs, config=Config()):
    with pytest.raises(UsageError) as caught:
        apply(config, list(specs))
    assert caught.value.exit_code == EXIT_USAGE
    return str(caught.value).splitlines()


def value(spec, config=Config()):
    (found,) = [leaf.value for leaf in leaves(apply(config, [spec])) if leaf.path == spec.partition("=")[0].strip()]
    return found


@pytest.mark.parametrize(
    "spec, expected",
    [
        ("seed=7", 7),
        ("data.limit=1_000", 1000),
        ("data.limit=1e3", 1000),
        ("data.limit=60000.0", 60000),
        ("optimizer.learning_rate=2e-3", 0.002),
        ("optimizer.learning_rate=1", 1.0),
        ("data.low=-0.1", -0.1),
        ("optimizer.nesterov=true", True),
        ("optimizer.nesterov=Yes", True),
        ("optimizer.nesterov=1", True),
        ("log.tensorboard=false", False),
        ("log.tensorboard=NO", False),
        ("log.tensorboard=0", False),
        ("data.data_dir=/a folder/x=y", "/a folder/x=y"),
        ("data.data_dir=", ""),
        ("train.duration = 500 steps", "500 steps"),
        ("model.padding.mode=0,3,0,3", "0,3,0,3"),
        ("model.pool.window=3", 3),
    ],
)
def test_values_are_read_as_the_type_of_their_field(spec, expected):
    found = value(spec, Config(optimizer=Optimizer.of(name="sgd")))
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("text", ["6 epochs,8 epochs", "(6 epochs, 8 epochs)"])
def test_a_tuple_is_separated_by_commas(text):
    found = apply(Config(), ["schedule.name=step", f"schedule.drops={text}"])
    assert found.schedule.kind.drops == ("6 epochs", "8 epochs")


@pytest.mark.parametrize("text", ["", "()"])
def test_a_tuple_can_be_emptied(text):
    coloured = apply(Config(), ["data.name=fake", "data.mean=0.5,.25,1e-1"])
    assert coloured.data.mean == (0.5, 0.25, 0.1)
    assert apply(coloured, [f"data.mean={text}"]).data.mean == ()


def test_only_the_named_field_changes():
    before = Config()
    after = apply(before, ["model.padding.mode=same"])
    assert before == Config()
    assert after == dataclasses.replace(before, model=dataclasses.replace(before.model, padding=Padding(mode="same")))
    assert apply(before, []) == before


def test_a_later_override_wins():
    assert apply(Config(), ["seed=1", "seed=2"]).seed == 2


def test_settings_are_those_of_the_model_at_hand():
    lenet5 = Config(model=LeNet5())
    assert value("model.connections=dense", lenet5) == "dense"
    (line,) = refusal("model.connections=dense")
    assert "there is no setting model.connections" in line and "activation" in line


@pytest.mark.parametrize(
    "spec, rule",
    [
        ("seed=1.5", "whole number"),
        ("seed=one", "whole number"),
        ("seed=nan", "whole number"),
        ("seed=1e999", "whole number"),
        ("seed=", "whole number"),
        ("optimizer.learning_rate=fast", "a number"),
        ("optimizer.learning_rate=", "a number"),
        ("optimizer.nesterov=maybe", "true or false"),
        ("optimizer.nesterov=2", "true or false"),
        ("optimizer.learning_rate=nan", "finite"),
        ("optimizer.learning_rate=-1", "at least 0"),
        ("optimizer.name=adma", "sgd, adam, adamw, lars"),
        ("train.duration=10 eons", "not a duration"),
        ("model.padding.mode=reflect", "use model.padding.fill=reflect"),
        ("data.mean=a,b", "numbers separated by commas"),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused(spec, rule):
    (line,) = refusal(spec, config=Config(optimizer=Optimizer.of(name="sgd")))
    path, _, text = spec.partition("=")
    assert path in line and text in line and rule in line


@pytest.mark.parametrize(
    "path, meant",
    [
        ("optimizer.learnin_rate", "optimizer.learning_rate"),
        ("optimiser.learning_rate", "optimizer.learning_rate"),
        ("learning_rate", "optimizer.learning_rate"),
        ("batch_size", "train.batch_size or evaluation.batch_size"),
        ("model.window", "model.pool.window"),
        ("sead", "seed"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_likely_one(path, meant):
    (line,) = refusal(f"{path}=1")
    assert f"no setting {path}; did you mean {meant}?" in line


def test_an_unknown_setting_is_answered_with_the_valid_names():
    (line,) = refusal("train.xyzzy=1")
    assert "did you mean" not in line
    assert line.endswith("train has batch_size, duration, label_smoothing, precision, deterministic")
    (line,) = refusal("xyzzy=1")
    assert "seed, parallel, model.*" in line and line.endswith("log.*")


def test_a_group_cannot_be_set_whole():
    (line,) = refusal("model.pool=max")
    assert "model.pool is a group" in line and "model.pool.kind, model.pool.window" in line


@pytest.mark.parametrize("spec", ["model.name=lenet5", "model=lenet5", "experiment=lenet_mnist"])
def test_what_an_experiment_is_cannot_be_overridden(spec):
    (line,) = refusal(spec)
    assert "chosen by --experiment=NAME" in line


def test_naming_the_model_at_hand_is_no_change():
    assert apply(Config(), ["model.name=lenet"]) == Config()


@pytest.mark.parametrize("spec", ["seed", "", "=3"])
def test_what_is_no_assignment_is_refused(spec):
    (line,) = refusal(spec)
    assert "section.field=value" in line


def test_all_problems_are_reported_at_once():
    specs = ["optimizer.learnin_rate=1", "seed=x", "train.batch_size=0", "schedule.name=plateau", "log.every=5 steps"]
    for part, line in zip(["learnin_rate", "seed", "batch_size = 0", "plateau"], refusal(*specs), strict=True):
        assert part in line


def test_an_unsound_experiment_can_be_put_right():
    unsound = Config(seed=-1)
    assert refusal("log.every=5 steps", config=unsound) == ["seed = -1 must be at least 0"]
    assert apply(unsound, ["seed=1"]).seed == 1


@pytest.mark.parametrize(
    "spec, chosen, readers",
    [
        ("optimizer.trust=3", "optimizer.name = 'adam'", "lars"),
        ("optimizer.momentum=0", "optimizer.name = 'adam'", "sgd, lars"),
        ("schedule.patience=9", "schedule.name = 'constant'", "plateau"),
        ("data.classes=3", "data.name = 'digits'", "fake"),
        ("model.pool.beta=2", "model.pool.kind = 'max'", "log_sum_exp, soft"),
        ("model.pool.levels=2", "model.pool.last = ''", "pyramid"),
    ],
)
def test_what_the_chosen_kind_does_not_read_is_refused(spec, chosen, readers):
    path, _, text = spec.partition("=")
    assert refusal(spec) == [f"{path} = {text!r} does not apply to {chosen}; it is read by {readers}"]


def test_a_kind_that_there_is_not_is_answered_with_the_names():
    (line,) = refusal("model.pool.kind=median")
    assert line.startswith("model.pool.kind = 'median' must be one of max, average, min, subsample")


def test_all_that_is_not_read_is_told_together():
    specs = ["optimizer.name=adam", "optimizer.trust=3", "schedule.patience=9", "data.classes=3", "model.pool.beta=2"]
    assert [line.partition(" ")[0] for line in refusal(*specs, "model.pool.p=9")] == [
        *(spec.partition("=")[0] for spec in specs[1:]),
        "model.pool.p",
    ]


def test_settings_of_a_kind_that_is_unknown_are_not_told_as_well():
    (line,) = refusal("optimizer.name=adma", "optimizer.beta1=0.8", "optimizer.trust=3")
    assert "optimizer.name = 'adma' must be one of" in line


def test_a_kind_is_chosen_before_its_settings_wherever_it_stands():
    found = apply(Config(), ["model.pool.beta=2", "model.pool.window=3", "model.pool.kind=soft"])
    assert found.model.pool == Pool.of(kind="soft", beta=2.0, window=3)


def test_what_an_experiment_set_for_another_kind_falls_back_and_is_said():
    before = Config(optimizer=Optimizer.of(name="sgd", momentum=0.5, nesterov=True, weight_decay=1e-4))
    after = apply(before, ["optimizer.name=adam"])
    assert after.optimizer == Optimizer.of(name="adam", weight_decay=1e-4)
    assert left_out(before, after) == [
        "optimizer.momentum = 0.5 of the experiment does not apply to optimizer.name = 'adam'",
        "optimizer.nesterov = True of the experiment does not apply to optimizer.name = 'adam'",
    ]
    assert apply(before, ["optimizer.name=lars"]).optimizer.kind.momentum == 0.5  # both read it
    assert left_out(before, apply(before, ["optimizer.name=lars"])) == []
