import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.data.batches.order import BatchOrder


def reference(examples, batch_size, seed, steps):
    """The definition, one position at a time: position p is example permutation[p // N][p % N]."""
    rows = []
    for step in range(steps):
        row = []
        for position in range(step * batch_size, (step + 1) * batch_size):
            epoch, offset = divmod(position, examples)
            # Philox from the documented key layout: seed, then purpose and epoch in one word.
            raw = np.random.Philox(key=np.array([seed, (1 << 48) + epoch], np.uint64)).random_raw(examples)
            row.append(sorted(range(examples), key=lambda i: raw[i])[offset])
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("examples, batch_size, steps", [(10, 4, 12), (7, 7, 3), (5, 13, 4), (1, 3, 2), (12, 5, 1)])
def test_batches_follow_the_definition(examples, batch_size, steps):
    index_plan = BatchOrder(examples, batch_size, seed=3)
    expected = reference(examples, batch_size, 3, steps)
    got = index_plan.batches(0, steps)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(index_plan.batch(steps - 1), expected[-1])


@given(
    st.integers(1, 40),
    st.integers(1, 50),
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=40)
def test_batches_follow_the_definition_however_they_are_cut(examples, batch_size, seed, stretches):
    order, expected = BatchOrder(examples, batch_size, seed), reference(examples, batch_size, seed, sum(stretches))
    ends = list(itertools.accumulate(stretches, initial=0))
    got = [row for start, stop in itertools.pairwise(ends) for row in order.batches(start, stop).tolist()]
    assert got == expected.tolist()


def test_golden_values():
    # Pinned: a change here changes every training run.
    first_epochs = [[0, 8, 6, 9, 5], [2, 3, 1, 7, 4], [3, 9, 6, 4, 0], [5, 7, 1, 2, 8]]
    assert BatchOrder(10, 5, seed=0).batches(0, 4).tolist() == first_epochs
    assert BatchOrder(60_000, 4, seed=7).batch(20_000).tolist() == [45712, 37327, 2397, 53467]


def test_each_example_comes_once_per_epoch():
    stream = BatchOrder(101, 8, seed=1).batches(0, 101).ravel()  # 8 epochs exactly
    epochs = stream.reshape(8, 101)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(101), (8, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_grouping_of_steps_changes_nothing():
    index_plan = BatchOrder(37, 16, seed=5)
    whole = index_plan.batches(0, 50)
    cuts = [0, 1, 2, 9, 9, 30, 50]
    parts = [index_plan.batches(start, stop) for start, stop in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    for step in (49, 0, 23):  # any order, as after a resume
        np.testing.assert_array_equal(index_plan.batch(step), whole[step])


def test_batch_size_only_cuts_the_stream():
    large, small = BatchOrder(37, 16, 5).batches(0, 3), BatchOrder(37, 6, 5).batches(0, 8)
    np.testing.assert_array_equal(large.ravel(), small.ravel())


def test_seeds_differ_and_large_seeds_work():
    seeds = (0, 1, 2**31 - 1)
    assert len({tuple(BatchOrder(1000, 1000, seed).batch(0)) for seed in seeds}) == len(seeds)


def test_epoch():
    index_plan = BatchOrder(100, 30, seed=0)
    assert [index_plan.epoch(step) for step in (0, 5, 10)] == [0.0, 1.5, 3.0]


@pytest.mark.parametrize("wrong", [{"examples": 0}, {"batch_size": 0}, {"seed": -1}])
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} = "):
        BatchOrder(**{"examples": 10, "batch_size": 2, "seed": 0} | wrong)


def test_steps_run_forwards_from_zero():
    for start, stop in ((-1, 2), (3, 2)):
        with pytest.raises(ValueError, match="start <= stop"):
            BatchOrder(10, 2, 0).batches(start, stop)
    assert BatchOrder(10, 2, 0).batches(3, 3).shape == (0, 2)


def test_returned_indices_are_the_callers_own():
    index_plan = BatchOrder(10, 10, 0)
    before = index_plan.batch(0).copy()
    index_plan.batch(0)[:] = -1
    np.testing.assert_array_equal(index_plan.batch(0), before)
