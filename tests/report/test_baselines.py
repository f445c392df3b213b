"""Runs that are not above the baselines, and runs that were evaluated on different items or prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from made_up_runs import REPLAY, write_evaluation, write_run

from instructalign.evaluation.run_comparison import Baselines
from instructalign.report import Report, write_report
from instructalign.types import Prediction, Score

NOTHING = {"L1": 0.2, "L2": 0.2, "L3": 0.2}  # the skill of a model that knows nothing


def test_over_seeds_too(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, f"r-s{seed}", NOTHING, seed=seed, run_seed=seed) for seed in (1, 2)]
    for folder in folders:  # a base that is as bad as they are
        shutil.rmtree(folder / "evaluation" / "base")
        shutil.copytree(folders[0] / "evaluation" / "adapted", folder / "evaluation" / "base")
    sentence = write_report(folders).sentences[0]
    assert sentence.startswith("r, 2 seeds")
    assert "nothing measurable to forget" in sentence


def test_nothing_is_bold_that_is_not_above_the_baselines(tmp_path: Path) -> None:
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


def test_runs_evaluated_on_other_items_are_named_and_have_their_own_baselines(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, name, seed=i) for i, name in enumerate(("all", "again", "few"))]
    keep(folders[2], lambda line: line["gold"] == "positive" or int(line["item"]) < 20)
    report = write_report(folders)
    names = [row[0].text for row in report.table.rows]
    assert names[-4:] == ["random of all", "majority of all", "random of few", "majority of few"]
    assert {row.value for row in report.rows if row.run == "majority of few"}.isdisjoint(
        row.value for row in report.rows if row.run == "majority of all"
    )
    [expected] = [text for text in report.sentences if "few with other items than all and again" in text]
    assert "mood" in expected
    assert expected in report.markdown.read_text("utf-8")
    assert expected in report.html.read_text("utf-8")
    kinds = [line for line in report.html.read_text("utf-8").splitlines() if 'class="quiet"' in line]
    assert kinds


def test_runs_evaluated_alike_share_their_baselines(demo_report: Report) -> None:
    assert not [text for text in demo_report.sentences if "comparable" in text]
    assert {row.run for row in demo_report.rows if row.run.startswith("random")} == {"random"}


def test_a_run_in_fewer_languages_is_comparable(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, name, seed=i) for i, name in enumerate(("all", "less"))]
    keep(folders[1], lambda line: line["language"] not in ("mad", "nij"))
    report = write_report(folders)
    assert not [text for text in report.sentences if "comparable" in text]
    assert [row[0].text for row in report.table.rows][-2:] == ["random", "majority"]


def test_each_run_is_compared_with_its_own_baselines(tmp_path: Path) -> None:
    rows = [
        Score(f"random of {name}", "mood", "", "L2", "f1_weighted", value)
        for name, value in (("a", 0.3), ("b", 0.6))
    ]
    baselines = Baselines(rows, {("a", "mood"): "a", ("b", "mood"): "b", ("c", "mood"): "b"})
    scores = [Score(name, "mood", "", "L2", "f1_weighted", 0.5) for name in "abc"]
    assert [baselines.are_below(score) for score in scores] == [True, False, False]
