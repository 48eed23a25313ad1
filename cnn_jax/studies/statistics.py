"""Statistics of a study: arms measured over the same seeds, each compared with a baseline seed by seed.

The tests and distributions are SciPy's. Holm's adjustment, which SciPy does not have, is written out: it is three
lines, and statsmodels, which has it, would bring pandas with it.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy import special, stats

LEVEL = 0.95  # of every interval
ALPHA, POWER = 0.05, 0.8  # two-sided size of the test and its power, for the detectable effect
SAME = 1e-6  # differences closer than this share of the largest value are equal: the rest is rounding
TESTS = ("t", "wilcoxon")
REHEARSAL = 4  # seeds, below which a study is a rehearsal: nothing is tested

Name = TypeVar("Name", bound=Hashable)  # of a comparison


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """One arm over its seeds, in the unit of the values.

    Attributes:
      n: seeds with a value.
      mean: None for no seed.
      sd: sample standard deviation (n - 1 in the denominator); None for fewer than two seeds.
      interval: 95 % interval of the mean by Student's t; None for fewer than two seeds or equal values.
    """

    n: int
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class McNemar:
    """Counts of images that only the arm or only the baseline gets right, and exact two-sided binomial tests of them.

    The seeds share their test images, so their counts must not be added up and tested as if they were independent.
    The one test over all seeds therefore counts each image once: as better if more seeds get it right with the arm
    than with the baseline, as worse if fewer do. With one seed that is McNemar's test itself. It generalises to other
    images for these very networks; the paired test over seeds generalises to other seeds for these very images.

    Attributes:
      gained: for each pair of seeds, images that only the arm gets right.
      lost: images that only the baseline gets right.
      p: p-value for each pair of seeds; 1 where the two agree on every image.
      better: images that more seeds get right with the arm than with the baseline.
      worse: images that fewer seeds get right.
      p_images: p-value of better against worse.
      p_images_holm: `p_images` adjusted over the arms by Holm's method.
    """

    gained: tuple[int, ...]
    lost: tuple[int, ...]
    p: tuple[float, ...]
    better: int
    worse: int
    p_images: float
    p_images_holm: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm against the baseline over the seeds that both have, in the unit of the values.

    Where there is nothing to judge by, a figure is None: for fewer than two pairs, and for differences that are all
    equal (their spread is unknown, not nought). Differences that are all zero have p = 1.

    Attributes:
      n: pairs of seeds.
      difference: mean of arm minus baseline; None for no pair.
      sd: standard deviation of the differences (n - 1 in the denominator).
      interval: 95 % interval of the mean difference by Student's t.
      test: "t" or "wilcoxon", the test that p comes from.
      p: two-sided. Wilcoxon's cannot fall below 2 / 2**n: 0.0625 for five seeds.
      p_holm: adjusted over the arms by Holm's method.
      effect: Cohen's d_z, the mean of the differences over their standard deviation.
      detectable: the true mean difference that a two-sided paired t-test of size 0.05 finds with probability 0.8,
        with this n and this sd.
      images: McNemar's tests; None where right and wrong answers were not given, or for no pair.
    """

    n: int
    difference: float | None
    sd: float | None
    interval: tuple[float, float] | None
    test: str
    p: float | None
    p_holm: float | None = None
    effect: float | None
    detectable: float | None
    images: McNemar | None


def summarise_shares(values: Sequence[float]) -> Summary:
    """Summarises the shares of an arm, 0 to 1, in %; an interval ends where shares do, at 0 and 100.

    Args:
      values: [seeds]; NaN for a seed that failed, which is left out.
    """
    found = summarise(100 * np.asarray(values, np.float64))
    if found.interval is None:
        return found
    low, high = found.interval
    return dataclasses.replace(found, interval=(max(low, 0.0), min(high, 100.0)))


