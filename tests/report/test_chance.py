"""What the report says where a model is no better than guessing, and of runs that were asked different things."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import REPLAY, write_evaluation, write_run

from instructalign.evaluation.comparison import Baselines
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.score_table import ScoreTable
from instructalign.report import Report, write_report
from instructalign.report.asked import asked_differently
from instructalign.report.run_results import RunResults
from instructalign.report.words import verdicts
from instructalign.types import Prediction, Score

GUESSING = [
    Score(name, "mood", "", group, "f1_weighted", value)
    for name, value in (("random", 0.33), ("majority", 0.2))
    for group in ("L1", "L2", "L3")
]
NOTHING = {"L1": 0.2, "L2": 0.2, "L3": 0.2}  # the skill of a model that knows nothing


def said(group: str, before: float, after: float, half: float = 0.03) -> str:
    """The verdict on a run whose scores, and whose gain, have intervals of the same width."""

    def row(run: str, metric: str, value: float) -> Score:
        return Score(run, "mood", "", group, metric, value, value - half, value + half)

    rows = [
        row("base", "f1_weighted", before),
        row("new", "f1_weighted", after),
        row("new", "gain", after - before),
    ]
    ((_, text),) = verdicts(rows, Baselines(GUESSING), {"new": "base"})
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("group", "before", "after", "expected"),
    [
        (
            "L1",
            0.226,
            0.107,
            "had nothing measurable to forget on the known ones, where the base was no better than guessing "
            "(L1 22.6 → 10.7; guessing 33.0).",
        ),
        (
            "L1",
            0.34,
            0.33,
            "had nothing measurable to forget on the known ones, where the base was no better than guessing "
            "(L1 34.0 → 33.0; guessing 33.0).",
        ),
        ("L1", 0.34, 0.5, "even gained on the known ones (L1 34.0 → 50.0)."),
        ("L1", 0.5, 0.2, "forgot part of what it knew (L1 50.0 → 20.0)."),
        ("L2", 0.2, 0.5, "learned the new languages (L2 20.0 → 50.0)."),
        ("L2", 0.2, 0.35, "moved on the new languages, but not above guessing (L2 20.0 → 35.0; guessing 33.0)."),
        ("L3", 0.2, 0.35, "moved on related ones, but not above guessing (L3 20.0 → 35.0; guessing 33.0)."),
        ("L3", 0.35, 0.2, "ended below guessing on related ones (L3 35.0 → 20.0; guessing 33.0)."),
        ("L3", 0.35, 0.31, "lost on related ones (L3 35.0 → 31.0)."),
        ("L2", 0.35, 0.36, "gained nothing measurable on the new languages (L2 35.0 → 36.0)."),
        ("L2", 0.5, 0.2, "got worse at the new languages (L2 50.0 → 20.0)."),
    ],
)
def test_verdicts_take_guessing_into_account(group: str, before: float, after: float, expected: str) -> None:
    assert said(group, before, after) == expected


def test_over_seeds_too(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, f"r-s{seed}", NOTHING, seed=seed, run_seed=seed) for seed in (1, 2)]
    for folder in folders:  # a base that is as bad as they are
        shutil.rmtree(folder / "evaluation" / "base")
        shutil.copytree(folders[0] / "evaluation" / "adapted", folder / "evaluation" / "base")
    sentence = write_report(folders).sentences[0]
    assert sentence.startswith("r, 2 seeds")
    assert "nothing measurable to forget on the known ones" in sentence


def test_nothing_is_bold_that_is_not_above_guessing(tmp_path: Path) -> None:
    worse = dict.fromkeys(NOTHING, 0.0)
    folders = [write_run(tmp_path, "bad", NOTHING, seed=2), write_run(tmp_path, "worse", worse, seed=3)]
    for folder in folders:
        (folder / "evaluation" / "base" / "scores.json").unlink()
    report = write_report(folders)
    by_name = {row[0].text: row for row in report.table.rows}
    assert float(by_name["worse"][1].text) < float(by_name["bad"][1].text) < float(by_name["random"][1].text)
    assert not [cell for row in report.table.rows for cell in row if cell.best]
    better = write_report([write_run(tmp_path, "good", REPLAY), folders[1]], tmp_path / "out")
    assert [row[0].text for row in better.table.rows if row[2].best] == ["good"]
    assert "and with its own interval above guessing" in better.table.caption


def keep(folder: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leaves a run the predictions that are wanted, with their scores."""
    for part in ("base", "adapted"):
        out = folder / "evaluation" / part
        lines = [
            json.loads(line) for path in out.rglob("*.jsonl") for line in path.read_text("utf-8").splitlines()
        ]
        shutil.rmtree(out / "predictions")
        found = [Prediction(**line) for line in lines if wanted(line)]
        write_evaluation(out, {"mood": found}, part, part)


