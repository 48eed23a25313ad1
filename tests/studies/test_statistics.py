import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from cnn_jax.studies.statistics import compare, detectable, holm, mcnemar, summarise

NAN = float("nan")


def study(seed, shifts, seeds=10):
    """Arms around 0.99 whose seeds share most of their luck: values and the accuracy that each arm adds."""
    draws = np.random.RandomState(seed)
    luck = 0.99 + 0.001 * draws.standard_normal(seeds)
    return {arm: luck + shift + 0.0003 * draws.standard_normal(seeds) for arm, shift in shifts.items()}


def numbers(result):
    """Every number in a result, None left out."""
    values = dataclasses.astuple(result) if dataclasses.is_dataclass(result) else result
    for value in values:
        if isinstance(value, tuple):
            yield from numbers(value)
        elif isinstance(value, float):
            yield value


def test_summary_of_known_values():
    """2, 4, 4, 4, 5, 5, 7, 9: mean 5, squares 32; t(7) at 0.975 is 2.3646 in the tables."""
    summary = summarise([2, 4, 4, 4, 5, 5, 7, 9])
    assert (summary.n, summary.mean, summary.sd) == (8, 5, pytest.approx(math.sqrt(32 / 7)))
    half = 2.3646 * math.sqrt(32 / 7 / 8)
    assert summary.interval == pytest.approx((5 - half, 5 + half), abs=1e-4)


def test_comparison_against_scipy():
    values = study(0, {"max": 0, "average": -0.0004, "blur": 0.0001})
    for test, reference in (("t", stats.ttest_rel), ("wilcoxon", stats.wilcoxon)):
        rows = compare(values, "max", test=test)
        assert list(rows) == ["average", "blur"]
        for arm, row in rows.items():
            expected = reference(values[arm], values["max"])
            assert row.n == 10 and row.test == test
            assert row.p == pytest.approx(expected.pvalue, rel=1e-9)
            differences = values[arm] - values["max"]
            interval = stats.t.interval(0.95, 9, differences.mean(), stats.sem(differences))
            assert row.interval == pytest.approx(interval, rel=1e-9)
            assert row.difference == pytest.approx(differences.mean())
            assert row.sd == pytest.approx(differences.std(ddof=1))
            assert row.effect * math.sqrt(10) == pytest.approx(stats.ttest_rel(values[arm], values["max"]).statistic)


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04, 0.04, 0.5, times 6, 5, 4, 3, 2, 1, never falling."""
    expected = [0.05, 0.12, 0.12, 0.03, 0.5, 0.12]  # statsmodels' multipletests(method="holm") has the same
    assert holm([0.01, 0.04, 0.03, 0.005, 0.5, 0.04]) == pytest.approx(expected)
    assert holm([None, 0.04, None, 0.3, 0.9]) == [None, pytest.approx(0.12), None, pytest.approx(0.6), 0.9]
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == [] and holm([None]) == [None]


def test_the_arms_are_adjusted_together():
    values = study(1, {"base": 0, "a": 0.0003, "b": 0.0002, "c": 0})
    correct = {arm: np.random.RandomState(i).rand(10, 300) < 0.8 for i, arm in enumerate(values)}
    rows = compare(values, "base", correct)
    assert [row.p_holm for row in rows.values()] == holm([row.p for row in rows.values()])
    images = [row.images for row in rows.values()]
    assert [one.p_images_holm for one in images] == holm([one.p_images for one in images])


def test_a_planted_effect_is_found_and_a_null_is_not():
    rows = compare(study(2, {"base": 0, "better": 0.001, "same": 0}), "base")
    assert rows["better"].p_holm < 1e-3 and rows["better"].interval[0] > 0 and rows["better"].effect > 1
    assert rows["same"].p_holm > 0.1 and rows["same"].interval[0] < 0 < rows["same"].interval[1]


def test_false_alarms_and_finds_keep_their_rates():
    """300 studies of four arms that are all the same, and 300 with one difference of the detectable size."""
    null = [compare(study(seed, dict.fromkeys("abcd", 0)), "a") for seed in range(300)]
    families = np.mean([min(row.p_holm for row in rows.values()) < 0.05 for rows in null])
    assert 0.015 < families < 0.085  # 0.05 at most; standard error 0.013, three arms share a baseline
    size = detectable(10) * 0.0003 * math.sqrt(2)
    power = np.mean([compare(study(seed, {"a": 0, "b": size}), "a")["b"].p < 0.05 for seed in range(300)])
    assert abs(power - 0.8) < 0.07  # standard error 0.023


@pytest.mark.parametrize("effect, pairs", [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_detectable_effect_against_the_tables(effect, pairs):
    """Pairs that a two-sided paired t-test needs for a power of 0.8, as G*Power and Cohen's tables have them."""
    assert detectable(pairs) <= effect < detectable(pairs - 1)


def test_detectable_effect_of_few_pairs():
    """statsmodels' TTestPower().solve_power(None, n, 0.05, 0.8)."""
    expected = {2: 11.54989, 3: 3.264044, 5: 1.681997, 10: 0.996002, 30: 0.529236}
    assert {n: detectable(n) for n in expected} == pytest.approx(expected, rel=1e-5)
    values = study(3, {"a": 0, "b": 0.001})
    row = compare(values, "a")["b"]
    assert row.detectable == pytest.approx(0.996002 * row.sd, rel=1e-5)


