"""When a run evaluates, saves and writes rows."""

import pytest

from cnn_jax.training.timetable import Timetable


def steps(every, total, examples=100, batch_size=10):
    table = Timetable(every, total, examples, batch_size)
    return [step for step in range(-1, total + 5) if step in table]


@pytest.mark.parametrize(
    "every,total,want",
    [
        ("3 steps", 10, [3, 6, 9, 10]),
        ("5 steps", 10, [5, 10]),
        ("1 epochs", 25, [10, 20, 25]),
        ("0.5 epochs", 12, [5, 10, 12]),
        ("25 examples", 10, [2, 5, 8, 10]),  # 2.5, 5, 7.5: the nearest, a half to the even one
        ("100 steps", 10, [10]),
        ("1 step", 4, [1, 2, 3, 4]),
        ("0.5 steps", 4, [1, 2, 3, 4]),
        ("1 examples", 4, [1, 2, 3, 4]),
    ],
)
def test_steps(every, total, want):
    assert steps(every, total) == want


def test_epochs_of_a_fraction_of_a_step_do_not_drift():
    # 1437 examples in batches of 32: an epoch is 44.90625 steps.
    table = steps("1 epochs", 2694, examples=1437, batch_size=32)
    assert table == [round(k * 1437 / 32) for k in range(1, 60)] + [2694]
    assert round(60 * 1437 / 32) == 2694


def test_after_walks_through_every_event():
    table, step, seen = Timetable("2.4 steps", 11, 100, 10), 0, []
    while (step := table.after(step)) is not None:
        seen.append(step)
    assert seen == [2, 5, 7, 10, 11]
    assert table.after(3) == 5 and table.after(5) == 7 and table.after(11) is None