def summarise(values: Sequence[float]) -> Summary:
    """Returns one arm.

    Args:
      values: [seeds]; NaN for a seed that failed, which is left out.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    return _summary(values, _unit(values))


def compare(
    values: Mapping[str, Sequence[float]],
    baseline: str,
    correct: Mapping[str, np.ndarray] | None = None,
    test: str = "t",
) -> dict[str, Comparison]:
    """Returns every arm but the baseline, compared with it.

    Args:
      values: for each arm, [seeds], seed by seed in the same order; NaN for a seed that failed. A seed that failed in
        either of two arms is left out of their comparison.
      baseline: the name of the arm that the others are compared with.
      correct: for each arm, bool [seeds, images], whether a test image was classified correctly.
      test: "t", the paired t-test, or "wilcoxon", the signed-rank test; to be chosen before looking.

    Raises:
      ValueError: an unknown baseline or test, or arms with different numbers of seeds.
    """
    if baseline not in values:
        raise ValueError(f"baseline = {baseline!r} is none of the arms: {', '.join(values)}")
    if test not in TESTS:
        raise ValueError(f"test = {test!r} must be one of {', '.join(TESTS)}")
    values = {arm: np.asarray(row, np.float64) for arm, row in values.items()}
    if len({row.shape for row in values.values()}) > 1:
        raise ValueError(f"arms with different seeds: { {arm: len(row) for arm, row in values.items()} }")
    against = lambda rows: {arm: (rows[arm], rows[baseline]) for arm in values if arm != baseline}
    return paired(against(values), correct and against(correct), test)


def paired(
    values: Mapping[Name, tuple[np.ndarray, np.ndarray]],
    correct: Mapping[Name, tuple[np.ndarray, np.ndarray]] | None = None,
    test: str = "t",
) -> dict[Name, Comparison]:
    """Returns a family of comparisons: p-values are adjusted over all of them.

    Args:
      values: by any name, two arrays [seeds], the first compared with the second.
      correct: likewise bool [seeds, images].
      test: as of `compare`.
    """
    rows = {}
    for name, (one, other) in values.items():
        both = np.isfinite(one) & np.isfinite(other)
        images = mcnemar(*(each[both] for each in correct[name])) if correct and both.any() else None
        rows[name] = _compared(one[both], other[both], images, test)
    over_seeds = holm([row.p for row in rows.values()])
    over_images = holm([row.images and row.images.p_images for row in rows.values()])
    for (name, row), p_holm, p_images_holm in zip(rows.items(), over_seeds, over_images, strict=True):
        images = row.images and dataclasses.replace(row.images, p_images_holm=p_images_holm)
        rows[name] = dataclasses.replace(row, p_holm=p_holm, images=images)
    return rows


def untested(compared: Comparison) -> Comparison:
    """Returns a comparison of a rehearsal, whose p-values would say more than its few seeds can."""
    images = compared.images and dataclasses.replace(compared.images, p_images_holm=None)
    return dataclasses.replace(compared, p=None, p_holm=None, effect=None, images=images)


def _compared(arm, reference, images, test):
    differences = arm - reference
    unit = _unit(np.concatenate([arm, reference]))
    summary = _summary(differences, unit)
    spread = summary.interval is not None
    return Comparison(
        n=summary.n,
        difference=summary.mean,
        sd=summary.sd,
        interval=summary.interval,
        test=test,
        p=_p_value(differences, unit, spread, test),
        effect=summary.mean / summary.sd if spread else None,
        detectable=summary.sd * detectable(summary.n) if spread else None,
        images=images,
    )


def mcnemar(arm: np.ndarray, baseline: np.ndarray) -> McNemar:
    """McNemar's exact tests, for each pair of seeds and for all of them.

    Args:
      arm: bool [seeds, images], whether an image was classified correctly.
      baseline: likewise, the same seeds and images.
    """
    gained, lost = (arm & ~baseline).sum(1), (~arm & baseline).sum(1)
    votes = arm.sum(0, dtype=np.int64) - baseline.sum(0, dtype=np.int64)
    better, worse = int((votes > 0).sum()), int((votes < 0).sum())
    return McNemar(
        gained=tuple(gained.tolist()),
        lost=tuple(lost.tolist()),
        p=tuple(map(_sign_test, gained.tolist(), lost.tolist())),
        better=better,
        worse=worse,
        p_images=_sign_test(better, worse),
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979): the familywise error stays below the level, whatever the dependence.

    Args:
      p_values: one for each test; None for a test that could not be made, which does not count.

    Returns:
      The adjusted values in the same order.
    """
    known = [index for index, p in enumerate(p_values) if p is not None]
    order = sorted(known, key=p_values.__getitem__)
    steps = [p_values[index] * (len(order) - rank) for rank, index in enumerate(order)]
    adjusted = dict(zip(order, np.minimum(np.maximum.accumulate(steps), 1).tolist(), strict=True))
    return [adjusted.get(index) for index in range(len(p_values))]


def detectable(n: int) -> float:
    """Returns the true mean difference, in standard deviations, that n pairs find with probability 0.8.

    Of a two-sided paired t-test of size 0.05, from the noncentral t distribution. The chance of a significant result
    of the wrong sign, below 1e-5, is left out.

    Args:
      n: pairs, at least 2.
    """
    critical = stats.t.ppf(1 - ALPHA / 2, n - 1)
    return float(special.nctdtrinc(n - 1, 1 - POWER, critical) / np.sqrt(n))


def _p_value(differences, unit, spread, test):
    if len(differences) < 2:
        return None
    rounded = np.round(differences / unit)
    if not rounded.any():
        return 1.0
    if test == "wilcoxon":  # of ranks, so differences that are all equal are as good as any
        return float(stats.wilcoxon(rounded).pvalue)
    return float(stats.ttest_1samp(differences, 0).pvalue) if spread else None


def band(values) -> tuple[float, float]:
    """Returns what a figure shows around the mean of seeds: its 95 % interval; of fewer than `REHEARSAL`, their range.

    Args:
      values: [seeds], at least one; finite.
    """
    interval = summarise(values).interval if len(values) >= REHEARSAL else (float(min(values)), float(max(values)))
    return interval or (float(values[0]),) * 2


def _unit(values):
    """The least difference between values that counts; 0.9 - 0.8 and 0.7 - 0.6 differ by less."""
    return SAME * np.abs(values).max(initial=0) or 1.0


def _summary(values, unit):
    n = len(values)
    if n < 2:
        return Summary(n=n, mean=float(values[0]) if n else None, sd=None, interval=None)
    mean = float(values.mean())
    if np.ptp(values) < unit:
        return Summary(n=n, mean=mean, sd=0.0, interval=None)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(LEVEL)
    return Summary(n=n, mean=mean, sd=float(values.std(ddof=1)), interval=(float(low), float(high)))


def _sign_test(ups, downs):
    """Two-sided p of so many ups and downs where either is as likely; exact."""
    return float(stats.binomtest(ups, ups + downs).pvalue) if ups + downs else 1.0