def test_runs_that_were_asked_other_items_are_named_and_have_baselines_of_their_own(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, name, seed=i) for i, name in enumerate(("all", "again", "few"))]
    keep(folders[2], lambda line: line["gold"] == "positive" or int(line["item"]) < 20)
    report = write_report(folders)
    names = [row[0].text for row in report.table.rows]
    assert names[-4:] == ["random of all", "majority of all", "random of few", "majority of few"]
    assert {row.value for row in report.rows if row.run == "majority of few"}.isdisjoint(
        row.value for row in report.rows if row.run == "majority of all"
    )
    expected = "On mood, few had other items than all and again, so that their scores are not to be compared."
    assert expected in report.sentences
    assert expected in report.markdown.read_text("utf-8")
    assert expected in report.html.read_text("utf-8")
    kinds = [line for line in report.html.read_text("utf-8").splitlines() if 'class="quiet"' in line]
    assert kinds


def test_runs_that_were_asked_the_same_share_their_baselines(demo_report: Report) -> None:
    assert not [text for text in demo_report.sentences if "compared" in text]
    assert {row.run for row in demo_report.rows if row.run.startswith("random")} == {"random"}


def test_a_run_in_fewer_languages_was_asked_the_same(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, name, seed=i) for i, name in enumerate(("all", "less"))]
    keep(folders[1], lambda line: line["language"] not in ("mad", "nij"))
    report = write_report(folders)
    assert not [text for text in report.sentences if "compared" in text]
    assert [row[0].text for row in report.table.rows][-2:] == ["random", "majority"]


def test_each_run_is_held_against_its_own_baselines(tmp_path: Path) -> None:
    rows = [
        Score(f"random of {name}", "mood", "", "L2", "f1_weighted", value)
        for name, value in (("a", 0.3), ("b", 0.6))
    ]
    chance = Baselines(rows, {("a", "mood"): "a", ("b", "mood"): "b", ("c", "mood"): "b"})
    scores = [Score(name, "mood", "", "L2", "f1_weighted", 0.5) for name in "abc"]
    assert [chance.are_below(score) for score in scores] == [True, False, False]


def signature(n: int, prompt: str, scoring: str, questions: str) -> dict[str, Any]:
    return {"n": [n], "prompts": [prompt], "scoring": scoring, "questions": questions}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (signature(9, "x", "sum", "1"), []),
        (signature(8, "x", "sum", "2"), ["On mood, b had other items than a"]),
        (signature(8, "y", "sum", "2"), ["On mood, b had other items and prompts than a"]),
        (signature(9, "x", "mean", "1"), ["On mood, b had other rules of scoring than a"]),
        (
            signature(9, "x", "sum", "2"),
            ["On mood, b had other items or wordings of the prompts than a"],
        ),
    ],
)
def test_what_differs_is_said(other: dict[str, Any], expected: list[str]) -> None:
    def run(name: str, sign: dict[str, Any]) -> RunResults:
        score = Score(name, "mood", "jav", "L2", "f1_weighted", 0.5, signature={**sign, "model": name})
        return RunResults(name, {}, None, ModelResults(name, ScoreTable([score])), Path(name), {}, "", ())

    found = asked_differently([run("a", signature(9, "x", "sum", "1")), run("b", other)])
    assert [text.split(", so that")[0] for text in found] == expected
