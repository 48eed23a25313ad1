"""Which parameters of each seed count; tests/test_studies.py has it through launch.py, killed and continued."""

import jax
import numpy as np

from cnn_jax.training.optimizer import plateau_init
from cnn_jax.training.selection import BestOfSeeds
from cnn_jax.training.state import TrainState, zero_totals


def states(step, values):
    """States of three seeds after a step, their parameters filled with the values."""
    stack = lambda tree: jax.tree.map(lambda leaf: np.stack([leaf] * 3), jax.device_get(tree))
    kernel = np.float32(values)[:, None, None] * np.ones((3, 2, 5), np.float32)
    return TrainState(
        seed=np.arange(3, dtype=np.int32),
        step=np.full(3, step, np.int32),
        params={"conv1": {"kernel": kernel}},
        batch_stats={},
        optimizer={"count": np.full(3, step, np.int32)},
        ema=None,
        plateau=stack(plateau_init()),
        totals=stack(zero_totals()),
    )


def first(state):
    return state.params["conv1"]["kernel"][:, 0, 0].tolist()


def test_the_best_of_each_seed_and_of_equal_ones_the_first(tmp_path):
    best = BestOfSeeds(tmp_path / "best.npz")
    best.note(states(2, [1, 1, 1]), [0.5, 0.7, 0.1])
    best.note(states(4, [2, 2, 2]), [0.6, 0.7, 0.2])
    again = BestOfSeeds(tmp_path / "best.npz")  # a process that continues from step 2
    again.note(states(4, [2, 2, 2]), [0.6, 0.7, 0.2])
    again.note(states(6, [3, 3, 3]), [0.4, 0.1, 0.3])
    for chooser in (again, BestOfSeeds(tmp_path / "best.npz")):
        chosen, scores = chooser.chosen(states(8, [9, 9, 9]))
        assert (first(chosen), chosen.step.tolist(), scores) == ([2, 1, 3], [4, 2, 6], [0.6, 0.7, 0.3])
        assert chosen.optimizer["count"].tolist() == [4, 2, 6]


def test_a_seed_that_is_lost_is_never_the_best(tmp_path):
    best = BestOfSeeds(tmp_path / "best.npz")
    best.note(states(2, [1, 1, 1]), [0.5, 0.7, 0.1])
    best.note(states(4, [2, 2, 2]), [0.6, -np.inf, 0.2])
    assert first(best.chosen(states(4, [2, 2, 2]))[0]) == [2, 1, 2]
