"""Paired tests against SciPy; Holm's correction against the closed test that it is a short cut of."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import random_sample, right_or_wrong
from scipy import stats

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap
from instructalign.evaluation.gains import compare_samples, holm, p_value

GROUPS = {"L1": ["ind"], "L2": ["ace", "sun"]}


def sign(samples):
    return {"languages": [each.language for each in samples]}


def pick(scores, metric, group="", language=""):
    found = [s for s in scores if (s.metric, s.group, s.language) == (metric, group, language)]
    assert len(found) == 1
    return found[0]


def both_p(before, after, rounds=4000):
    """(p, corrected p) by language and by group."""
    rows = compare_samples(before, after, GROUPS, "run", Bootstrap(rounds, 0), sign, "accuracy")
    found = {}
    for row in rows:
        if row.metric.startswith("gain_p"):
            assert row.low is row.high is None
            found.setdefault(row.language or row.group, []).append(row)
    return {name: (p.value, corrected.value) for name, (p, corrected) in found.items()}


def one_p(before, after, rounds=4000):
    return both_p([right_or_wrong("ace", before)], [right_or_wrong("ace", after)], rounds)["ace"][0]


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
    both = both_p(*([right_or_wrong("ace", right), right_or_wrong("sun", right)] for right in (before, after)))
    assert both["L2"][0] == both["ace"][0] == both["sun"][0]
    apart = tuple(f"other{number}" for number in range(60))
    two = both_p(
        *([right_or_wrong("ace", right), right_or_wrong("sun", right, apart)] for right in (before, after))
    )
    assert two["L2"][0] < both["L2"][0]


def test_p_values_are_corrected_over_languages_and_over_groups():
    generator = np.random.default_rng(3)
    codes = ("ind", "ace", "sun")
    before = [right_or_wrong(code, generator.random((2, 80)) < 0.5) for code in codes]
    after = [
        right_or_wrong(code, generator.random((2, 80)) < skill)
        for code, skill in zip(codes, (0.5, 0.6, 0.7), strict=True)
    ]
    found = both_p(before, after)
    assert [found[code][1] for code in codes] == holm([found[code][0] for code in codes])
    assert [found[group][1] for group in GROUPS] == holm([found[group][0] for group in GROUPS])


def test_without_draws_there_is_no_test():
    assert both_p([right_or_wrong("ace", [1, 0])], [right_or_wrong("ace", [1, 1])], 0) == {}


def test_signatures_say_what_was_tested():
    before, after = right_or_wrong("ace", [1, 0]), right_or_wrong("ace", [1, 1])
    rows = compare_samples([before], [after], GROUPS, "run", Bootstrap(9, 0), sign, "accuracy")
    signs = {row.metric: row.signature for row in rows if row.language}
    assert signs["gain"] == {"languages": ["ace"], "metric": "accuracy"}
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


def accuracy(measured):
    cells = measured.statistics.argmax(-1)
    return (cells // 3 == cells % 3).mean()


def test_gains_and_forgetting_with_paired_intervals():
    before = [random_sample("ind", 1, skill=0.7), random_sample("ace", 2, skill=0.3)]
    after = [random_sample("ind", 3, skill=0.5), random_sample("ace", 4, skill=0.8)]
    scores = compare_samples(before, after, GROUPS, "adapted", Bootstrap(500, 0), sign, "accuracy")

    def change(index):
        old, new = before[index], after[index]
        return accuracy(new) - accuracy(old)

    gain = pick(scores, "gain", "L2")
    assert gain.value == pytest.approx(change(1))
    assert 0 < gain.low < gain.value < gain.high
    forgetting = pick(scores, "forgetting", "L1")
    assert forgetting.value == pytest.approx(-change(0))
    assert pick(scores, "gain", "L1").value == pytest.approx(change(0))
    signature = pick(scores, "forgetting", "L1", "ind").signature
    assert signature == {"languages": ["ind"], "metric": "accuracy"}
    assert not [score for score in scores if score.metric == "forgetting" and score.group != "L1"]


def test_pairing_cancels_what_both_models_share():
    right = np.random.default_rng(1).random(200) < 0.5
    better = right.copy()
    better[np.flatnonzero(~right)[:10]] = True
    before, after = right_or_wrong("ace", right), right_or_wrong("ace", better)
    gain = pick(
        compare_samples([before], [after], GROUPS, "a", Bootstrap(1000, 0), sign, "accuracy"), "gain", "L2"
    )
    assert gain.value == pytest.approx(0.05)
    assert gain.high - gain.low < 0.07  # apart, each has an interval of about 0.13


def test_the_same_model_gains_nothing():
    same = [random_sample("ace", 1)]
    gain = pick(compare_samples(same, same, GROUPS, "a", Bootstrap(50, 0), sign, "accuracy"), "gain", "L2")
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("other", "what"),
    [({"items": ("i0", "i9")}, "items"), ({"prompts": ("q",)}, "prompts"), ({"labels": ("a", "c")}, "labels")],
)
def test_comparison_refuses_other_items_prompts_and_labels(other, what):
    before, after = right_or_wrong("ace", [1, 0]), right_or_wrong("ace", [1, 1])
    with pytest.raises(DataError, match=f"task in ace: .* {what}"):
        both_p([before], [replace(after, **other)])
