"""Metrics against scikit-learn."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from instructalign.evaluation.classification_metrics import (
    CLASSIFICATION_METRICS,
    majority_matrix,
    random_score,
)


def matrix_of(gold, predicted, labels):
    return confusion_matrix(gold, predicted, labels=range(labels)).astype(float)


def sklearn_scores(gold, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a label that is never predicted
        return {
            "accuracy": accuracy_score(gold, predicted),
            **{
                f"f1_{average}": f1_score(gold, predicted, average=average)
                for average in ("micro", "macro", "weighted")
            },
        }


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_equals_scikit_learn(pairs):
    gold, predicted = map(np.array, zip(*pairs, strict=True))
    for name, expected in sklearn_scores(gold, predicted).items():
        found = CLASSIFICATION_METRICS[name](matrix_of(gold, predicted, 4))
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        ([0, 0, 0], [0, 0, 0]),  # one label only
        ([0, 1, 2], [1, 2, 0]),  # all wrong
        ([0, 0, 1], [2, 2, 2]),  # only a label that is never right
        ([0], [0]),
        ([0], [1]),
        ([0, 1] * 10, [0] * 20),  # one label never predicted
    ],
)
def test_degenerate_cases_equal_scikit_learn(gold, predicted):
    for name, expected in sklearn_scores(gold, predicted).items():
        found = CLASSIFICATION_METRICS[name](matrix_of(gold, predicted, 3))
        assert found == pytest.approx(expected, abs=1e-12)


def test_metrics_of_many_resamples_at_once_equal_one_by_one():
    matrices = np.random.default_rng(0).integers(0, 5, (7, 3, 3)).astype(float)
    for metric in CLASSIFICATION_METRICS.values():
        np.testing.assert_allclose(metric(matrices), [metric(each) for each in matrices])


def test_random_baseline_is_the_mean_of_random_answers():
    gold = np.array([0] * 30 + [1] * 15 + [2] * 5)
    answers = np.random.default_rng(1).integers(0, 3, (2000, len(gold)))
    matrices = np.stack([matrix_of(gold, answer, 3) for answer in answers])
    support = np.bincount(gold).astype(float)
    assert random_score(support, "accuracy") == pytest.approx(1 / 3)
    for name, metric in CLASSIFICATION_METRICS.items():
        assert random_score(support, name) == pytest.approx(metric(matrices).mean(), abs=0.005), name


@pytest.mark.parametrize("support", [(4, 2, 3), (1, 1), (30, 5)])
def test_random_baseline_is_the_exact_expectation_and_below_the_plug_in(support):
    # F1 of a label is 2 hits / (its items + its predictions); both are binomial, and independent but for the hits.
    total, share = sum(support), 1 / len(support)
    exact = 0.0
    for items in support:
        for hits, other in itertools.product(range(items + 1), range(total - items + 1)):
            weight = binom.pmf(hits, items, share) * binom.pmf(other, total - items, share)
            exact += items / total * weight * 2 * hits / (items + hits + other)
    found = random_score(np.array(support, dtype=float), "f1_weighted")
    assert found == pytest.approx(exact, abs=0.005)
    plug_in = CLASSIFICATION_METRICS["f1_weighted"](np.outer(support, [share] * len(support)))
    assert found < plug_in - 0.002
    assert found == random_score(np.array(support, dtype=float), "f1_weighted")  # the same in every report


def test_majority_baseline_answers_the_most_frequent_label():
    gold = np.array([1, 1, 2, 0])
    expected = sklearn_scores(gold, [1, 1, 1, 1])
    for name, metric in CLASSIFICATION_METRICS.items():
        assert metric(majority_matrix(np.bincount(gold).astype(float))) == pytest.approx(expected[name])
