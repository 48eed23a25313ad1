"""Seeds trained together are the single runs of those seeds; tests/training/test_parallel.py has several devices."""

import jax
import numpy as np
import pytest
import tiny_training
from tiny_training import SMOOTH, STEPS, TinyRun, train_seeds

from cnn_jax.errors import UsageError
from cnn_jax.studies import side_by_side

NUMBERS = [3, 4]
pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize("way", ["cpu", "default"])
def test_seeds_side_by_side_are_runs_of_their_own(way, monkeypatch):
    """As a CPU computes them, and as an accelerator does."""
    monkeypatch.setitem(side_by_side.WAYS, "cpu", side_by_side.WAYS[way])
    images = tiny_training.dataset("validation").images
    losses, state, seeds = train_seeds(NUMBERS, SMOOTH, "data.placement=host")
    assert int(state.step) == STEPS
    probabilities = seeds.ask(state.evaluated, images)
    maps = seeds.maps(state.evaluated, images[:3])
    seeds.close()
    assert maps["pool1"].shape == (2, 3, 12, 12, 6)
    run = TinyRun(SMOOTH)
    for k, number in enumerate(NUMBERS):
        first = run.first_state()
        if k:  # another seed, with the weights it begins with
            fresh = jax.jit(run._initial, compiler_options={"xla_backend_optimization_level": 0})(number)
            first = run.parallel.replicate(fresh)
        run.plan = type(run.plan)(tiny_training.EXAMPLES, 16, number)
        run.feed = type(run.feed)(run.dataset, run.plan, run.parallel)
        run.feed.most_steps = STEPS
        expected, last = run.losses(first)
        np.testing.assert_allclose(losses[:, k], expected, rtol=2e-6)
        for ours, theirs in zip(jax.tree.leaves(state.ema), jax.tree.leaves(jax.device_get(last.ema)), strict=True):
            np.testing.assert_allclose(ours[k], theirs, rtol=0, atol=1e-5)
        outcome = run.evaluator(last.evaluated, tiny_training.dataset("validation"))
        np.testing.assert_allclose(probabilities[k], outcome.probabilities, rtol=0, atol=1e-4)
    assert not np.array_equal(losses[:, 0], losses[:, 1])


def test_seeds_that_devices_cannot_share_are_refused(monkeypatch):
    monkeypatch.setattr(side_by_side, "Parallel", lambda mode: type("Devices", (), {"devices": [0] * 4}))
    with pytest.raises(UsageError, match="6 seeds do not divide over 4 devices: set study.seeds or study.together"):
        side_by_side.spread("mesh", 6)
    assert len(side_by_side.spread("mesh", 8).devices) == 4
