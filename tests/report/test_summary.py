from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.run_comparison import Baselines
from instructalign.evaluation.score_table import ScoreTable
from instructalign.report.run_results import RunResults
from instructalign.report.summary import incomparable, verdicts
from instructalign.types import Score


def score(
    run: str, group: str, metric: str, number: float, low: float | None = None, high: float | None = None
) -> Score:
    return Score(run, "mood", "", group, metric, number, low, high, 100)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "learned"),
        (-0.2, -0.01, "got worse"),
        (-0.1, 0.1, "nothing measurable"),
        (None, None, "nothing"),
    ],
)
def test_a_verdict_follows_the_interval(low: float | None, high: float | None, verdict: str) -> None:
    rows = [score("new", "L2", "gain", 0.05, low, high), score("new", "L2", "f1_weighted", 0.5)]
    ((name, text),) = verdicts(rows)
    assert name == "new"
    assert verdict in text
    assert "45.0\u00a0→\u00a050.0" in text


@pytest.mark.parametrize(
    ("gain", "text"), [(-0.003, "lost less than a point on the known"), (-0.01, "forgot part")]
)
def test_a_change_below_a_point_gets_no_strong_word(gain: float, text: str) -> None:
    ((_, verdict),) = verdicts([score("new", "L1", "gain", gain, gain - 0.001, gain + 0.001)])
    assert text in verdict


def test_a_few_items_get_no_verdict() -> None:
    few = Score("new", "mood", "", "L2", "gain", 0.5, 0.4, 0.6, 4)
    ((_, verdict),) = verdicts([few])
    assert "has 4 items on the new languages, too few for a verdict (L2" in verdict


BASELINE_ROWS = [
    Score(name, "mood", "", group, "f1_weighted", value)
    for name, value in (("random", 0.33), ("majority", 0.2))
    for group in ("L1", "L2", "L3")
]


def said(group: str, before: float, after: float, half: float = 0.03) -> str:
    """The verdict on a run whose scores, and whose gain, have intervals of the same width."""

    def row(run: str, metric: str, value: float) -> Score:
        return Score(run, "mood", "", group, metric, value, value - half, value + half, n=100)

    rows = [
        row("base", "f1_weighted", before),
        row("new", "f1_weighted", after),
        row("new", "gain", after - before),
    ]
    ((_, text),) = verdicts(rows, Baselines(BASELINE_ROWS), {"new": "base"})
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("group", "before", "after", "verdict", "numbers"),
    [
        ("L1", 0.226, 0.107, "nothing measurable to forget", "L1 22.6 → 10.7; baseline 33.0"),
        ("L1", 0.34, 0.33, "nothing measurable to forget", "L1 34.0 → 33.0; baseline 33.0"),
        ("L1", 0.34, 0.5, "even gained", "L1 34.0 → 50.0"),
        ("L1", 0.5, 0.2, "forgot part of what it knew", "L1 50.0 → 20.0"),
        ("L2", 0.2, 0.5, "learned the new languages", "L2 20.0 → 50.0"),
        ("L2", 0.2, 0.35, "did not get above the baselines", "L2 20.0 → 35.0; baseline 33.0"),
        ("L3", 0.2, 0.35, "did not get above the baselines", "L3 20.0 → 35.0; baseline 33.0"),
        ("L3", 0.35, 0.2, "fell below the baselines on related", "L3 35.0 → 20.0; baseline 33.0"),
        ("L3", 0.35, 0.31, "lost on related", "L3 35.0 → 31.0"),
        ("L2", 0.35, 0.36, "gained nothing measurable on the new", "L2 35.0 → 36.0"),
        ("L2", 0.5, 0.2, "got worse at the new languages", "L2 50.0 → 20.0"),
    ],
)
def test_verdicts_take_the_baselines_into_account(
    group: str, before: float, after: float, verdict: str, numbers: str
) -> None:
    text = said(group, before, after)
    assert verdict in text
    assert text.endswith(f"({numbers}).")


def test_verdicts_on_several_tasks_and_small_numbers() -> None:
    rows = [
        Score("base", "past", "", "L1", "token_probability", 0.00212, 0.0012, 0.0031),
        Score("new", "past", "", "L1", "token_probability", 0.00245, 0.0016, 0.0033),
        Score("new", "past", "", "L1", "gain", 0.00033, 0.00021, 0.00045),
        Score("base", "mood", "", "L1", "f1_weighted", 0.5, 0.4, 0.6),
        Score("new", "mood", "", "L1", "f1_weighted", 0.503, 0.4, 0.6),
        Score("new", "mood", "", "L1", "gain", 0.003, -0.02, 0.03),
    ]
    past, mood = (text for _, text in verdicts(rows))
    assert past.startswith("(past) ")
    assert "L1\u00a00.21\u00a0→\u00a00.24" in past
    assert "L1\u00a050.0\u00a0→\u00a050.3" in mood


SIGNATURE = {"n": [9], "prompts": ["x"], "scoring": "sum", "questions": "1"}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({}, None),
        ({"n": [8], "questions": "2"}, "b with other items than a"),
        ({"n": [8], "prompts": ["y"], "questions": "2"}, "b with other items and prompts than a"),
        ({"scoring": "mean"}, "b with other scoring rules than a"),
        ({"questions": "2"}, "b with other items or prompt wordings than a"),
    ],
)
def test_what_makes_scores_incomparable_is_named(other: dict[str, Any], expected: str | None) -> None:
    def run(name: str, signature: dict[str, Any]) -> RunResults:
        score = Score(name, "mood", "jav", "L2", "f1_weighted", 0.5, signature={**signature, "model": name})
        return RunResults(name, {}, None, ModelResults(name, ScoreTable([score])), Path(name), {}, "", ())

    found = incomparable([run("a", SIGNATURE), run("b", {**SIGNATURE, **other})])
    assert len(found) == (expected is not None)
    assert all("mood" in text and str(expected) in text for text in found)
