"""Properties of settings that hold whatever is chosen, on random examples; more of them in make test-all."""

import json

from hypothesis import given
from hypothesis import strategies as st

from cnn_jax import models
from cnn_jax.config import DATASETS, MODELS, Config, fields, from_dict, poolings, sizes, to_dict, training
from cnn_jax.config.fields import choices, leaves, replaced
from cnn_jax.data.datasets import source
from cnn_jax.layers.activations import ACTIVATIONS
from cnn_jax.layers.pooling import POOLS
from cnn_jax.layers.windows import FILLS
from cnn_jax.training import optimizer


def values_of(leaf):
    """A strategy of values that a setting may have."""
    rule = leaf.rule
    if rule.get("choice"):
        return st.sampled_from(rule["choice"].names)
    if rule.get("choices"):
        return st.sampled_from(rule["choices"])
    low, high = rule.get("low"), rule.get("high")
    if leaf.type is bool:
        return st.booleans()
    if leaf.type is int:
        return st.integers(low or 0, high or 10**6)
    if leaf.type is float:
        return st.floats(low or 0.0, high or 1e6)
    return st.just(leaf.value)


@st.composite
def configs(draw):
    """A config with a few settings changed, kinds among them."""
    config = Config(model=draw(st.sampled_from(MODELS))())
    for _ in range(draw(st.integers(0, 6))):
        leaf = draw(st.sampled_from([each for each in leaves(config) if each.path != "model.name"]))
        config = replaced(config, leaf.path, draw(values_of(leaf)))
    return config


@given(configs())
def test_a_config_comes_back_from_json_and_differs_from_nothing(config):
    restored = from_dict(json.loads(json.dumps(to_dict(config))))
    assert restored == config and fields.differences(restored, config) == []


@given(configs())
def test_every_setting_can_be_set_to_what_it_is(config):
    paths = [leaf.path for leaf in leaves(config)]
    assert len(set(paths)) == len(paths)
    for leaf in leaves(config):
        assert replaced(config, leaf.path, leaf.value) == config


@given(configs(), configs())
def test_configs_without_differences_are_the_same_run(one, other):
    identity = lambda config: {leaf.path: leaf.value for leaf in leaves(config) if leaf.rule.get("identity", True)}
    assert (fields.differences(one, other) == []) == (identity(one) == identity(other))


def test_every_kind_of_a_choice_has_a_name_of_its_own():
    for model in MODELS:
        for _, choice, _ in choices(Config(model=model())):
            assert len(set(choice.names)) == len(choice.names)
            assert all(type(choice.named(kind.name)) is kind for kind in choice.kinds)


def test_what_is_declared_and_what_is_built_are_the_same():
    """A name that can be chosen and is not built, or the other way round, would be found by a user otherwise."""
    assert models.MODELS.keys() == set(MODELS)
    assert POOLS.keys() == {*poolings.POOLINGS, *poolings.LAST}
    assert optimizer.OPTIMIZERS.keys() == set(training.OPTIMIZERS)
    assert optimizer.SCHEDULES.keys() == set(training.SCHEDULES)
    assert source.SOURCES.keys() == set(DATASETS)
    assert FILLS.keys() == set(sizes.FILLS)
    activations = {leaf.rule["choices"] for model in MODELS for leaf in leaves(model()) if leaf.path == "activation"}
    assert ACTIVATIONS.keys() == {name for names in activations for name in names}
