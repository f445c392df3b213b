"""Metrics against scikit-learn, intervals against SciPy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, Outcome, interval, outcome_of, score_outcomes
from instructalign.evaluation.classification_metrics import METRICS, confusion, majority_counts, random_counts
from instructalign.evaluation.continual_metrics import correlate_gains
from instructalign.evaluation.paired_tests import compare_outcomes
from instructalign.types import Prediction, Score

LABELS = ("a", "b", "c")


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
    counts = confusion(gold, predicted, 4)
    for name, expected in sklearn_scores(gold, predicted).items():
        assert METRICS[name](counts) == pytest.approx(expected, abs=1e-12)


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
    counts = confusion(np.array(gold), np.array(predicted), 3)
    for name, expected in sklearn_scores(gold, predicted).items():
        assert METRICS[name](counts) == pytest.approx(expected, abs=1e-12)


def test_metrics_of_many_draws_at_once_equal_one_by_one():
    counts = np.random.default_rng(0).integers(0, 5, (7, 3, 3)).astype(float)
    for metric in METRICS.values():
        np.testing.assert_allclose(metric(counts), [metric(each) for each in counts])


def test_random_baseline_is_the_mean_of_guessing():
    gold = np.array([0] * 30 + [1] * 15 + [2] * 5)
    guesses = np.random.default_rng(1).integers(0, 3, (4000, len(gold)))
    counts = np.stack([confusion(gold, guess, 3) for guess in guesses])
    expected = random_counts(gold, 3)
    np.testing.assert_allclose(counts.mean(0), expected, atol=0.2)
    assert METRICS["accuracy"](expected) == pytest.approx(1 / 3)
    for name, metric in METRICS.items():
        assert metric(expected) == pytest.approx(metric(counts).mean(), abs=0.015), name


def test_majority_baseline_answers_the_most_frequent_label():
    gold = np.array([1, 1, 2, 0])
    expected = sklearn_scores(gold, [1, 1, 1, 1])
    for name, metric in METRICS.items():
        assert metric(majority_counts(gold, 3)) == pytest.approx(expected[name])


# -- intervals -------------------------------------------------------------------------------------------


def outcome(language, gold, *predicted, task="task", items=None, prompts=None):
    return Outcome(
        task,
        language,
        LABELS,
        tuple(prompts or [f"p{number}" for number in range(len(predicted))]),
        tuple(items or [f"i{number}" for number in range(len(gold))]),
        np.array(gold),
        np.array(predicted),
    )


def random_outcome(language, seed, size=300, skill=0.6, prompts=2):
    generator = np.random.default_rng(seed)
    gold = np.arange(size) % 3
    answers = [
        np.where(generator.random(size) < skill, gold, generator.integers(0, 3, size)) for _ in range(prompts)
    ]
    return outcome(language, gold, *answers)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "f1_weighted"])
def test_interval_equals_scipys_bootstrap(metric):
    measured = random_outcome("x", 3)
    low, high = interval(Bootstrap(4000, 0).values(measured, metric))
    rows = np.stack([measured.gold, *measured.predicted], axis=1)

    def score(index):
        chosen = rows[np.asarray(index, dtype=int)]
        return np.mean([METRICS[metric](confusion(chosen[:, 0], chosen[:, column], 3)) for column in (1, 2)])

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
    measured = outcome("x", gold, predicted)
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
    found = interval(Bootstrap(2000, 0).values(measured, metric))
    assert found == pytest.approx(tuple(scipys), abs=0.045)
    if len(set(zip(gold, predicted, strict=True))) == 3 and metric == "accuracy":
        assert found == tuple(scipys)  # nothing varies


def test_value_is_the_mean_over_prompts():
    measured = outcome("x", [0, 1, 2, 0], [0, 1, 2, 0], [1, 1, 1, 1])
    assert Bootstrap(10, 0).values(measured, "accuracy")[0] == pytest.approx((1 + 0.25) / 2)


def test_draws_are_the_same_for_the_same_items_and_seed():
    first, second = random_outcome("x", 1), random_outcome("y", 2)
    assert np.array_equal(Bootstrap(20, 5).values(first, "accuracy"), Bootstrap(20, 5).values(first, "accuracy"))
    assert not np.array_equal(Bootstrap(20, 5).weights(first.items), Bootstrap(20, 6).weights(first.items))
    bootstrap = Bootstrap(20, 5)
    assert bootstrap.weights(first.items) is bootstrap.weights(second.items)
    weights = bootstrap.weights(first.items)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == len(first.items)).all()


def test_no_rounds_no_interval():
    assert interval(Bootstrap(0, 0).values(random_outcome("x", 1), "accuracy")) == (None, None)


def sign(outcomes):
    return {"languages": [each.language for each in outcomes]}


def pick(scores, run, metric, group="", language=""):
    found = [s for s in scores if (s.run, s.metric, s.group, s.language) == (run, metric, group, language)]
    assert len(found) == 1
    return found[0]


GROUPS = {"L1": ["ind"], "L2": ["ace", "sun"], "L3": ["mad"]}


def test_groups_are_means_over_their_languages():
    outcomes = [
        outcome("ind", [0, 1], [0, 1]),
        outcome("ace", [0, 1], [0, 0]),
        outcome("sun", [0, 1], [1, 0]),
        outcome("fra", [0, 1], [1, 0]),
    ]
    scores = score_outcomes(outcomes, GROUPS, "base", Bootstrap(100, 0), sign)
    group = pick(scores, "base", "accuracy", "L2")
    assert group.value == pytest.approx((0.5 + 0) / 2)
    assert (group.n, group.signature) == (4, {"languages": ["ace", "sun"]})
    assert pick(scores, "base", "accuracy", "L1", "ind").value == 1
    assert pick(scores, "base", "accuracy", "", "fra").value == 0
    assert pick(scores, "random", "accuracy", "L2").value == pytest.approx(1 / 3)
    assert pick(scores, "majority", "accuracy", "L1", "ind").value == 0.5
    assert pick(scores, "majority", "accuracy", "L1", "ind").low is None
    assert not [score for score in scores if score.group == "L3"]


def test_gains_and_forgetting_with_paired_intervals():
    before = [random_outcome("ind", 1, skill=0.7), random_outcome("ace", 2, skill=0.3)]
    after = [random_outcome("ind", 3, skill=0.5), random_outcome("ace", 4, skill=0.8)]
    scores = compare_outcomes(before, after, GROUPS, "adapted", Bootstrap(500, 0), sign, "accuracy")

    def change(index):
        old, new = before[index], after[index]
        return (new.predicted == new.gold).mean() - (old.predicted == old.gold).mean()

    gain = pick(scores, "adapted", "gain", "L2")
    assert gain.value == pytest.approx(change(1))
    assert 0 < gain.low < gain.value < gain.high
    forgetting = pick(scores, "adapted", "forgetting", "L1")
    assert forgetting.value == pytest.approx(-change(0))
    assert pick(scores, "adapted", "gain", "L1").value == pytest.approx(change(0))
    signature = pick(scores, "adapted", "forgetting", "L1", "ind").signature
    assert signature == {"languages": ["ind"], "metric": "accuracy"}
    assert not [score for score in scores if score.metric == "forgetting" and score.group != "L1"]


def test_pairing_cancels_what_both_models_share():
    before = random_outcome("ace", 1, size=200, skill=0.5, prompts=1)
    better = before.predicted.copy()
    wrong = np.flatnonzero(better[0] != before.gold)[:10]
    better[0, wrong] = before.gold[wrong]
    after = outcome("ace", before.gold, better[0])
    gain = pick(
        compare_outcomes([before], [after], GROUPS, "a", Bootstrap(1000, 0), sign, "accuracy"), "a", "gain", "L2"
    )
    assert gain.value == pytest.approx(0.05)
    assert gain.high - gain.low < 0.07  # apart, each has an interval of about 0.13


def test_the_same_model_gains_nothing():
    same = [random_outcome("ace", 1)]
    gain = pick(compare_outcomes(same, same, GROUPS, "a", Bootstrap(50, 0), sign), "a", "gain", "L2")
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (outcome("ace", [0, 1], [0, 1], items=["i0", "i9"]), "items"),
        (outcome("ace", [0, 1], [0, 1], prompts=["q"]), "prompts"),
    ],
)
def test_comparison_refuses_other_questions(other, what):
    first = outcome("ace", [0, 1], [0, 1])
    with pytest.raises(DataError, match=f"task in ace: the two models were not asked the same {what}"):
        compare_outcomes([first], [other], GROUPS, "a", Bootstrap(0, 0), sign)


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
    pearson, spearman = correlate_gains(gains(pairs), rounds=20)
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


# -- from predictions ------------------------------------------------------------------------------------


def prediction(prompt, item, gold="a", predicted="a"):
    return Prediction("task", "ace", prompt, item, gold, predicted, {"a": -1.0, "b": -2.0}, {"a": 1, "b": 1})


def test_outcome_gathers_predictions_in_any_order():
    predictions = [
        prediction("p", "1"),
        prediction("q", "2", "b", "a"),
        prediction("p", "2", "b", "b"),
        prediction("q", "1"),
    ]
    gathered = outcome_of(predictions)
    assert gathered.items == ("1", "2")
    assert gathered.gold.tolist() == [0, 1]
    assert gathered.predicted.tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    "predictions",
    [
        [prediction("p", "1"), prediction("q", "2")],
        [prediction("p", "1"), prediction("p", "1")],
    ],
)
def test_outcome_refuses_missing_or_double_predictions(predictions):
    with pytest.raises(DataError, match="the predictions of task in ace are not one for each"):
        outcome_of(predictions)