def test_mcnemar_by_hand():
    baseline = np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1], [1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1]], bool)
    arm = np.array([[1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1]], bool)
    result = mcnemar(arm, baseline)
    assert (result.gained, result.lost) == ((7, 3), (2, 2))
    # 2 (C(9,0) + C(9,1) + C(9,2)) / 2^9; of 3 against 2 nothing is further out.
    assert result.p == pytest.approx((92 / 512, 1.0))
    # Right seeds, arm minus baseline: -1, 0, -1, 0, 2, 2, 1, 1, 1, 1, 0: six better, two worse.
    assert (result.better, result.worse) == (6, 2)
    assert result.p_images == pytest.approx(2 * (1 + 8 + 28) / 256)


def test_one_seed_is_plain_mcnemar():
    draws = np.random.RandomState(0)
    arm, baseline = draws.rand(1, 200) < 0.9, draws.rand(1, 200) < 0.8
    result = mcnemar(arm, baseline)
    assert (result.better, result.worse) == (result.gained[0], result.lost[0])
    assert result.p_images == result.p[0] < 1


def test_seeds_that_share_their_images_are_not_counted_twice():
    """The same discordant images in every seed say no more than one seed does."""
    arm, baseline = np.zeros((2, 1, 100), bool)
    arm[0, :8], baseline[0, 8:10] = True, True
    once, often = mcnemar(arm, baseline), mcnemar(np.tile(arm, (20, 1)), np.tile(baseline, (20, 1)))
    assert often.p_images == once.p_images == pytest.approx(0.109375)  # 2 * 56 / 1024


def test_failed_seeds_are_left_out_pair_by_pair():
    values = study(4, {"base": 0, "a": 0.0004, "b": -0.0004})
    correct = {arm: np.random.RandomState(i).rand(10, 50) < 0.7 for i, arm in enumerate(values)}
    holes = {arm: row.copy() for arm, row in values.items()}
    holes["base"][2] = holes["a"][5] = NAN
    rows = compare(holes, "base", correct)
    for arm, gone in (("a", [2, 5]), ("b", [2])):
        kept = {name: np.delete(values[name], gone) for name in ("base", arm)}
        right = {name: np.delete(correct[name], gone, 0) for name in ("base", arm)}
        alone = compare(kept, "base", right)[arm]
        assert rows[arm].n == 10 - len(gone)
        assert (rows[arm].p, rows[arm].interval, rows[arm].sd) == (alone.p, alone.interval, alone.sd)
        assert rows[arm].images.gained == alone.images.gained
    assert summarise(holes["a"]).n == 9


@pytest.mark.parametrize("test", ["t", "wilcoxon"])
def test_degenerate_input_has_defined_values(test):
    same = np.ones((3, 5), bool)
    values = {
        "base": [0.8, 0.6, 0.3],
        "identical": [0.8, 0.6, 0.3],
        "one better": [0.9, 0.7, 0.4],  # 0.1 each, but not in binary
        "failed": [NAN, NAN, NAN],
        "one left": [NAN, 0.7, NAN],
    }
    rows = compare(values, "base", dict.fromkeys(values, same), test)
    assert not any(map(math.isnan, numbers(dataclasses.astuple(row) for row in rows.values())))
    row = rows["identical"]
    assert (row.difference, row.sd, row.p, row.p_holm, row.effect, row.interval) == (0, 0, 1, 1, None, None)
    assert (row.images.better, row.images.worse, row.images.p_images) == (0, 0, 1)
    row = rows["one better"]
    assert (row.difference, row.sd) == (pytest.approx(0.1), 0)
    assert (row.interval, row.effect, row.detectable) == (None, None, None)
    assert row.p == {"t": None, "wilcoxon": 0.25}[test]  # three of a sign: 2 / 8
    assert (rows["failed"].n, rows["failed"].difference, rows["failed"].p, rows["failed"].images) == (0, *[None] * 3)
    assert (rows["one left"].n, rows["one left"].difference) == (1, pytest.approx(0.1))
    assert rows["one left"].sd is None and rows["one left"].p is None


def test_equal_differences_have_equal_ranks():
    """0.1, 0.1, 0.1, -0.1 and 0.2 of values that have no exact binary form."""
    base = np.array([0.8, 0.6, 0.3, 0.5, 0.2])
    arm = np.array([0.9, 0.7, 0.4, 0.4, 0.4])
    assert len(set(np.abs(arm - base))) > 2
    row = compare({"base": base, "arm": arm}, "base", test="wilcoxon")["arm"]
    # Ranks 2.5 four times, and 5. Negative ranks sum to 2.5 or less with none negative or one of the four: 5 of 32.
    assert row.p == pytest.approx(2 * 5 / 32)


@pytest.mark.parametrize("values", [[], [0.5], [NAN, 0.5], [0.5, 0.5, 0.5], [0, 0]])
def test_summary_without_spread(values):
    summary = summarise(values)
    known = [value for value in values if not math.isnan(value)]
    assert summary.n == len(known) and summary.interval is None
    assert summary.mean == (known[0] if known else None)
    assert summary.sd == (0 if len(known) > 1 else None)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="baseline = 'c' .* a, b"):
        compare({"a": [1], "b": [1]}, "c")
    with pytest.raises(ValueError, match="test = 'z' .* t, wilcoxon"):
        compare({"a": [1]}, "a", test="z")
    with pytest.raises(ValueError, match="'b': 2"):
        compare({"a": [1], "b": [1, 2]}, "a")
