"""Which parameters of each seed count; tests/test_studies.py has it through launch.py, killed and continued."""

import jax
import numpy as np

from cnn_jax.studies.selection import BestValidation, LastStep
from cnn_jax.training.optimizer import plateau_init
from cnn_jax.training.state import TrainState, zero_totals


def states(step, values):
    """States of three seeds after a step, their parameters filled with the values."""
    stack = lambda tree: jax.tree.map(lambda leaf: np.stack([leaf] * 3), jax.device_get(tree))
    kernel = np.float32(values)[:, None, None] * np.ones((3, 2, 5), np.float32)
    return TrainState(
        seed=np.arange(3, dtype=np.int32),
        step=np.int32(step),
        params={"conv1": {"kernel": kernel}},
        statistics={},
        optimizer={"count": np.full(3, step, np.int32)},
        ema=None,
        plateau=stack(plateau_init()),
        totals=stack(zero_totals()),
    )


def first(state):
    return state.params["conv1"]["kernel"][:, 0, 0].tolist()


def test_the_best_of_each_seed_and_of_equal_ones_the_first(tmp_path):
    selection = BestValidation(tmp_path / "best.npz")
    selection.note(states(2, [1, 1, 1]), [0.5, 0.7, 0.1])
    selection.note(states(4, [2, 2, 2]), [0.6, 0.7, 0.2])
    again = BestValidation(tmp_path / "best.npz")  # a process that continues from step 2
    again.note(states(4, [2, 2, 2]), [0.6, 0.7, 0.2])
    again.note(states(6, [3, 3, 3]), [0.4, 0.1, 0.3])
    for chooser, values, steps, scores in (
        (again, [2, 1, 3], [4, 2, 6], [0.6, 0.7, 0.3]),
        (BestValidation(tmp_path / "best.npz"), [2, 1, 3], [4, 2, 6], [0.6, 0.7, 0.3]),
        (LastStep(), [9, 9, 9], [8, 8, 8], [None] * 3),
    ):
        chosen, found = chooser.chosen(states(8, [9, 9, 9]))
        assert (first(chosen), chosen.step.tolist(), found) == (values, steps, scores)
    assert again.chosen(states(8, [9, 9, 9]))[0].optimizer["count"].tolist() == [4, 2, 6]


def test_a_seed_that_diverged_is_not_saved_by_what_it_was_before(tmp_path):
    selection = BestValidation(tmp_path / "best.npz")
    selection.note(states(2, [1, 1, 1]), [0.5, 0.7, 0.1])
    chosen, scores = selection.chosen(states(8, [9, np.nan, 9]))
    np.testing.assert_array_equal(first(chosen), [1, np.nan, 1])
    assert scores == [0.5, None, 0.1] and chosen.step.tolist() == [2, 8, 2]
