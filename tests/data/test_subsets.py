import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax import randomness
from cnn_jax.data import subsets


def test_golden_values():
    # Pinned: a change here changes which images are held out, in every run.
    digests = subsets.digests_of_numbers(60_000)
    assert subsets.stratified(np.arange(60_000) % 10, 5, digests).tolist() == [5393, 9974, 44660, 51692, 55231]
    names = [f"{name}/{number}.png" for name in "ab" for number in range(20)]
    labels = np.repeat([0, 1], 20)
    assert subsets.shared(labels, 5, subsets.digests_of_names(names)).tolist() == SHARED
    assert subsets.stratified(labels, 4, subsets.digests_of_names(names)).tolist() == FOUR


SHARED = [17, 19, 24, 26, 39]
FOUR = [17, 19, 26, 39]


def test_the_digest_of_a_name_is_the_first_eight_bytes_of_its_sha256():
    names = ["cat/1.png", "zebra/\udcff.jpg"]  # the latter is not UTF-8 on the disk
    expected = [
        int.from_bytes(hashlib.sha256(each).digest()[:8], "little") for each in (b"cat/1.png", b"zebra/\xff.jpg")
    ]
    assert subsets.digests_of_names(names).tolist() == expected


@pytest.mark.parametrize("size", [0, 1, 9, 10, 33, 100, 499, 500])
def test_stratified_keeps_the_class_proportions(size):
    labels = np.random.RandomState(0).choice(7, 500, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.04, 0.01])
    chosen = subsets.stratified(labels, size, subsets.digests_of_numbers(500))
    assert len(chosen) == size == len(set(chosen.tolist()))
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    exact = np.bincount(labels) * size / 500
    got = np.bincount(labels[chosen], minlength=7)
    assert np.all(np.abs(got - exact) < 1)


def test_stratified_is_a_random_fixed_choice():
    labels = np.repeat(np.arange(5), 200)
    first, other = (
        subsets.digests_of_numbers(1000, purpose)
        for purpose in (randomness.VALIDATION_SPLIT, randomness.DIGITS_TEST_SPLIT)
    )
    chosen = subsets.stratified(labels, 500, first)
    np.testing.assert_array_equal(chosen, subsets.stratified(labels, 500, first))
    assert abs(np.mean(chosen % 200) - 99.5) < 10  # spread over each class: 99.5 with standard error 1.8
    assert set(chosen) != set(subsets.stratified(labels, 500, other))


def test_a_share_is_about_one_in_so_many():
    labels = np.repeat(np.arange(4), 2500)
    found = subsets.shared(labels, 5, subsets.digests_of_numbers(10_000))
    assert np.all(np.abs(np.bincount(labels[found]) - 500) < 80)  # standard deviation 20


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(2, 9))
@settings(deadline=None)
def test_a_share_leaves_something_on_both_sides_of_each_class(counts, one_in):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = [f"{label}/{row}" for row, label in enumerate(labels)]
    found = subsets.shared(labels, one_in, subsets.digests_of_names(names))
    taken = np.bincount(labels[found], minlength=len(counts))
    assert np.all(taken >= 1) and np.all((np.array(counts) == 1) | (taken < counts))


@given(st.integers(30, 60), st.integers(1, 20), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_images_that_come_to_a_class_move_no_other(count, more, draw):
    before = [f"cat/{number}" for number in range(count)]
    after = before + [f"cat/new {number}" for number in range(more)]
    draw.shuffle(after)
    chosen = lambda names: {
        names[row] for row in subsets.shared(np.zeros(len(names), int), 5, subsets.digests_of_names(names))
    }
    was, now = chosen(before), chosen(after)
    below = lambda name: subsets.digests_of_names([name])[0] < 2**64 // 5
    assert was ^ (now & set(before)) <= {name for name in was if not below(name)}  # one that stood in for none
