"""Paired tests against SciPy; Holm's correction against the closed test that it is a short cut of."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from instructalign.evaluation.bootstrap import Bootstrap, Outcome
from instructalign.evaluation.paired_tests import compare_outcomes, holm, p_value

GROUPS = {"L1": ["ind"], "L2": ["ace", "sun"]}


def outcome(language, right, items=None):
    """An outcome that is right where the array [prompts, items] says so."""
    right = np.atleast_2d(right).astype(bool)
    prompts = tuple(f"p{number}" for number in range(len(right)))
    names = items or tuple(f"i{number}" for number in range(right.shape[1]))
    gold = np.zeros(right.shape[1], dtype=np.int64)
    return Outcome("task", language, ("a", "b"), prompts, names, gold, np.where(right, 0, 1))


def both_p(before, after, rounds=4000):
    """(p, corrected p) by language and by group."""
    rows = compare_outcomes(
        before, after, GROUPS, "run", Bootstrap(rounds, 0), lambda _: {"task": "t"}, "accuracy"
    )
    found = {}
    for row in rows:
        if row.metric.startswith("gain_p"):
            assert row.low is row.high is None
            found.setdefault(row.language or row.group, []).append(row)
    return {name: (p.value, corrected.value) for name, (p, corrected) in found.items()}


def one_p(before, after, rounds=4000):
    return both_p([outcome("ace", before)], [outcome("ace", after)], rounds)["ace"][0]


@pytest.mark.parametrize(("size", "prompts"), [(9, 1), (12, 2), (40, 3)])
def test_p_equals_scipys_permutation_test(size, prompts):
    generator = np.random.default_rng(size)
    before, after = (generator.random((prompts, size)) < skill for skill in (0.4, 0.7))
    pairs = (before.mean(0), after.mean(0))
    scipys = stats.permutation_test(
        pairs,
        lambda one, other: other.mean() - one.mean(),
        permutation_type="samples",
        n_resamples=np.inf if size < 15 else 20_000,
        rng=1,
    ).pvalue
    assert one_p(before, after, 8000) == pytest.approx(scipys, abs=0.02)


@pytest.mark.parametrize(("better", "worse"), [(8, 2), (12, 1), (5, 5), (1, 0), (0, 0)])
def test_p_of_accuracy_equals_the_exact_test_of_mcnemar(better, worse):
    # McNemar's test asks whether the items on which only one model is right are shared out evenly.
    before = np.array([0] * better + [1] * worse + [1] * 20)
    after = np.array([1] * better + [0] * worse + [1] * 20)
    exact = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert one_p(before, after, 20_000) == pytest.approx(exact, abs=0.015)


def test_p_is_never_zero_and_the_same_model_has_one():
    always, never = np.ones(50), np.zeros(50)
    assert one_p(never, always, 999) == pytest.approx(1 / 1000)
    assert one_p(always, always, 50) == 1
    assert p_value(np.array([0.2, 0.1, -0.2, 0.3])) == 0.75


def test_the_test_keeps_its_level():
    generator = np.random.default_rng(5)
    ps = []
    for _ in range(400):
        hard = generator.random(40)
        before, after = (generator.random(40) < hard for _ in range(2))
        ps.append(one_p(before, after, 200))
    assert np.mean(np.array(ps) <= 0.05) < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(np.array(ps) <= 0.5) > 0.3  # and is not so cautious as to say nothing


def test_languages_of_a_parallel_set_are_swapped_together():
    # A second language with the same answers adds no evidence. Swapped apart from the first, it would.
    generator = np.random.default_rng(2)
    before, after = (generator.random((1, 60)) < skill for skill in (0.45, 0.62))
    both = both_p(*([outcome("ace", right), outcome("sun", right)] for right in (before, after)))
    assert both["L2"][0] == both["ace"][0] == both["sun"][0]
    apart = tuple(f"other{number}" for number in range(60))
    two = both_p(*([outcome("ace", right), outcome("sun", right, apart)] for right in (before, after)))
    assert two["L2"][0] < both["L2"][0]


def test_p_values_are_corrected_over_languages_and_over_groups():
    generator = np.random.default_rng(3)
    codes = ("ind", "ace", "sun")
    before = [outcome(code, generator.random((2, 80)) < 0.5) for code in codes]
    after = [
        outcome(code, generator.random((2, 80)) < skill)
        for code, skill in zip(codes, (0.5, 0.6, 0.7), strict=True)
    ]
    found = both_p(before, after)
    assert [found[code][1] for code in codes] == holm([found[code][0] for code in codes])
    assert [found[group][1] for group in GROUPS] == holm([found[group][0] for group in GROUPS])


def test_without_draws_there_is_no_test():
    assert both_p([outcome("ace", [1, 0])], [outcome("ace", [1, 1])], 0) == {}


def test_signatures_say_what_was_tested():
    rows = compare_outcomes(
        [outcome("ace", [1, 0])],
        [outcome("ace", [1, 1])],
        GROUPS,
        "run",
        Bootstrap(9, 0),
        lambda _: {"task": "t"},
        "accuracy",
    )
    signs = {row.metric: row.signature for row in rows if row.language}
    assert signs["gain"] == {"task": "t", "metric": "accuracy"}
    assert signs["gain_p"] == {**signs["gain"], "test": "approximate randomisation", "swaps": 9}
    assert signs["gain_p_holm"] == {**signs["gain_p"], "holm": 1}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_equals_the_closed_test(values):
    """A hypothesis falls in the closed test where every set of hypotheses that holds it falls by Bonferroni."""
    every = range(len(values))
    sets = [some for size in every for some in combinations(every, size + 1)]
    closed = [
        max(min(1.0, len(some) * min(values[i] for i in some)) for some in sets if index in some)
        for index in every
    ]
    assert holm(values) == pytest.approx(closed)


def test_other_questions_are_refused():
    from instructalign.errors import DataError

    before, after = outcome("ace", [1, 0]), outcome("ace", [1, 1])
    with pytest.raises(DataError, match="not asked the same labels"):
        both_p([before], [replace(after, labels=("a", "c"))])
