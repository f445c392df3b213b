"""Intervals against SciPy; scores by language and group; what predictions become."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from samples import random_sample, sample
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import (
    Bootstrap,
    percentile_interval,
    sample_of_predictions,
    score_classification,
    with_metric,
)
from instructalign.evaluation.classification_metrics import CLASSIFICATION_METRICS
from instructalign.types import Prediction


def interval(measured, resamples=2000):
    return percentile_interval(Bootstrap(resamples, 0).scores([measured]))


def f1(gold, predicted, metric):
    matrix = confusion_matrix(gold, predicted, labels=range(3)).astype(float)
    return CLASSIFICATION_METRICS[metric](matrix)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "f1_weighted"])
def test_interval_equals_scipys_bootstrap(metric):
    measured = random_sample("x", 3, metric=metric)
    low, high = interval(measured, 4000)
    cells = measured.statistics.argmax(-1)
    rows = np.stack([cells[0] // 3, *(cells % 3)], axis=1)

    def score(index):
        chosen = rows[np.asarray(index, dtype=int)]
        return np.mean([f1(chosen[:, 0], chosen[:, column], metric) for column in (1, 2)])

    scipys = stats.bootstrap(
        (np.arange(len(rows)),), score, n_resamples=1500, vectorized=False, method="percentile", rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx(tuple(scipys), abs=0.006)
    assert high - low > 0.05


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        ([0, 0, 1, 1] * 12, [0, 1, 1, 0] * 12),  # one label missing
        ([0, 1, 2] * 16, [1, 2, 0] * 16),  # all wrong
        ([0, 1, 2] * 16, [0, 1, 2] * 16),  # all right
        ([0, 1, 2] * 16, [0] * 48),  # a model that always says the same
        ([0] * 47 + [1], [0] * 48),  # draws in which a label is missing
    ],
    ids=["missing", "wrong", "right", "constant", "rare"],
)
@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "f1_weighted"])
def test_degenerate_intervals_equal_scipys(gold, predicted, metric):
    measured = sample("x", gold, predicted, metric=metric)
    average = {"f1_macro": "macro", "f1_weighted": "weighted"}.get(metric)
    data = np.stack([gold, predicted])

    def score(index):
        truth, answer = data[:, np.asarray(index, dtype=int)]
        if average is None:
            return accuracy_score(truth, answer)
        return f1_score(truth, answer, average=average, zero_division=0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy says that the draws do not vary
        scipys = stats.bootstrap(
            (np.arange(48),), score, n_resamples=400, vectorized=False, method="percentile", rng=1
        ).confidence_interval
    found = interval(measured)
    assert found == pytest.approx(tuple(scipys), abs=0.045)
    if len(set(zip(gold, predicted, strict=True))) == 3 and metric == "accuracy":
        assert found == tuple(scipys)  # nothing varies


def test_value_is_the_mean_over_prompts():
    measured = sample("x", [0, 1, 2, 0], [0, 1, 2, 0], [1, 1, 1, 1])
    assert Bootstrap(10, 0).scores([measured])[0] == pytest.approx((1 + 0.25) / 2)


def test_resamples_are_the_same_for_the_same_items_and_seed():
    first, second = random_sample("x", 1), random_sample("y", 2)
    assert np.array_equal(Bootstrap(20, 5).scores([first]), Bootstrap(20, 5).scores([first]))
    assert not np.array_equal(Bootstrap(20, 5).weights(first.items), Bootstrap(20, 6).weights(first.items))
    bootstrap = Bootstrap(20, 5)
    assert bootstrap.weights(first.items) is bootstrap.weights(second.items)
    weights = bootstrap.weights(first.items)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == len(first.items)).all()


def test_no_resamples_no_interval():
    assert interval(random_sample("x", 1), 0) == (None, None)


def sign(samples):
    return {"languages": [each.language for each in samples]}


def pick(scores, run, metric, group="", language=""):
    found = [s for s in scores if (s.run, s.metric, s.group, s.language) == (run, metric, group, language)]
    assert len(found) == 1
    return found[0]


GROUPS = {"L1": ["ind"], "L2": ["ace", "sun"], "L3": ["mad"]}


def test_groups_are_means_over_their_languages():
    samples = [
        sample("ind", [0, 1], [0, 1]),
        sample("ace", [0, 1], [0, 0]),
        sample("sun", [0, 1], [1, 0]),
        sample("fra", [0, 1], [1, 0]),
    ]
    scores = score_classification(samples, GROUPS, "base", Bootstrap(100, 0), sign)
    group = pick(scores, "base", "accuracy", "L2")
    assert group.value == pytest.approx((0.5 + 0) / 2)
    assert (group.n, group.signature) == (4, {"languages": ["ace", "sun"]})
    assert pick(scores, "base", "accuracy", "L1", "ind").value == 1
    assert pick(scores, "base", "accuracy", "", "fra").value == 0
    assert pick(scores, "random", "accuracy", "L2").value == pytest.approx(1 / 3)
    assert pick(scores, "majority", "accuracy", "L1", "ind").value == 0.5
    assert pick(scores, "majority", "accuracy", "L1", "ind").low is None
    assert not [score for score in scores if score.group == "L3"]


def test_a_language_of_two_groups_is_reported_under_the_first():
    groups = {"L1": ["ind", "ace"], "L2": ["ace"]}
    scores = score_classification([sample("ace", [0, 1], [0, 1])], groups, "base", Bootstrap(0, 0), sign)
    assert {score.group for score in scores if score.language == "ace"} == {"L1"}
    assert {score.group for score in scores if not score.language} == {"L1", "L2"}


# -- from predictions ------------------------------------------------------------------------------------


def prediction(prompt, item, gold="a", predicted="a"):
    return Prediction("task", "ace", prompt, item, gold, predicted, {"a": -1.0, "b": -2.0}, {"a": 1, "b": 1})


def test_predictions_are_gathered_in_any_order():
    predictions = [
        prediction("p", "1"),
        prediction("q", "2", "b", "a"),
        prediction("p", "2", "b", "b"),
        prediction("q", "1"),
    ]
    gathered = sample_of_predictions(predictions, "accuracy")
    assert gathered.items == ("1", "2")
    assert gathered.statistics.argmax(-1).tolist() == [[0, 3], [0, 2]]  # gold × 2 + predicted
    assert Bootstrap(0, 0).by_prompt(gathered)[:, 0].tolist() == [1, 0.5]
    macro = Bootstrap(0, 0).by_prompt(with_metric(gathered, "f1_macro"))[:, 0]
    assert macro == pytest.approx([1, 1 / 3])


@pytest.mark.parametrize(
    "predictions",
    [
        [prediction("p", "1"), prediction("q", "2")],
        [prediction("p", "1"), prediction("p", "1")],
    ],
)
def test_refuses_missing_or_double_predictions(predictions):
    with pytest.raises(DataError, match="task in ace"):
        sample_of_predictions(predictions)
