"""Seeds trained together are the single runs of those seeds; tests/devices/test_mesh.py has several devices."""

import jax
import numpy as np
import pytest
import tiny_training
from tiny_training import SMOOTH, STEPS, train_seeds

from cnn_jax.config import overrides
from cnn_jax.devices import mesh
from cnn_jax.errors import UsageError
from cnn_jax.training.learner import Learner

NUMBERS = [3, 4]
pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize("way", ["cpu", pytest.param("default", marks=pytest.mark.slow)])
def test_seeds_together_are_runs_of_their_own(way, monkeypatch):
    """As a CPU computes them, and as an accelerator does."""
    monkeypatch.setitem(mesh.WAYS, "cpu", mesh.WAYS[way])
    validation = tiny_training.dataset("validation")
    losses, state, learner = train_seeds(NUMBERS, SMOOTH, "data.placement=host")
    assert state.step.tolist() == [STEPS] * 2
    probabilities = learner.predict(state.evaluated, validation.images)
    measured = learner.evaluate(state.evaluated, validation)
    maps = learner.maps(state.evaluated, validation.images[:3])
    learner.close()
    assert maps["pool1"].shape == (2, 3, 12, 12, 6)
    for k, number in enumerate(NUMBERS):
        expected, (last,), alone = one_by_one(number)
        np.testing.assert_allclose(losses[:, k], expected, rtol=2e-6)
        for ours, theirs in zip(jax.tree.leaves(state.ema), jax.tree.leaves(last.ema), strict=True):
            np.testing.assert_allclose(ours[k], theirs, rtol=0, atol=1e-5)
        (found,) = alone.evaluate(last.evaluated, validation)
        np.testing.assert_allclose(probabilities[k], found.probabilities, rtol=0, atol=1e-4)
        np.testing.assert_allclose(measured[k].losses, found.losses, rtol=1e-4)
        np.testing.assert_allclose(
            maps["pool1"][k], alone.maps(last.evaluated, validation.images[:3])["pool1"][0], atol=1e-4
        )
    assert not np.array_equal(losses[:, 0], losses[:, 1])


def one_by_one(number):
    """Losses and the last state of a run of one seed, and its learner."""
    settings = overrides.apply(tiny_training.RECIPE, [SMOOTH, f"seed={number}"])
    learner = Learner(settings, training=tiny_training.dataset())
    state, losses = learner.initial(), []
    zero = learner.each(state.totals)
    for step in range(STEPS):
        state, report = learner.advance(state, learner.begin(step, step + 1).result(), [1])
        assert report.finite
        losses.append(float(state.totals.loss))
        state = state._replace(totals=learner.joined(zero))
    return losses, learner.each(state), learner


def test_a_seed_with_no_steps_stays_as_it_is():
    learner = Learner(tiny_training.RECIPE, NUMBERS, tiny_training.dataset())
    first = learner.each(learner.initial())
    state, report = learner.advance(learner.joined(first), learner.begin(0, 2).result(), [0, 2])
    one, other = learner.each(state)
    tiny_training.assert_same_bits(one, first[0])
    assert int(other.step) == 2 and np.all(report.finite)
    learner.close()


def test_seeds_that_devices_cannot_share_are_refused():
    devices = jax.devices() * 4
    with pytest.raises(UsageError, match="6 seeds do not divide over 4 devices: set study.seeds or study.together"):
        mesh.Parallel("mesh", devices=devices, seeds=6)
    assert len(mesh.Parallel("jit", devices=devices, seeds=6).devices) == 1
