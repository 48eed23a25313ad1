"""What a run starts from."""

import jax
import numpy as np
import pytest
from tiny_training import CLASSES, IMAGE_SHAPE, RECIPE, assert_same_bits

from cnn_jax.config import overrides
from cnn_jax.training import state as states
from cnn_jax.training.optimizer import make_optimizer

pytestmark = pytest.mark.usefixtures("quick_compile")


def first_state(*changes, seed=3):
    settings = overrides.apply(RECIPE, list(changes))
    optimizer = make_optimizer(settings.optimizer)
    return jax.jit(lambda seed: states.initial_state(settings, IMAGE_SHAPE, CLASSES, optimizer, seed))(seed)


@pytest.fixture(scope="module")
def state():
    return first_state()


def test_a_fresh_state(state):
    assert (int(state.seed), int(state.step)) == (3, 0)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == 44_426  # the notebook's network
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state.params)} == {"float32"}
    assert_same_bits(state.ema, state.params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((state.optimizer, state.totals)))
    assert float(state.plateau.factor) == 1


def test_no_buffer_is_given_twice(state):
    """The step takes the memory of every leaf; two leaves in one place would be an error, or worse."""
    leaves = jax.tree.leaves(state) + jax.tree.leaves(states.zero_totals())
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_weights_depend_on_the_seed_and_the_names_of_layers_alone(state):
    rest = ("model.dropout=0", "model.activation=relu", "optimizer.name=adam", "train.batch_size=2")
    other = first_state("model.layout=NHWC", *rest)
    assert_same_bits(other.params, state.params)
    again, different = first_state(), first_state(seed=4)
    assert_same_bits(again, state)
    for name, leaf in states.named_leaves(different.params).items():
        same = np.array_equal(leaf, states.named_leaves(state.params)[name])
        assert same == name.endswith("bias"), name


def test_names_of_leaves(state):
    named = states.named_leaves(state)
    assert len(named) == len(jax.tree.leaves(state))
    assert {"seed", "step", "params.conv1.kernel", "ema.dense2.bias", "plateau.factor", "totals.loss"} <= named.keys()
    assert named["params.conv1.kernel"] is state.params["conv1"]["kernel"]


def test_evaluation_uses_the_average_where_there_is_one(state):
    assert state.evaluated.params is state.ema
    without = first_state("optimizer.ema=0")
    assert without.ema is None and without.evaluated.params is without.params
