"""Intervals over levels and items: against SciPy, against the analysis of variance, and by how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from instructalign.evaluation.bootstrap import percentile_interval
from instructalign.evaluation.variance import mean_interval, over_levels, student_quantile

# Draws that do not vary: as if the items were known without error, so that only the levels are left.
SEEDS, OTHERS = np.array([0.61, 0.55, 0.68]), np.array([0.42, 0.47, 0.40, 0.52])


def still(values):
    return np.repeat(np.asarray(values)[:, None], 51, axis=1)


def draws_of(right, rounds=2000, seed=0):
    """Accuracies by level on the items and on draws of them, from an array [levels, items] of 0 and 1."""
    size = right.shape[1]
    weights = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), rounds) / size
    return np.concatenate([right.mean(1)[:, None], right @ weights.T], axis=1)


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 3.7, 5, 12, 40, 400, 9000])
def test_quantiles_equal_scipys(freedom):
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


@pytest.mark.parametrize("count", [2, 3, 12, 100])
def test_intervals_of_means_equal_scipys(count):
    values = [((7 * i) % 13) / 13 for i in range(count)]
    expected = stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected, rel=1e-9)


def test_levels_alone_give_students_interval():
    found = over_levels(still(SEEDS), 400)
    low, high = stats.t.interval(0.95, 2, SEEDS.mean(), stats.sem(SEEDS))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.value, found.deviation) == pytest.approx((SEEDS.mean(), SEEDS.std(ddof=1)))


def test_a_difference_of_levels_gives_welchs_interval():
    found = over_levels(still(SEEDS), 400, minus=still(OTHERS), bounds=(-1, 1))
    welch = stats.ttest_ind(SEEDS, OTHERS, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(welch))
    base = over_levels(still(SEEDS), 400, minus=still([0.4]), bounds=(-1, 1))
    low, high = stats.t.interval(0.95, 2, SEEDS.mean() - 0.4, stats.sem(SEEDS))
    assert (base.value, base.low, base.high) == pytest.approx((SEEDS.mean() - 0.4, low, high))


@pytest.mark.parametrize(("levels", "items", "seed"), [(5, 300, 4), (4, 60, 1)])  # the second: a large interaction
def test_variance_is_that_of_the_analysis_of_variance(levels, items, seed):
    generator = np.random.default_rng(seed)
    logit = 0.5 + generator.normal(0, 0.5, (levels, 1)) + generator.normal(0, 1, items)
    right = (generator.random((levels, items)) < 1 / (1 + np.exp(-logit))).astype(float)
    found = over_levels(draws_of(right), items)
    # Mean squares of a crossed design with one observation a cell; the expected ones give the components.
    mean = right.mean()
    of_levels = items * ((right.mean(1) - mean) ** 2).sum() / (levels - 1)
    of_items = levels * ((right.mean(0) - mean) ** 2).sum() / (items - 1)
    rest = right - right.mean(1, keepdims=True) - right.mean(0) + mean
    together = (rest**2).sum() / ((levels - 1) * (items - 1))
    parts = np.array([of_levels, of_items, -together]) / (levels * items)
    freedom = parts.sum() ** 2 / (parts**2 / [levels - 1, items - 1, (levels - 1) * (items - 1)]).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(parts.sum())
    assert found.high - found.value == pytest.approx(half, rel=0.04)  # the draws are random


def test_where_levels_do_not_differ_the_items_are_left():
    right = (np.random.default_rng(1).random((1, 400)) < 0.6).repeat(3, axis=0).astype(float)
    found = over_levels(draws_of(right), 400)
    low, high = stats.norm.interval(0.95, right.mean(), right[0].std() / 20)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.003)
    assert found.deviation == 0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_wrong_or_all_right_has_no_width(share):
    found = over_levels(draws_of(np.full((3, 50), share)), 50)
    assert (found.value, found.low, found.high, found.deviation) == pytest.approx((share, share, share, 0))


def test_the_interval_stays_within_bounds():
    found = over_levels(still([0.99, 1.0]), 100)
    assert found.high == 1
    assert found.low < 0.99


def test_no_interval_without_resamples():
    for values, deviation in (([[0.5]], None), ([[0.5], [0.6]], pytest.approx(0.1 / 2**0.5))):
        found = over_levels(np.array(values), 100)
        assert (found.low, found.high, found.deviation) == (None, None, deviation)
        assert not found.excludes_zero


def test_single_levels_have_the_paired_interval_over_items():
    generator = np.random.default_rng(7)
    right = generator.random((2, 200)) < [[0.5], [0.7]]
    one, other = (draws_of(some[None].astype(float)) for some in right)
    alone, apart = over_levels(one, 200), over_levels(other, 200, minus=one, bounds=(-1, 1))
    assert (alone.low, alone.high) == percentile_interval(one[0])
    assert (apart.low, apart.high) == percentile_interval(other[0] - one[0])
    assert apart.deviation is None
    assert apart.excludes_zero is (apart.low > 0) is True


def test_a_difference_has_the_same_interval_whichever_side_has_the_levels():
    right = (np.random.default_rng(3).random((4, 150)) < 0.6).astype(float)
    many, one = draws_of(right[:3]), draws_of(right[3:])
    there = over_levels(many, 150, minus=one, bounds=(-1, 1))
    back = over_levels(one, 150, minus=many, bounds=(-1, 1))
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


@pytest.mark.parametrize(("levels", "apart"), [(3, 0.0), (3, 0.3), (6, 0.3)])
def test_intervals_hold_the_truth_as_often_as_they_say(levels, apart):
    """Levels and items drawn anew: 95 % of the intervals should hold the mean over all there are."""
    generator = np.random.default_rng(levels)
    truth = _mean_of_all(apart)
    hits = 0
    for _ in range(400):
        logit = 0.3 + generator.normal(0, apart, (levels, 1)) + generator.normal(0, 1, 120)
        right = (generator.random((levels, 120)) < 1 / (1 + np.exp(-logit))).astype(float)
        found = over_levels(draws_of(right, 150, int(generator.integers(1 << 30))), 120)
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.995


def _mean_of_all(apart):
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float((weights / (1 + np.exp(-(0.3 + np.hypot(1, apart) * nodes)))).sum() / weights.sum())
