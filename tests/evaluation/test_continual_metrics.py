"""ACC, BWT, FWT and forgetting by hand; correlations against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from instructalign.errors import DataError
from instructalign.evaluation import continual_scores, correlate_gains
from instructalign.types import Score

# Rows: base, after stage 1, 2, 3. The expected values are computed by hand from the papers' formulas.
MATRIX = [
    [0.50, 0.40, 0.30],
    [0.80, 0.50, 0.30],
    [0.85, 0.90, 0.60],
    [0.70, 0.80, 0.90],
]


def test_by_hand():
    found = continual_scores(MATRIX, [0.5, 0.4, 0.3])
    assert found.average == pytest.approx((0.70 + 0.80 + 0.90) / 3)
    assert found.backward == pytest.approx(((0.70 - 0.80) + (0.80 - 0.90)) / 2)
    assert found.forward == pytest.approx(((0.50 - 0.40) + (0.60 - 0.30)) / 2)
    assert found.forgetting == pytest.approx(((0.85 - 0.70) + (0.90 - 0.80)) / 2)


def test_one_stage_has_an_average_only():
    found = continual_scores([[0.5], [0.9]], [0.5])
    assert (found.average, found.backward, found.forward, found.forgetting) == (0.9, None, None, None)


@pytest.mark.parametrize(
    ("matrix", "random"), [([[0.5, 0.5]], [0.5, 0.5]), ([[1], [1], [1]], [0.5]), ([], []), ([[0.5], [0.9]], 0.5)]
)
def test_shapes_must_match(matrix, random):
    with pytest.raises(DataError, match="shape"):
        continual_scores(matrix, random)


# -- correlation of gains ---------------------------------------------------------------------------------


def gains(pairs):
    return [
        Score(f"run{number}", "task", "", group, "gain", value)
        for number, pair in enumerate(pairs)
        for group, value in zip(("L2", "L3"), pair, strict=True)
    ]


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=20).filter(
        lambda pairs: all(len(set(column)) > 1 for column in zip(*pairs, strict=True))
    )
)
def test_correlations_equal_scipys(pairs):
    pearson, spearman = correlate_gains(gains(pairs), resamples=20)
    first, second = zip(*pairs, strict=True)
    assert pearson.value == pytest.approx(stats.pearsonr(first, second).statistic, abs=1e-9)
    assert spearman.value == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-9)
    assert pearson.n == len(pairs)


def test_correlation_has_an_interval_around_it():
    generator = np.random.default_rng(0)
    first = generator.normal(size=30)
    pearson, _ = correlate_gains(gains(zip(first, first + generator.normal(0, 0.5, 30), strict=True)))
    assert -1 <= pearson.low < pearson.value < pearson.high <= 1
    assert pearson.low > 0.5


@pytest.mark.parametrize("pairs", [[], [(1, 2), (2, 3)], [(1, 1), (1, 2), (1, 3)]])
def test_no_correlation_without_points_or_spread(pairs):
    assert correlate_gains(gains(pairs)) == []
